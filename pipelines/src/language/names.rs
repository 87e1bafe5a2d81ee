//! Names and shapes of the tensors of a model as Hugging Face's `transformers` has them.
//!
//! | family | maps | queries, keys, values |
//! |---|---|---|
//! | GPT-2 | `[in, out]` | columns of one tensor |
//! | Llama | `[out, in]` | three tensors |

use std::ops::Range;

use advect_operators::transformer::{Activation, Gpt, Norm, Positions, Style};
use serde_json::{Value, json};

/// A kind of model that has names of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    Gpt2,
    Llama,
}

/// Columns of one of our parameters, seen as a matrix.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    /// Name of the parameter.
    pub(super) ours: String,
    /// Its columns, of how many.
    pub(super) columns: Range<usize>,
    pub(super) of: usize,
}

/// A tensor of theirs: parts of ours side by side.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Theirs {
    pub(super) name: String,
    /// Rows of the parts; `None` for vectors.
    pub(super) rows: Option<usize>,
    pub(super) parts: Vec<Part>,
    /// Whether it is stored as columns.
    pub(super) transposed: bool,
}

impl Theirs {
    pub(super) fn columns(&self) -> usize {
        self.parts.iter().map(|part| part.columns.len()).sum()
    }

    /// Its extents in a file.
    pub(super) fn shape(&self) -> Vec<usize> {
        match (self.rows, self.transposed) {
            (None, _) => vec![self.columns()],
            (Some(rows), false) => vec![rows, self.columns()],
            (Some(rows), true) => vec![self.columns(), rows],
        }
    }
}

impl Family {
    /// The family of a model, if it is of one.
    pub(super) fn of(gpt: &Gpt) -> Option<Self> {
        let Style {
            norm,
            positions,
            biases,
            tied,
            ..
        } = gpt.style;
        match (norm, positions, biases, gpt.activation) {
            (Norm::Layer, Positions::Learned, true, Activation::Gelu)
                if gpt.groups == gpt.heads && gpt.heads * gpt.head == gpt.width && tied =>
            {
                Some(Family::Gpt2)
            }
            (Norm::Rms, Positions::Rotary, false, Activation::Swiglu) => Some(Family::Llama),
            _ => None,
        }
    }

    /// All tensors of a model.
    pub(super) fn tensors(self, gpt: &Gpt) -> Vec<Theirs> {
        let mut all = Vec::new();
        match self {
            Family::Gpt2 => gpt2(gpt, &mut all),
            Family::Llama => llama(gpt, &mut all),
        }
        all
    }

    /// The name of the table of tokens.
    pub(super) fn table(self) -> &'static str {
        match self {
            Family::Gpt2 => "transformer.wte.weight",
            Family::Llama => "model.embed_tokens.weight",
        }
    }

    /// Whether files of the family hold a tensor that is no weight: masks of older versions.
    pub(super) fn ignores(self, name: &str) -> bool {
        let masks = [".attn.bias", ".attn.masked_bias", ".rotary_emb.inv_freq"];
        masks.iter().any(|mask| name.ends_with(mask))
    }

    /// The `config.json` of a model.
    pub(super) fn config(self, gpt: &Gpt) -> Value {
        match self {
            Family::Gpt2 => json!({
                "architectures": ["GPT2LMHeadModel"],
                "model_type": "gpt2",
                "activation_function": "gelu_new",
                "vocab_size": gpt.vocabulary,
                "n_positions": gpt.context,
                "n_embd": gpt.width,
                "n_layer": gpt.layers,
                "n_head": gpt.heads,
                "n_inner": gpt.hidden,
                "layer_norm_epsilon": gpt.style.epsilon,
                "tie_word_embeddings": true,
                "bos_token_id": null,
                "eos_token_id": null,
            }),
            Family::Llama => json!({
                "architectures": ["LlamaForCausalLM"],
                "model_type": "llama",
                "hidden_act": "silu",
                "vocab_size": gpt.vocabulary,
                "max_position_embeddings": gpt.context,
                "hidden_size": gpt.width,
                "num_hidden_layers": gpt.layers,
                "num_attention_heads": gpt.heads,
                "num_key_value_heads": gpt.groups,
                "head_dim": gpt.head,
                "intermediate_size": gpt.hidden,
                "rms_norm_eps": gpt.style.epsilon,
                "rope_theta": gpt.style.rotary_base,
                "tie_word_embeddings": gpt.style.tied,
                "attention_bias": false,
                "mlp_bias": false,
                "bos_token_id": null,
                "eos_token_id": null,
            }),
        }
    }
}

/// A whole parameter.
fn whole(ours: String, of: usize) -> Part {
    Part {
        ours,
        columns: 0..of,
        of,
    }
}

fn gpt2(gpt: &Gpt, all: &mut Vec<Theirs>) {
    let (h, f, q) = (gpt.width, gpt.hidden, gpt.heads * gpt.head);
    let mut give = |name: String, rows, parts| {
        all.push(Theirs {
            name,
            rows,
            parts,
            transposed: false,
        });
    };
    give(
        Family::Gpt2.table().to_owned(),
        Some(gpt.vocabulary),
        vec![whole("tokens.weight".to_owned(), h)],
    );
    give(
        "transformer.wpe.weight".to_owned(),
        Some(gpt.context),
        vec![whole("positions.weight".to_owned(), h)],
    );
    let norms =
        |give: &mut dyn FnMut(String, Option<usize>, Vec<Part>), theirs: &str, ours: &str| {
            for (end, our) in [("weight", "gain"), ("bias", "shift")] {
                give(
                    format!("{theirs}.{end}"),
                    None,
                    vec![whole(format!("{ours}.{our}"), h)],
                );
            }
        };
    for i in 0..gpt.layers {
        let (theirs, ours) = (format!("transformer.h.{i}"), format!("block {i}"));
        norms(
            &mut give,
            &format!("{theirs}.ln_1"),
            &format!("{ours}.attention.norm"),
        );
        norms(
            &mut give,
            &format!("{theirs}.ln_2"),
            &format!("{ours}.feed-forward.norm"),
        );
        for (end, rows) in [("weight", [h, q, h, f].map(Some)), ("bias", [None; 4])] {
            let map = |name: &str, columns| whole(format!("{ours}.{name}.{end}"), columns);
            let heads = vec![map("attention.query", q), map("attention.key-value", 2 * q)];
            give(format!("{theirs}.attn.c_attn.{end}"), rows[0], heads);
            for (name, rows, part) in [
                ("attn.c_proj", rows[1], map("attention.output", h)),
                ("mlp.c_fc", rows[2], map("feed-forward.up", f)),
                ("mlp.c_proj", rows[3], map("feed-forward.down", h)),
            ] {
                give(format!("{theirs}.{name}.{end}"), rows, vec![part]);
            }
        }
    }
    norms(&mut give, "transformer.ln_f", "norm");
}

fn llama(gpt: &Gpt, all: &mut Vec<Theirs>) {
    let (h, f) = (gpt.width, gpt.hidden);
    let [q, kv] = [gpt.heads * gpt.head, gpt.groups * gpt.head];
    let mut give = |name: String, rows, part, transposed| {
        all.push(Theirs {
            name,
            rows,
            parts: vec![part],
            transposed,
        });
    };
    let table = whole("tokens.weight".to_owned(), h);
    give(
        Family::Llama.table().to_owned(),
        Some(gpt.vocabulary),
        table,
        false,
    );
    for i in 0..gpt.layers {
        let (theirs, ours) = (format!("model.layers.{i}"), format!("block {i}"));
        for (name, our) in [
            ("input_layernorm", "attention.norm"),
            ("post_attention_layernorm", "feed-forward.norm"),
        ] {
            let gain = whole(format!("{ours}.{our}.gain"), h);
            give(format!("{theirs}.{name}.weight"), None, gain, false);
        }
        let keys = |columns| Part {
            ours: format!("{ours}.attention.key-value.weight"),
            columns,
            of: 2 * kv,
        };
        let map = |name: &str, columns| whole(format!("{ours}.{name}.weight"), columns);
        for (name, rows, part) in [
            ("self_attn.q_proj", h, map("attention.query", q)),
            ("self_attn.k_proj", h, keys(0..kv)),
            ("self_attn.v_proj", h, keys(kv..2 * kv)),
            ("self_attn.o_proj", q, map("attention.output", h)),
            ("mlp.gate_proj", h, map("feed-forward.gate", f)),
            ("mlp.up_proj", h, map("feed-forward.up", f)),
            ("mlp.down_proj", f, map("feed-forward.down", h)),
        ] {
            give(format!("{theirs}.{name}.weight"), Some(rows), part, true);
        }
    }
    let gain = whole("norm.gain".to_owned(), h);
    give("model.norm.weight".to_owned(), None, gain, false);
    if !gpt.style.tied {
        let head = whole("logits.weight".to_owned(), h);
        give(
            "lm_head.weight".to_owned(),
            Some(gpt.vocabulary),
            head,
            false,
        );
    }
}

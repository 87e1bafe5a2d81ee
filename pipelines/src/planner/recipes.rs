//! Published models and configurations.
//!
//! Dash et al. (2024), *Optimizing distributed training on Frontier for large language models*,
//! with the extents of the scripts of its authors. Which script gave which published number is
//! nowhere stated: the pairing is the usual one.

use super::model::Gpt;
use super::run::{Axes, Keys, Policy, Precision, Recompute, Run, Schedule, TENSOR_FIRST};

/// 22B.
pub fn gpt_22b() -> Gpt {
    Gpt::plain(48, 6144, 48, 2048, 50688)
}

/// 175B.
pub fn gpt_175b() -> Gpt {
    Gpt::plain(96, 12288, 96, 2048, 50688)
}

/// 1T. The vocabulary is filled up to a multiple of 128 t = 1024.
pub fn gpt_1t() -> Gpt {
    Gpt::plain(128, 25600, 128, 2048, 51200)
}

/// A GPT with the arithmetic of Llama 3.1 405B: its three feed-forward maps of 53248 columns are
/// two of half as many again.
pub fn gpt_405b() -> Gpt {
    Gpt {
        hidden: 53248 / 2 * 3,
        groups: 8,
        tied: false,
        ..Gpt::plain(126, 16384, 128, 8192, 128_256)
    }
}

/// A configuration as all scripts have it: 1F1B, one sequence a micro-batch, every layer
/// recomputed, flash attention.
pub fn scripted(tensor: usize, pipeline: usize, data: usize, zero: u8, batch: usize) -> Run {
    Run {
        axes: Axes {
            tensor,
            pipeline,
            data,
            context: 1,
        },
        order: TENSOR_FIRST,
        sequence: false,
        keys: Keys::GATHER,
        schedule: Schedule::OneFOneB,
        split: None,
        zero,
        micro: 1,
        batch,
        precision: Precision::Fp16,
        recompute: Recompute::Full,
        flash: true,
        policy: Policy::Deepspeed,
    }
}

/// 22B on 16 GCDs.
pub fn recipe_22b() -> Run {
    scripted(1, 8, 2, 0, 640)
}

/// 175B on 128 GCDs, also the configuration of the public log.
pub fn recipe_175b() -> Run {
    scripted(4, 16, 2, 1, 640)
}

/// 405B on 512 H100, 32 sequences a replica.
pub fn recipe_405b() -> Run {
    Run {
        precision: Precision::Bf16,
        ..scripted(8, 8, 8, 1, 256)
    }
}

/// 1T, one replica on 512 GCDs. The batch is recollected, not read.
pub fn recipe_1t() -> Run {
    scripted(8, 64, 1, 1, 1600)
}

/// A published model, and the configuration that was published with it.
#[derive(Debug, Clone, Copy)]
pub struct Published {
    /// Its name.
    pub name: &'static str,
    /// The model.
    pub gpt: fn() -> Gpt,
    /// The configuration.
    pub recipe: fn() -> Run,
}

/// All published models.
pub const PUBLISHED: [Published; 4] = [
    Published {
        name: "22b",
        gpt: gpt_22b,
        recipe: recipe_22b,
    },
    Published {
        name: "175b",
        gpt: gpt_175b,
        recipe: recipe_175b,
    },
    Published {
        name: "1t",
        gpt: gpt_1t,
        recipe: recipe_1t,
    },
    Published {
        name: "405b",
        gpt: gpt_405b,
        recipe: recipe_405b,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Models have the sizes that they are named for.
    #[test]
    fn models_have_their_names() {
        let billions = |gpt: Gpt| (gpt.total() as f64 / 1e8).round() / 10.0;
        assert_eq!(billions(gpt_22b()), 22.1);
        assert_eq!(billions(gpt_175b()), 174.6);
        assert_eq!(billions(gpt_1t()), 1008.0);
        assert_eq!(billions(gpt_405b()), 406.0);
    }
}

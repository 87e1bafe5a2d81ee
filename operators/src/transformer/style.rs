//! What transformers differ in besides their extents.

use serde::{Deserialize, Serialize};

use crate::network::Dropout;

/// How a residual stream is normalized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// By mean and deviation, with gain and shift: [`LayerNorm`](crate::network::LayerNorm).
    Layer,
    /// By the root mean square, with a gain: [`RmsNorm`](crate::network::RmsNorm).
    Rms,
}

/// How positions are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Positions {
    /// A vector for each, learned, and added to that of the token.
    Learned,
    /// Queries and keys are turned: [`Rotary`](crate::attention::Rotary).
    Rotary,
}

/// What transformers differ in besides their extents.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Style {
    /// How the residual stream is normalized.
    pub norm: Norm,
    /// ε of the norms.
    pub epsilon: f64,
    /// How positions are told apart.
    pub positions: Positions,
    /// β of rotary positions.
    pub rotary_base: f64,
    /// Whether linear maps have a shift.
    pub biases: bool,
    /// Whether the table of tokens is also the head.
    pub tied: bool,
    /// What is left out of embeddings and of branches, before they are added, while it learns.
    pub dropout: Dropout,
    /// Whether samples say which positions each of theirs sees: documents that share a window, and
    /// positions that are filled up. No tensor of positions × positions is made of it.
    #[serde(default)]
    pub bounded: bool,
    /// Whether attention keeps no scores (Dao et al. 2022, *FlashAttention*); without, it is
    /// [`Composed`](crate::attention::Composed), to compare with.
    #[serde(default = "yes")]
    pub flash: bool,
}

fn yes() -> bool {
    true
}

impl Style {
    /// Radford et al. (2019), *Language models are unsupervised multitask learners*.
    pub const GPT2: Style = Style {
        norm: Norm::Layer,
        epsilon: 1e-5,
        positions: Positions::Learned,
        rotary_base: 10_000.0,
        biases: true,
        tied: true,
        dropout: Dropout::NONE,
        bounded: false,
        flash: true,
    };

    /// Touvron et al. (2023), *LLaMA: open and efficient foundation language models*.
    pub const LLAMA: Style = Style {
        norm: Norm::Rms,
        epsilon: 1e-5,
        positions: Positions::Rotary,
        rotary_base: 10_000.0,
        biases: false,
        tied: false,
        dropout: Dropout::NONE,
        bounded: false,
        flash: true,
    };

    /// The same when it has learned: nothing is left out.
    #[must_use]
    pub const fn evaluated(self) -> Style {
        Style {
            dropout: Dropout::NONE,
            ..self
        }
    }
}

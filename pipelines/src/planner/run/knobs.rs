//! What a configuration chooses between.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An axis of the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Axis {
    /// Heads, columns and vocabulary are cut.
    Tensor,
    /// Positions are cut; keys and values are gathered.
    Context,
    /// The batch is cut.
    Data,
    /// Layers are cut.
    Pipeline,
}

/// Extents of the axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Axes {
    /// t.
    pub tensor: usize,
    /// p.
    pub pipeline: usize,
    /// d.
    pub data: usize,
    /// c.
    pub context: usize,
}

impl Axes {
    /// The extent of an axis.
    pub fn extent(&self, axis: Axis) -> usize {
        match axis {
            Axis::Tensor => self.tensor,
            Axis::Context => self.context,
            Axis::Data => self.data,
            Axis::Pipeline => self.pipeline,
        }
    }

    /// Their product.
    pub fn workers(&self) -> usize {
        self.tensor * self.pipeline * self.data * self.context
    }
}

/// Tensor fastest, then context, data, pipeline: the placement of Megatron and DeepSpeed.
pub const TENSOR_FIRST: [Axis; 4] = [Axis::Tensor, Axis::Context, Axis::Data, Axis::Pipeline];

/// The order of work in a pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Schedule {
    /// All forwards, then all backwards: Huang et al. (2019).
    Gpipe,
    /// One forward, one backward: Narayanan et al. (2019).
    OneFOneB,
    /// The same on v pieces a rank: Narayanan et al. (2021).
    Interleaved(usize),
    /// Backward cut in two, memory of 1F1B: Qi et al. (2023), *Zero bubble*.
    ZbH1,
    /// Backward cut in two, twice the memory, steps chained without a flush: the same.
    Zb2p,
}

impl Schedule {
    /// v, pieces of the model on a rank.
    pub fn chunks(self) -> usize {
        match self {
            Schedule::Interleaved(v) => v,
            _ => 1,
        }
    }

    /// Whether the gradients of weights are actions of their own.
    pub fn splits_backward(self) -> bool {
        matches!(self, Schedule::ZbH1 | Schedule::Zb2p)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Schedule::Gpipe => f.pad("gpipe"),
            Schedule::OneFOneB => f.pad("1f1b"),
            Schedule::Interleaved(v) => f.pad(&format!("interleaved-{v}")),
            Schedule::ZbH1 => f.pad("zb-h1"),
            Schedule::Zb2p => f.pad("zb-2p"),
        }
    }
}

impl FromStr for Schedule {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        let plain = [
            Schedule::Gpipe,
            Schedule::OneFOneB,
            Schedule::ZbH1,
            Schedule::Zb2p,
        ];
        if let Some(schedule) = plain.into_iter().find(|s| s.to_string() == name) {
            return Ok(schedule);
        }
        match name.strip_prefix("interleaved-").map(usize::from_str) {
            Some(Ok(v)) if v > 1 => Ok(Schedule::Interleaved(v)),
            _ => Err(format!(
                "no schedule `{name}`; there are gpipe, 1f1b, interleaved-2 (or more), zb-h1, zb-2p"
            )),
        }
    }
}

impl TryFrom<String> for Schedule {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<Schedule> for String {
    fn from(schedule: Schedule) -> Self {
        schedule.to_string()
    }
}

/// Numbers of activations, and of parameters if they are not halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// IEEE half.
    Fp16,
    /// bfloat16.
    Bf16,
    /// Single.
    F32,
    /// Double.
    F64,
    /// Double, with sums that have no order.
    Canonical,
}

impl Precision {
    /// Bytes of a number.
    pub fn bytes(self) -> u64 {
        match self {
            Precision::Fp16 | Precision::Bf16 => 2,
            Precision::F32 => 4,
            Precision::F64 | Precision::Canonical => 8,
        }
    }

    /// Bytes of a number that is learned in mixed precision: single beside halves.
    pub fn learned(self) -> u64 {
        self.bytes().max(4)
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Precision::Fp16 => "fp16",
            Precision::Bf16 => "bf16",
            Precision::F32 => "f32",
            Precision::F64 => "f64",
            Precision::Canonical => "canonical",
        })
    }
}

/// What is computed a second time in the backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recompute {
    /// Nothing.
    None,
    /// Every layer, from its input.
    Full,
}

/// How numbers are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// DeepSpeed: half-precision gradients, single-precision copy and moments; dropout masks; tied
    /// modules copied whole. Agrees with the public log of 175B on Frontier.
    Deepspeed,
    /// Parameters, gradients and both moments of AdamW in the precision of the run, in single precision
    /// beside halves; no dropout.
    Advect,
    /// Megatron-LM of 2023: gradients in single precision, optimizer on the device, a mask of queries × keys.
    MegatronLm,
    /// Megatron-DeepSpeed before its long sequences: the optimizer on the host, the whole table of positions and a
    /// mask on every device.
    MegatronDeepspeed,
    /// Megatron-DeepSpeed with long sequences (Song et al. 2023, *DeepSpeed4Science*): bfloat16 with gradients also
    /// in single precision, the optimizer on the host, positions cut over tensor ranks, no mask.
    MegatronDeepspeedLong,
}

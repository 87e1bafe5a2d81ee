//! A configuration: how a model is trained on how many workers.
//!
//! Everything that follows from something else is a method: $m = B / (d b)$ is nowhere stored, so
//! no two places can disagree on the size of a step.

mod keys;
mod knobs;

use std::fmt;

use advect_engine::Deal;
use serde::{Deserialize, Serialize};

use super::model::{Gpt, Part};
use super::rejection::Rejection;

pub use keys::Keys;
pub use knobs::{Axes, Axis, Policy, Precision, Recompute, Schedule, TENSOR_FIRST};

/// A configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Run {
    /// The mesh.
    pub axes: Axes,
    /// Its axes, neighbours on the machine first.
    #[serde(default = "tensor_first")]
    pub order: [Axis; 4],
    /// Whether tensor ranks cut positions where they do not cut columns: Korthikanti et al. (2022).
    #[serde(default)]
    pub sequence: bool,
    /// How keys and values come to the queries of context ranks.
    #[serde(default = "gathered")]
    pub keys: Keys,
    /// The order of work.
    pub schedule: Schedule,
    /// Layers of the p v virtual stages; even if not given.
    #[serde(default)]
    pub split: Option<Vec<usize>>,
    /// Stage of ZeRO, 0 to 3: Rajbhandari et al. (2020).
    pub zero: u8,
    /// b, sequences of a micro-batch on one replica.
    pub micro: usize,
    /// B, sequences of a step.
    pub batch: usize,
    /// Numbers.
    pub precision: Precision,
    /// What is computed twice.
    pub recompute: Recompute,
    /// Whether attention keeps no matrix of scores: Dao et al. (2022).
    pub flash: bool,
    /// How numbers are stored.
    pub policy: Policy,
}

fn tensor_first() -> [Axis; 4] {
    TENSOR_FIRST
}

fn gathered() -> Keys {
    Keys::GATHER
}

impl Run {
    /// m, micro-batches of a step on one replica.
    ///
    /// # Errors
    /// If B is no multiple of d b.
    pub fn accumulation(&self) -> Result<usize, Rejection> {
        let moment = self.axes.data * self.micro;
        if moment == 0 || self.batch == 0 || !self.batch.is_multiple_of(moment) {
            return Err(Rejection::Accumulation {
                batch: self.batch,
                moment,
            });
        }
        Ok(self.batch / moment)
    }

    /// p v, virtual stages.
    pub fn stages(&self) -> usize {
        self.axes.pipeline * self.schedule.chunks()
    }

    /// Workers that hold the same parameters and share the gradient: d c.
    pub fn replicas(&self) -> usize {
        self.axes.data * self.axes.context
    }

    /// Workers that a replica's state is cut over: d, or d c where DeepSpeed cuts it.
    pub fn sharers(&self) -> usize {
        match self.policy {
            Policy::Advect => self.axes.data,
            _ => self.replicas(),
        }
    }

    /// Whether each context rank stores the positions that it works on: where these are contiguous.
    pub fn cuts_positions(&self) -> bool {
        self.policy == Policy::Advect && self.keys.deal() == Deal::Blocks
    }

    /// Pieces that the table of positions is stored in, those of replicas aside.
    pub fn pieces_of_positions(&self) -> usize {
        let tensor = match self.policy {
            Policy::Advect | Policy::MegatronDeepspeedLong if self.sequence => self.axes.tensor,
            _ => 1,
        };
        tensor
            * if self.cuts_positions() {
                self.axes.context
            } else {
                1
            }
    }

    /// Bytes of a number of parameters and gradients that travels: DeepSpeed sends halves, this program what is
    /// learned.
    pub fn learned(&self) -> u64 {
        match self.policy {
            Policy::Advect => self.precision.learned(),
            _ => self.precision.bytes(),
        }
    }

    /// The stage of ZeRO that there is something to cut for: 0 with one replica.
    pub fn sharding(&self) -> u8 {
        if self.sharers() > 1 { self.zero } else { 0 }
    }

    /// Groups of heads on a tensor rank, and on the fullest of its context ranks if these exchange positions for
    /// heads.
    pub fn groups_of_ranks(&self, gpt: &Gpt) -> [usize; 2] {
        let groups = gpt.groups.div_ceil(self.axes.tensor);
        [groups, groups.div_ceil(self.axes.context)]
    }

    /// Positions of a micro-batch on one worker: b s / c.
    pub fn tokens(&self, gpt: &Gpt) -> usize {
        self.micro * gpt.sequence / self.axes.context
    }

    /// Layers of virtual stage `k`.
    pub fn layers(&self, gpt: &Gpt, k: usize) -> usize {
        match &self.split {
            Some(split) => split.get(k).copied().unwrap_or(0),
            None => {
                let stages = self.stages();
                gpt.layers / stages + usize::from(k < gpt.layers % stages)
            }
        }
    }

    /// What virtual stage `k` holds.
    pub fn part(&self, gpt: &Gpt, k: usize) -> Part {
        Part {
            layers: self.layers(gpt, k),
            first: k == 0,
            last: k + 1 == self.stages(),
        }
    }

    /// What pipeline rank `i` holds over all its virtual stages.
    pub fn rank(&self, gpt: &Gpt, i: usize) -> Part {
        let stages = self.stages();
        let own = (i..stages).step_by(self.axes.pipeline);
        Part {
            layers: own.map(|k| self.layers(gpt, k)).sum(),
            first: i == 0,
            last: i + 1 == self.axes.pipeline,
        }
    }

    /// Whether the configuration is one, apart from memory and machine.
    ///
    /// # Errors
    /// If an extent is 0, the batch or the positions cannot be cut, or the layers do not fit the
    /// stages.
    pub fn check(&self, gpt: &Gpt) -> Result<(), Rejection> {
        gpt.check()?;
        if self.axes.workers() == 0 || self.schedule.chunks() == 0 {
            return Err(Rejection::Extent(
                "an axis of the mesh or the number of chunks is 0",
            ));
        }
        if self.zero > 3 {
            return Err(Rejection::Extent("ZeRO has the stages 0 to 3"));
        }
        if self.zero > 0 && !matches!(self.policy, Policy::Advect | Policy::Deepspeed) {
            return Err(Rejection::Extent(
                "Megatron as it is planned has no stages of ZeRO",
            ));
        }
        if !self.flash && self.axes.context > 1 && self.keys.come.in_pieces() {
            return Err(Rejection::Extent(
                "attention that keeps its scores takes no keys in pieces",
            ));
        }
        let mut order = self.order;
        order.sort_unstable();
        if order != TENSOR_FIRST {
            return Err(Rejection::Extent("the order must name every axis once"));
        }
        let few = self.axes.pipeline == 1 || self.schedule.chunks() == 1;
        if matches!(self.schedule, Schedule::Interleaved(_)) && few {
            return Err(Rejection::Extent(
                "interleaving needs 2 stages and 2 pieces a rank, or more",
            ));
        }
        self.accumulation()?;
        let parts = self.axes.context * if self.sequence { self.axes.tensor } else { 1 };
        if !gpt.sequence.is_multiple_of(parts) {
            return Err(Rejection::Positions {
                sequence: gpt.sequence,
                parts,
            });
        }
        let stages = self.stages();
        if stages > gpt.layers {
            return Err(Rejection::Layers {
                layers: gpt.layers,
                stages,
            });
        }
        if let Some(split) = &self.split {
            let layers = split.iter().sum();
            if split.len() != stages || layers != gpt.layers || split.contains(&0) {
                return Err(Rejection::Split {
                    stages: split.len(),
                    layers,
                    want_stages: stages,
                    want_layers: gpt.layers,
                });
            }
        }
        Ok(())
    }
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Axes {
            tensor,
            pipeline,
            data,
            context,
        } = self.axes;
        let mut text = format!("t{tensor} p{pipeline} d{data}");
        if context > 1 {
            text += &format!(" c{context}");
            if self.keys != Keys::GATHER {
                text += &format!(" {}", self.keys);
            }
        }
        text += &format!(" zero-{} b{} {}", self.zero, self.micro, self.schedule);
        if self.recompute == Recompute::None {
            text += " keep";
        }
        if self.sequence {
            text += " sp";
        }
        if !self.flash {
            text += " scores";
        }
        if self.split.is_some() {
            text += " split";
        }
        if self.order != TENSOR_FIRST {
            let names = self.order.map(|axis| match axis {
                Axis::Tensor => "t",
                Axis::Context => "c",
                Axis::Data => "d",
                Axis::Pipeline => "p",
            });
            text += &format!(" order-{}", names.concat());
        }
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::recipes::{gpt_175b, recipe_175b};

    /// A configuration survives TOML, and a key that is none is refused.
    #[test]
    fn configurations_are_toml() {
        let run = Run {
            schedule: Schedule::Interleaved(3),
            split: Some(vec![2; 48]),
            keys: Keys::RING_KEPT,
            ..recipe_175b()
        };
        let text = toml::to_string(&run).unwrap();
        for name in ["interleaved-3", "ring-kept"] {
            assert!(text.contains(name), "{text}");
        }
        assert_eq!(toml::from_str::<Run>(&text).unwrap(), run);
        let said = toml::from_str::<Run>(&text.replace("micro =", "mikro =")).unwrap_err();
        assert!(said.to_string().contains("mikro"), "{said}");
        assert!("interleaved-1".parse::<Schedule>().is_err());
        for keys in Keys::ALL {
            assert_eq!(keys.to_string().parse(), Ok(keys));
        }
        assert!("circle".parse::<Keys>().is_err());
    }

    /// m follows from B, d and b, and exists only if they divide.
    #[test]
    fn micro_batches_are_derived() {
        let run = recipe_175b();
        assert_eq!(run.accumulation(), Ok(320));
        let odd = Run { micro: 3, ..run };
        let why = odd.check(&gpt_175b()).unwrap_err().to_string();
        assert_eq!(
            why,
            "640 sequences are no whole number of micro-batches of 6"
        );
    }

    /// However layers are split, every layer is on one stage, and a split that is not the model's
    /// is refused.
    #[test]
    fn every_layer_is_on_one_stage() {
        let gpt = gpt_175b();
        for (p, v) in [(5, 2), (7, 3), (16, 2), (32, 3), (48, 2)] {
            let mut run = recipe_175b();
            run.axes.pipeline = p;
            run.schedule = Schedule::Interleaved(v);
            let sum: usize = (0..p).map(|i| run.rank(&gpt, i).layers).sum();
            assert_eq!(sum, 96);
        }
        let short = Run {
            split: Some(vec![6; 15]),
            ..recipe_175b()
        };
        assert!(matches!(
            short.check(&gpt),
            Err(Rejection::Split { stages: 15, .. })
        ));
    }
}

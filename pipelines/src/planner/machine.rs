//! Machines: what a device computes, holds and sends.
//!
//! A machine is a tree of levels: devices of a module, modules of a node, nodes of a system. A
//! message takes $\alpha + M / (\eta \beta)$ on the level that it crosses: Hockney (1994). Time
//! that no term explains is `jitter`, and stands apart from the kernel efficiency $\kappa$.

use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::error::{PlannerError, Result};
use super::run::Precision;
use crate::config::{self, Lines};

/// Descriptions that are built in, by name.
const BUILT_IN: [(&str, &str); 5] = [
    ("frontier", include_str!("machines/frontier.toml")),
    ("summit", include_str!("machines/summit.toml")),
    ("dgx-a100", include_str!("machines/dgx-a100.toml")),
    ("dgx-h100", include_str!("machines/dgx-h100.toml")),
    ("dgx-h200", include_str!("machines/dgx-h200.toml")),
];

/// The name of the machine that is measured and not described.
pub const THIS: &str = "this";

/// No number of a description is larger.
const MOST: f64 = 1e30;

/// Arithmetic at peak, FLOP/s; 0 where a device has none.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Peak {
    /// IEEE half precision.
    #[serde(default)]
    pub fp16: f64,
    /// bfloat16.
    #[serde(default)]
    pub bf16: f64,
    /// Single precision.
    #[serde(default)]
    pub f32: f64,
    /// Double precision.
    #[serde(default)]
    pub f64: f64,
}

/// Memory of a device.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Hbm {
    /// Size, bytes.
    pub bytes: f64,
    /// Bandwidth, B/s.
    pub bandwidth: f64,
    /// Part of the size that the allocator needs for itself, 0 to 1.
    pub reserve: f64,
}

/// A level of the network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Level {
    /// Its name: "node".
    pub name: String,
    /// Devices of one group.
    pub size: usize,
    /// α, seconds a message.
    pub latency: f64,
    /// β of one link or network card, B/s, each direction.
    pub bandwidth: f64,
    /// Devices behind one link or card.
    #[serde(default = "one")]
    pub shared_by: usize,
    /// Links or cards that one ring uses at once.
    #[serde(default = "one")]
    pub rails: usize,
}

fn one() -> usize {
    1
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Machine {
    /// Its name.
    pub name: String,
    /// κ, part of the peak that a layer alone reaches, 0 to 1.
    pub kernel_efficiency: f64,
    /// η, part of the bandwidths that collectives reach, 0 to 1.
    pub link_efficiency: f64,
    /// Share of time added to a step that no other term explains.
    pub jitter: f64,
    /// Seconds that an operator takes beside its arithmetic, at every micro-batch; 0 where κ has it.
    #[serde(default)]
    pub dispatch: f64,
    /// Arithmetic.
    pub peak: Peak,
    /// Memory.
    pub memory: Hbm,
    /// The network, smallest group first; at least one level.
    #[serde(rename = "level")]
    pub levels: Vec<Level>,
}

impl Machine {
    /// The names of the machines that are built in.
    pub fn names() -> impl Iterator<Item = &'static str> {
        BUILT_IN.iter().map(|(name, _)| *name)
    }

    /// A machine that is built in.
    ///
    /// ```
    /// use advect_pipelines::planner::machine::Machine;
    /// let frontier = Machine::built_in("frontier")?;
    /// assert_eq!(frontier.level("node").map(|l| l.size), Some(8));
    /// # Ok::<(), advect_pipelines::planner::error::PlannerError>(())
    /// ```
    ///
    /// # Errors
    /// If there is none of this name.
    pub fn built_in(name: &str) -> Result<Self> {
        match BUILT_IN.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => Self::parse(name, text),
            None => {
                let known: Vec<&str> = Self::names().chain([THIS]).collect();
                let nearest = config::nearest(name, known.iter().copied(), "");
                Err(PlannerError::UnknownMachine {
                    name: name.to_owned(),
                    nearest: match nearest.starts_with("did you mean") {
                        true => nearest + " ",
                        false => String::new(),
                    },
                    known: known.join(", "),
                })
            }
        }
    }

    /// A built-in machine, or the one that a TOML file describes if `name` is a path.
    ///
    /// # Errors
    /// If there is neither, or the file is wrong.
    pub fn load(name: &str) -> Result<Self> {
        let path = Path::new(name);
        if Self::names().any(|known| known == name) || path.extension().is_none() {
            return Self::built_in(name);
        }
        let mut text = String::new();
        // a description is a page: what is cut off here is none, and says so when it is parsed
        let read = std::fs::File::open(path)
            .and_then(|file| file.take(config::LIMIT).read_to_string(&mut text));
        read.map_err(|source| PlannerError::File {
            path: path.to_path_buf(),
            source,
        })?;
        Self::parse(name, &text)
    }

    /// The machine that `text` describes; `place` is named in errors.
    ///
    /// # Errors
    /// If a key is unknown or missing, or a number out of its range.
    pub fn parse(place: &str, text: &str) -> Result<Self> {
        let machine: Self = toml::from_str(text).map_err(|e| {
            let at = e.span().map(|span| Lines::new(text).place(span.start));
            PlannerError::Toml {
                place: at.map_or(place.to_owned(), |(line, column)| {
                    format!("{place}:{line}:{column}")
                }),
                why: e.message().lines().collect::<Vec<_>>().join(", "),
            }
        })?;
        machine.check(place)?;
        Ok(machine)
    }

    fn check(&self, place: &str) -> Result<()> {
        let refuse = |what, got: String, mend| {
            Err(PlannerError::Value {
                place: place.to_owned(),
                what,
                got,
                mend,
            })
        };
        for (what, part) in [
            ("kernel-efficiency", self.kernel_efficiency),
            ("link-efficiency", self.link_efficiency),
        ] {
            if !(part > 0.0 && part <= 1.0) {
                return refuse(what, part.to_string(), "give a part of the peak, 0 to 1");
            }
        }
        if !(self.jitter >= 0.0 && self.jitter.is_finite()) {
            let mend = "give a share of a step, 0 for none";
            return refuse("jitter", self.jitter.to_string(), mend);
        }
        if !(0.0..=1.0).contains(&self.dispatch) {
            let mend = "give seconds of an operator, 0 for none and 1 at most";
            return refuse("dispatch", self.dispatch.to_string(), mend);
        }
        for (what, peak) in [
            ("peak.fp16", self.peak.fp16),
            ("peak.bf16", self.peak.bf16),
            ("peak.f32", self.peak.f32),
            ("peak.f64", self.peak.f64),
        ] {
            if !(0.0..=MOST).contains(&peak) {
                let mend = "give FLOP/s, 0 where there are no such units";
                return refuse(what, peak.to_string(), mend);
            }
        }
        let within = |x: f64| x > 0.0 && x <= MOST;
        if !(within(self.memory.bytes) && within(self.memory.bandwidth)) {
            let got = format!("{} B, {} B/s", self.memory.bytes, self.memory.bandwidth);
            return refuse("memory", got, "give a size and a bandwidth above 0");
        }
        if !(0.0..1.0).contains(&self.memory.reserve) {
            let mend = "give a part of the memory, 0 to 1";
            return refuse("memory.reserve", self.memory.reserve.to_string(), mend);
        }
        if self.levels.is_empty() {
            return refuse("level", "missing".to_owned(), "give at least one [[level]]");
        }
        let mut below = 1;
        for level in &self.levels {
            let grows = level.size > below || below == 1 && level.size == 1;
            if !grows || !level.size.is_multiple_of(below) {
                let got = format!("{} devices, after {below}", level.size);
                let mend = "order the levels by size, each a multiple of the one before";
                return refuse("level.size", got, mend);
            }
            if !(within(level.bandwidth) && (0.0..MOST).contains(&level.latency))
                || level.shared_by == 0
                || level.rails == 0
            {
                let got = format!(
                    "{}: {} B/s, {} s",
                    level.name, level.bandwidth, level.latency
                );
                let mend = "give a bandwidth above 0, a latency, and at least one device and rail";
                return refuse("level", got, mend);
            }
            below = level.size;
        }
        Ok(())
    }

    /// Devices of the whole machine.
    pub fn devices(&self) -> usize {
        self.levels.last().map_or(0, |level| level.size)
    }

    /// The level of this name.
    pub fn level(&self, name: &str) -> Option<&Level> {
        self.levels.iter().find(|level| level.name == name)
    }

    /// Devices of a node: the largest level below the last.
    pub fn node(&self) -> usize {
        let inner = self.levels.len().saturating_sub(2);
        self.levels.get(inner).map_or(1, |level| level.size)
    }

    /// FLOP/s at peak in `precision`; 0 if the device has no such units.
    pub fn peak(&self, precision: Precision) -> f64 {
        match precision {
            Precision::Fp16 => self.peak.fp16,
            Precision::Bf16 => self.peak.bf16,
            Precision::F32 => self.peak.f32,
            Precision::F64 => self.peak.f64,
            // a fused product, two additions and a comparison take the place of one fused product
            Precision::Canonical => self.peak.f64 / 4.0,
        }
    }

    /// Bytes of a device that a run may fill.
    pub fn usable(&self) -> f64 {
        self.memory.bytes * (1.0 - self.memory.reserve)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every built-in description is complete, and says where each of its numbers comes from.
    #[test]
    fn built_in_machines_parse_and_every_number_has_a_source() {
        for (name, text) in BUILT_IN {
            let machine = Machine::built_in(name).unwrap();
            assert_eq!(machine.name, name);
            let mut above = "";
            for line in text.lines() {
                let value = line.split_once('=').map(|(_, v)| v.trim_start());
                let number = value.is_some_and(|v| v.starts_with(|c: char| c.is_ascii_digit()));
                let obvious = line.starts_with("size =");
                let sourced = line.contains('#') || above.starts_with('#') || obvious;
                assert!(!number || sourced, "{name}: {line}");
                above = line;
            }
        }
    }

    /// A wrong key, a number out of range and an unknown name are told with the place and the mend.
    #[test]
    fn errors_name_the_place_and_the_mend() {
        let (_, text) = BUILT_IN[0];
        let wrong = text.replace("jitter = 0.0", "jiter = 0.0");
        let said = Machine::parse("mine.toml", &wrong).unwrap_err().to_string();
        assert!(
            said.starts_with("mine.toml:15:1: ") && said.contains("jiter"),
            "{said}"
        );
        let wrong = text.replace("jitter = 0.0", "jitter = -1.0");
        let said = Machine::parse("mine.toml", &wrong).unwrap_err().to_string();
        assert_eq!(
            said,
            "mine.toml: jitter is -1; give a share of a step, 0 for none"
        );
        let said = Machine::load("fronter").unwrap_err().to_string();
        assert!(
            said.contains("did you mean `frontier`? there are frontier, summit"),
            "{said}"
        );
        assert!(Machine::load("nowhere.toml").is_err());
    }
}

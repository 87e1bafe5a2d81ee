//! Plans as tables of plain text.

use std::fmt::Write;

use super::error::{PlannerError, Result};
use super::longest::{Mode, Way};
use super::machine::Machine;
use super::memory::{Memory, fit, stages};
use super::model::Gpt;
use super::neighbours::{Neighbour, Verdict};
use super::run::{Axis, Run};
use super::search::Ranking;
use super::sensitivity::{Exposed, Sensitivity, exposed, sensitivities};
use super::time::{Estimate, estimate};

/// A table: a header and rows of cells; all columns but the first are aligned to the right unless
/// they are the last and hold text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    header: Vec<String>,
    rows: Vec<Vec<String>>,
    text_last: bool,
}

impl Table {
    /// A table with these columns.
    pub fn new(header: &[&str]) -> Self {
        Table {
            header: header.iter().map(|s| (*s).to_owned()).collect(),
            rows: Vec::new(),
            text_last: false,
        }
    }

    /// The last column is text: aligned to the left.
    #[must_use]
    pub fn text_last(mut self) -> Self {
        self.text_last = true;
        self
    }

    /// Adds a row; cells that are missing are empty.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The table as lines, each ending without blanks.
    pub fn render(&self) -> String {
        let columns = self.header.len();
        let width = |c: usize| {
            let cells = std::iter::once(&self.header).chain(&self.rows);
            cells
                .filter_map(|row| row.get(c))
                .map(|s| s.chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut out = String::new();
        for row in std::iter::once(&self.header).chain(&self.rows) {
            let mut line = String::new();
            for (c, wide) in widths.iter().enumerate() {
                let cell = row.get(c).map_or("", String::as_str);
                let gap = if c == 0 { "" } else { "  " };
                let left = c == 0 || self.text_last && c + 1 == columns;
                let _ = if left {
                    write!(line, "{gap}{cell:<wide$}")
                } else {
                    write!(line, "{gap}{cell:>wide$}")
                };
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }
}

/// A unit that suits a number, and how many of it are one of the basic unit.
type Unit = (&'static str, f64);

/// Seconds of a step, or milliseconds of a short one.
fn time_unit(seconds: f64) -> Unit {
    if seconds < 1.0 {
        ("ms", 1e3)
    } else {
        ("s", 1.0)
    }
}

/// GB, or MB of what is small.
fn byte_unit(bytes: u64) -> Unit {
    if bytes < 1_000_000_000 {
        ("MB", 1e-6)
    } else {
        ("GB", 1e-9)
    }
}

/// Memory of every stage.
pub fn memory(stages: &[Memory]) -> String {
    let (unit, scale) = byte_unit(stages.iter().map(Memory::peak).max().unwrap_or(0));
    let mut table = Table::new(&[
        "stage",
        "parameters",
        &format!("weights {unit}"),
        &format!("gradients {unit}"),
        &format!("optimizer {unit}"),
        "moments",
        &format!("activations {unit}"),
        &format!("working {unit}"),
        &format!("peak {unit}"),
    ]);
    let number = |bytes: u64| format!("{:.2}", bytes as f64 * scale);
    for s in stages {
        table.row(vec![
            s.stage.to_string(),
            s.parameters.to_string(),
            number(s.weights),
            number(s.gradients),
            number(s.optimizer),
            s.moments.to_string(),
            number(s.activations()),
            number(s.working.total()),
            number(s.peak()),
        ]);
    }
    table.render()
}

/// Where the time of a step goes, what every axis costs, and what every level is worth.
pub fn time(
    machine: &Machine,
    estimate: &Estimate,
    axes: &[Exposed],
    levels: &[Sensitivity],
) -> String {
    let share = |s: f64| format!("{:.1}", 100.0 * s / estimate.step);
    let (unit, scale) = time_unit(estimate.step);
    let mut table = Table::new(&["part", unit, "%"]);
    let parts = estimate.parts.named();
    let jitter = estimate.step - parts.iter().map(|(_, s)| s).sum::<f64>();
    // what rounding leaves is no jitter
    let jitter = if machine.jitter > 0.0 { jitter } else { 0.0 };
    for (name, s) in parts
        .into_iter()
        .chain([("jitter", jitter), ("step", estimate.step)])
    {
        table.row(vec![name.to_owned(), format!("{:.3}", s * scale), share(s)]);
    }
    let (flops, by) = if estimate.rate < 1e12 {
        ("GFLOP/s", 1e-9)
    } else {
        ("TFLOP/s", 1e-12)
    };
    let mut out = format!(
        "{} on {}: {:.1} {flops} a device, HFU {:.2} %, MFU {:.2} %, {:.0} tokens/s, \
         idle {:.1} %\n\n",
        estimate.run,
        machine.name,
        estimate.rate * by,
        100.0 * estimate.hfu,
        100.0 * estimate.mfu,
        estimate.tokens,
        100.0 * estimate.bubble
    );
    out += &table.render();
    let most = axes.iter().map(|e| e.bytes).fold(0.0, f64::max);
    let (bytes, size) = byte_unit(most as u64);
    let header = [format!("exposed {unit}"), format!("sent {bytes}")];
    let mut table = Table::new(&["axis", &header[0], "%", &header[1], "level"]).text_last();
    for e in axes {
        let name = match e.axis {
            Axis::Tensor => "tensor",
            Axis::Context => "context",
            Axis::Data => "data",
            Axis::Pipeline => "pipeline",
        };
        table.row(vec![
            name.to_owned(),
            format!("{:.3}", e.seconds * scale),
            share(e.seconds),
            format!("{:.2}", e.bytes * size),
            machine
                .levels
                .get(e.level)
                .map_or(String::new(), |l| l.name.clone()),
        ]);
    }
    out.push('\n');
    out += &table.render();
    let mut table = Table::new(&["level", &format!("{unit} per GB/s"), "% per % of bandwidth"]);
    for s in levels {
        table.row(vec![
            s.level.clone(),
            format!("{:.4}", s.slope * 1e9 * scale),
            format!("{:.4}", s.elasticity),
        ]);
    }
    out.push('\n');
    out += &table.render();
    out
}

/// The `most` fastest configurations, and how many were rejected for what.
pub fn ranking(ranking: &Ranking, most: usize) -> String {
    let best = ranking.ranked.first();
    let (unit, scale) = time_unit(best.map_or(1.0, |e| e.step));
    let (bytes, size) = byte_unit(best.map_or(0, |e| e.memory.1));
    let mut table = Table::new(&[
        "configuration",
        &format!("step {unit}"),
        "tokens/s",
        "HFU %",
        "MFU %",
        "idle %",
        &format!("memory {bytes}"),
    ]);
    for e in ranking.ranked.iter().take(most) {
        table.row(vec![
            e.run.to_string(),
            format!("{:.2}", e.step * scale),
            format!("{:.0}", e.tokens),
            format!("{:.2}", 100.0 * e.hfu),
            format!("{:.2}", 100.0 * e.mfu),
            format!("{:.1}", 100.0 * e.bubble),
            format!("{:.1}", e.memory.1 as f64 * size),
        ]);
    }
    let memory = ranking
        .rejected
        .iter()
        .filter(|(_, why)| why.is_memory())
        .count();
    format!(
        "{}\n{} run, {} do not fit, {} cannot be\n",
        table.render(),
        ranking.ranked.len(),
        memory,
        ranking.rejected.len() - memory
    )
}

/// Why not the neighbours of `best`.
pub fn neighbours(best: &Estimate, all: &[Neighbour]) -> String {
    let ((unit, scale), (bytes, size)) = (time_unit(best.step), byte_unit(best.memory.1));
    let header = [format!("step {unit}"), format!("memory {bytes}")];
    let mut table = Table::new(&["change", &header[0], &header[1], "why"]).text_last();
    for n in all {
        let mut cells = vec![n.change.clone()];
        match &n.verdict {
            Verdict::Runs {
                slower,
                part,
                by,
                memory,
            } => cells.extend([
                format!("{:+.2}", slower * scale),
                format!("{:.1}", *memory as f64 * size),
                if (by * scale).abs() < 0.005 {
                    "no part changes".to_owned()
                } else {
                    format!("{part} {:+.2} {unit}", by * scale)
                },
            ]),
            Verdict::Rejected(why) => {
                cells.extend(["-".to_owned(), "-".to_owned(), why.to_string()]);
            }
        }
        table.row(cells);
    }
    table.render()
}

/// Memory and time of one configuration, and whether it fits.
///
/// # Errors
/// If the configuration is none, or the machine has no arithmetic in its precision.
pub fn configuration(machine: &Machine, gpt: &Gpt, run: &Run) -> Result<String> {
    let held = stages(gpt, run, None).map_err(|why| PlannerError::rejected(run, why))?;
    let axes = exposed(machine, gpt, run)?;
    let levels = sensitivities(machine, gpt, run)?;
    let mut out = time(machine, &estimate(machine, gpt, run)?, &axes, &levels);
    out.push('\n');
    out += &memory(&held);
    out += &match fit(machine, &held) {
        Ok(()) => format!("fits: a device may fill {:.1} GB\n", machine.usable() / 1e9),
        Err(why) => format!("does not fit: {why}\n"),
    };
    Ok(out)
}

/// The longest sequence of every mode.
pub fn longest(all: &[(Mode, usize)]) -> String {
    let mut table = Table::new(&["mode", "positions", "configuration"]).text_last();
    for (mode, positions) in all {
        let longest = match positions {
            0 => "none".to_owned(),
            n => n.to_string(),
        };
        table.row(vec![mode.name.clone(), longest, mode.run.to_string()]);
    }
    table.render()
}

/// The longest sequence of every way, with all layers kept and with all recomputed.
pub fn ways(all: &[(Way, [usize; 2])]) -> String {
    let mut table = Table::new(&["way", "layers kept", "recomputed", "configuration"]).text_last();
    for (way, positions) in all {
        let [kept, again] = positions.map(|n| match n {
            0 => "none".to_owned(),
            n => n.to_string(),
        });
        table.row(vec![
            way.name.to_owned(),
            kept,
            again,
            way.runs[1].to_string(),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::planner::recipes::{gpt_175b, recipe_175b};
    use crate::planner::run::Axes;
    use crate::planner::search::{Planner, Space};

    /// Columns are as wide as their widest cell, in characters, and no line ends in blanks.
    #[test]
    fn columns_are_aligned() {
        let mut table = Table::new(&["a", "b s", "why"]).text_last();
        table.row(vec!["x → y".into(), "1.5".into(), "so".into()]);
        table.row(vec!["z".into(), "100.25".into()]);
        assert_eq!(
            table.render(),
            "a         b s  why\nx → y     1.5  so\nz      100.25\n"
        );
    }

    /// Every report names its units in the header, and has a line for every thing it is about.
    #[test]
    fn reports_have_a_line_for_everything() {
        let (machine, gpt, run) = (
            Machine::built_in("frontier").unwrap(),
            gpt_175b(),
            recipe_175b(),
        );
        let text = memory(&stages(&gpt, &run, None).unwrap());
        assert_eq!(text.lines().count(), 17);
        assert!(text.lines().next().unwrap().contains("peak GB"));
        let mut planner = Planner::new(&machine, &gpt, Space::deepspeed(640));
        let ranks = planner.rank(128).unwrap();
        let text = ranking(&ranks, 5);
        assert_eq!(text.lines().count(), 8);
        let best = planner.judge(&run).unwrap().unwrap();
        let all = planner.neighbours(&best).unwrap();
        assert_eq!(neighbours(&best, &all).lines().count(), all.len() + 1);
        let axes = exposed(&machine, &gpt, &run).unwrap();
        let levels = sensitivities(&machine, &gpt, &run).unwrap();
        let text = time(&machine, &best, &axes, &levels);
        for word in ["jitter", "tensor", "pipeline", "half node", "HFU"] {
            assert!(text.contains(word), "{word}");
        }
        let text = configuration(&machine, &gpt, &run).unwrap();
        assert!(
            text.ends_with("fits: a device may fill 57.6 GB\n"),
            "{text}"
        );
        let whole = Run {
            axes: Axes {
                tensor: 1,
                ..run.axes
            },
            ..run
        };
        let text = configuration(&machine, &gpt, &whole).unwrap();
        assert!(text.contains("does not fit: stage 0 needs"), "{text}");
    }
}

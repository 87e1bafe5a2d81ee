//! What a search has found: a table, the best configuration as a file, and pictures.

use std::path::Path;

use super::candidates::Candidates;
use super::journal::Record;
use super::metrics::Measured;
use super::trial::Verdict;
use crate::config::Config;
use crate::error::Result;
use crate::planner::report::Table;
use crate::plot::{Diagram, Mark};

/// Predicted failures that are shown.
const SHOWN: usize = 5;

/// Trials that were measured, fastest first.
pub fn measured(records: &[Record]) -> Vec<(&Record, Measured)> {
    let mut all: Vec<_> = records
        .iter()
        .filter_map(|r| match &r.outcome {
            Verdict::Measured(m) => Some((r, *m)),
            Verdict::Failed { .. } => None,
        })
        .collect();
    all.sort_by(|a, b| a.1.step.total_cmp(&b.1.step));
    all
}

/// All trials, fastest first, failures last with their reasons, then what was never run.
pub fn table(records: &[Record], candidates: &Candidates) -> String {
    let fast = measured(records);
    let (unit, scale) = match fast.first() {
        Some((_, m)) if m.step >= 1.0 => ("s", 1.0),
        _ => ("ms", 1e3),
    };
    let header = [format!("predicted {unit}"), format!("measured {unit}")];
    let mut table = Table::new(&[
        "configuration",
        &header[0],
        &header[1],
        "ratio",
        "spread %",
        "tokens/s",
        "memory MB",
        "status",
    ])
    .text_last();
    let number = |seconds: f64| format!("{:.1}", seconds * scale);
    for (r, m) in &fast {
        table.row(vec![
            r.configuration.clone(),
            number(r.predicted),
            number(m.step),
            format!("{:.2}", m.step / r.predicted),
            format!("{:.0}", 100.0 * m.spread),
            format!("{:.0}", m.tokens),
            m.memory
                .map_or_else(|| "-".to_owned(), |b| format!("{:.0}", b as f64 / 1e6)),
            "measured".to_owned(),
        ]);
    }
    for r in records {
        if let Verdict::Failed { why } = &r.outcome {
            let none = || "-".to_owned();
            table.row(vec![
                r.configuration.clone(),
                number(r.predicted),
                none(),
                none(),
                none(),
                none(),
                none(),
                format!("failed: {why}"),
            ]);
        }
    }
    let mut text = table.render();
    if !candidates.refused.is_empty() {
        text += "\npredicted failures, never run\n";
        let mut table = Table::new(&["configuration", "why"]).text_last();
        for (name, why) in candidates.refused.iter().take(SHOWN) {
            table.row(vec![name.clone(), why.to_string()]);
        }
        text += &table.render();
        let more = candidates.refused.len().saturating_sub(SHOWN);
        if more > 0 {
            text += &format!("and {more} more\n");
        }
    }
    text
}

/// The planner's first choice beside the best, and how well it ordered what was measured.
pub fn verdict(records: &[Record], candidates: &Candidates) -> Option<String> {
    let fast = measured(records);
    let (best, m) = fast.first()?;
    let first = candidates.tried.first()?;
    let arguments = first.arguments();
    let its = |r: &&Record| r.threads == first.threads && r.set == arguments;
    let mut text = match records.iter().find(its).map(|r| (r, &r.outcome)) {
        Some((r, _)) if r.trial == best.trial => {
            format!("the planner's first choice, {first}, is the best")
        }
        Some((_, Verdict::Measured(own))) => {
            format!(
                "the planner's first choice, {first}, takes {:.2} times as long as the best, {}",
                own.step / m.step,
                best.configuration
            ) + match own.step / m.step - 1.0 < m.spread.max(own.spread) / 2.0 {
                true => ": less than their steps differ among themselves, read them as equal",
                false => "",
            }
        }
        Some((_, Verdict::Failed { why })) => {
            format!("the planner's first choice, {first}, failed: {why}")
        }
        None => format!("the planner's first choice, {first}, was not tried"),
    };
    let (predicted, found): (Vec<f64>, Vec<f64>) =
        fast.iter().map(|(r, m)| (r.predicted, m.step)).unzip();
    if let Some(rho) = spearman(&predicted, &found) {
        let n = found.len();
        text += &format!("\nrank correlation of predicted and measured time, {n} trials: {rho:.2}");
    }
    Some(text)
}

/// Spearman's rank correlation; equal values share the mean of their ranks. `None` with less than three
/// values, or where all are equal.
pub fn spearman(x: &[f64], y: &[f64]) -> Option<f64> {
    let n = x.len();
    if n < 3 || n != y.len() {
        return None;
    }
    let ranks = |of: &[f64]| -> Vec<f64> {
        let below = |v: f64| of.iter().filter(|w| **w < v).count() as f64;
        let equal = |v: f64| of.iter().filter(|w| **w == v).count() as f64;
        of.iter()
            .map(|v| below(*v) + (equal(*v) - 1.0) / 2.0)
            .collect()
    };
    let (x, y) = (ranks(x), ranks(y));
    let mean = (n as f64 - 1.0) / 2.0;
    let sum = |a: &[f64], b: &[f64]| -> f64 {
        a.iter().zip(b).map(|(a, b)| (a - mean) * (b - mean)).sum()
    };
    let scale = (sum(&x, &x) * sum(&y, &y)).sqrt();
    (scale > 0.0).then(|| sum(&x, &y) / scale)
}

/// How the best is run: the command, with the file of [`best_toml`].
pub fn command(pipeline: &str, best: &Record, file: &Path) -> String {
    format!(
        "advect run {pipeline} --config {} -w {} --operator-threads {}",
        quoted(file),
        best.workers,
        best.threads
    )
}

/// A path as a shell takes it, on one line.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string().replace(['\n', '\r'], "?");
    let plain = |c: char| c.is_alphanumeric() || "/._-+=:@%,".contains(c);
    match text.chars().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', "'\\''")),
    }
}

/// The configuration that was asked for with the settings of `best` in it: whole, with the user's steps.
pub fn best_toml(config: &Config, best: &Record, measured: &Measured, command: &str) -> String {
    let mut text = format!(
        "# The fastest trial of `advect tune`: {}, {:.4} s a step, {:.0} tokens/s.\n# {command}\n",
        best.configuration, measured.step, measured.tokens
    );
    let set: Vec<(&str, &str)> = best.set.iter().filter_map(|s| s.split_once('=')).collect();
    for (key, setting) in config.settings() {
        let chosen = set.iter().find(|(k, _)| *k == key);
        let value = chosen.map_or_else(|| setting.text(), |(_, value)| (*value).to_owned());
        text += &format!("{key} = {value}\n");
    }
    text
}

/// Draws measured over predicted time, and the best after every trial.
///
/// # Errors
/// If the system refuses.
pub fn pictures(records: &[Record], out: &Path) -> Result<()> {
    let (fast, scale) = (measured(records), 1e3);
    if fast.is_empty() {
        return Ok(());
    }
    let points = fast
        .iter()
        .map(|(r, m)| (scale * r.predicted, scale * m.step, 0.0));
    let points: Vec<_> = points.collect();
    let ends = points.iter().flat_map(|p| [p.0, p.1]);
    let (low, high) = ends.fold((f64::INFINITY, 0.0f64), |(l, h), x| (l.min(x), h.max(x)));
    let draw = |diagram: Diagram, name: &str| diagram.draw().save(&out.join(name));
    draw(
        Diagram::new("tune: a step", "predicted, ms", "measured, ms")
            .with(
                "as predicted",
                Mark::Line,
                vec![(low, low, 0.0), (high, high, 0.0)],
            )
            .with("trials", Mark::Points, points),
        "predicted.png",
    )?;
    let (mut best, mut line, mut all) = (f64::INFINITY, Vec::new(), Vec::new());
    for (n, record) in records.iter().enumerate() {
        let at = n as f64 + 1.0;
        if let Verdict::Measured(m) = &record.outcome {
            best = best.min(scale * m.step);
            all.push((at, scale * m.step, 0.0));
        }
        if best.is_finite() {
            line.push((at, best, 0.0));
        }
    }
    draw(
        Diagram::new("tune: the best so far", "trial", "a step, ms")
            .with("best so far", Mark::Line, line)
            .with("trials", Mark::Points, all),
        "progress.png",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ranks and not values count, ties share a rank, and nothing is made of nothing.
    #[test]
    fn ranks_correlate() {
        let rho = |x: &[f64], y: &[f64]| spearman(x, y);
        assert_eq!(rho(&[1.0, 2.0, 9.0], &[10.0, 20.0, 21.0]), Some(1.0));
        assert_eq!(rho(&[1.0, 2.0, 9.0], &[3.0, 2.0, 1.0]), Some(-1.0));
        // ranks 0, 1.5, 1.5, 3 and 0, 2, 1, 3: 4.5 of √(4.5 · 5)
        let tied = rho(&[1.0, 2.0, 2.0, 3.0], &[1.0, 3.0, 2.0, 4.0]).unwrap();
        assert!((tied - 4.5 / 22.5f64.sqrt()).abs() < 1e-12, "{tied}");
        assert_eq!(rho(&[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0]), None);
        assert_eq!(rho(&[1.0, 2.0], &[1.0, 2.0]), None);
    }
}

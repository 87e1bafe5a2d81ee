//! What a side takes, in a process of its own.

use std::process::Command;

use super::{BenchError, Figure, Options, peer};

/// Milliseconds of the fastest step, and megabytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) time: f64,
    pub(super) memory: f64,
}

impl Cost {
    /// What a process measured, if it measured both.
    pub(super) fn of(figures: &[Figure]) -> Option<Self> {
        let of = |case: &'static str| {
            let found = figures.iter().filter(move |f| f.case == case);
            found.map(|f| f.value)
        };
        Some(Cost {
            time: of("step").min_by(f64::total_cmp)?,
            memory: of("memory").max_by(f64::total_cmp)?,
        })
    }

    /// The least of both.
    pub(super) fn better(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        match (a, b) {
            (Some(a), Some(b)) => Some(Cost {
                time: a.time.min(b.time),
                memory: a.memory.min(b.memory),
            }),
            (a, b) => a.or(b),
        }
    }
}

/// The figures of `bench` in another process of this program, which finds in its environment what it is to measure.
///
/// # Errors
/// If it cannot be started, fails, or takes longer than [`Options::patience`].
pub(super) fn alone(
    bench: &'static str,
    part: (&str, String),
    options: &Options,
) -> Result<Vec<Figure>, BenchError> {
    let program = std::env::current_exe().map_err(|e| BenchError::failed(bench, e))?;
    let mut command = Command::new(program);
    command.args(["bench", bench]).env(part.0, part.1);
    let text = peer::finish(command, options.patience);
    let text = text.map_err(|e| BenchError::failed(bench, format!("our own process: {e}")))?;
    let lines = text.lines();
    Ok(lines.filter_map(|l| serde_json::from_str(l).ok()).collect())
}

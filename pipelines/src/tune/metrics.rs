//! What a trial measured, from the metrics that its run wrote.

use serde::{Deserialize, Serialize};

/// What a trial that reached its end has measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Measured {
    /// Seconds of a step: the median of those that count.
    pub step: f64,
    /// Tokens a second that the loss operators counted, in the same step.
    pub tokens: f64,
    /// From the fastest to the slowest step that counts, as a part of the median.
    pub spread: f64,
    /// Bytes that the process had in memory at its peak, where the system says so.
    pub memory: Option<u64>,
}

/// The part of a line of `metrics.jsonl` that counts here.
#[derive(Debug, Deserialize)]
struct Line {
    what: String,
    #[serde(default)]
    targets: u64,
    #[serde(default)]
    targets_per_second: f64,
}

/// Reads the metrics of a run of `steps` steps, of which the first `warm_up` do not count. Time is that
/// between two steps, and tokens are those that the loss counted: a configuration cannot claim more.
///
/// # Errors
/// What is missing, in words.
pub fn read(text: &str, steps: usize, warm_up: usize) -> Result<Measured, String> {
    let lines = text
        .lines()
        .filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let taken: Vec<Line> = lines.filter(|line| line.what == "step").collect();
    if taken.len() < steps || steps <= warm_up {
        return Err(format!("it took {} of {steps} steps", taken.len()));
    }
    let mut counted: Vec<(f64, f64)> = Vec::new();
    for (step, line) in taken.iter().enumerate().skip(warm_up) {
        let (targets, rate) = (line.targets as f64, line.targets_per_second);
        let seconds = targets / rate;
        if !(seconds.is_finite() && seconds > 0.0) {
            return Err(format!(
                "step {step} has {targets} targets at {rate} a second"
            ));
        }
        counted.push((seconds, rate));
    }
    counted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let middle = counted.len() / 2;
    let (step, tokens) = match counted.len() % 2 {
        1 => counted[middle],
        _ => {
            let ((s, r), (t, q)) = (counted[middle - 1], counted[middle]);
            // as many tokens in the mean of both
            ((s + t) / 2.0, (s * r + t * q) / (s + t))
        }
    };
    let last = counted.len() - 1;
    Ok(Measured {
        step,
        tokens,
        spread: (counted[last].0 - counted[0].0) / step,
        memory: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(targets: u64, seconds: f64) -> String {
        let rate = targets as f64 / seconds;
        format!(
            r#"{{"what":"step","step":0,"loss":1.0,"targets":{targets},"targets_per_second":{rate}}}"#
        )
    }

    /// Steps of the warm-up, validations and cut lines do not count; the median does, and its tokens.
    #[test]
    fn the_median_counts() {
        let seconds = [9.0, 5.0, 0.5, 0.25, 0.3, 4.0];
        let mut lines: Vec<String> = seconds.iter().map(|s| line(100, *s)).collect();
        lines.insert(
            3,
            r#"{"what":"validation","step":3,"targets":7}"#.to_owned(),
        );
        lines.push(r#"{"what":"st"#.to_owned());
        let found = read(&lines.join("\n"), 6, 2).unwrap();
        assert!((found.step - 0.4).abs() < 1e-12, "{found:?}");
        assert!((found.tokens - 250.0).abs() < 1e-9, "{found:?}");
        assert!((found.spread - 3.75 / 0.4).abs() < 1e-9, "{found:?}");
    }

    /// Fewer steps than were asked for, and steps that took no time, are told.
    #[test]
    fn what_is_missing_is_told() {
        assert_eq!(read("", 6, 2).unwrap_err(), "it took 0 of 6 steps");
        let few = [line(1, 1.0), line(1, 1.0)].join("\n");
        assert_eq!(read(&few, 3, 1).unwrap_err(), "it took 2 of 3 steps");
        let none = [line(1, 1.0), line(0, 1.0)].join("\n");
        assert!(
            read(&none, 2, 1)
                .unwrap_err()
                .contains("step 1 has 0 targets")
        );
    }
}

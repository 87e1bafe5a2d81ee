//! Figures: what a benchmark measured, beside what it is measured against.

use std::io::{IsTerminal, Write};

use serde::{Deserialize, Serialize};

/// One measured number, and the same number of the reference where there is one.
///
/// ```
/// use advect_pipelines::bench::Figure;
/// let figure = Figure::new("filters", "Lorenz-96 LETKF, 1,000 cycles", 0.5, "s").beside(15.0);
/// assert_eq!(figure.ratio, Some(0.5 / 15.0));
/// assert_eq!(figure.ahead(), Some(true));
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The benchmark.
    pub bench: String,
    /// What was measured; names the reference if there is one.
    pub case: String,
    /// Our number.
    pub value: f64,
    /// Its unit. Times (`s`, `ms`, `us`, `ns`), memory (`MB`), shares (`%`) and losses (`bits/byte`) are better
    /// when they are small, all other units when they are large.
    pub unit: String,
    /// The number of the reference, in the same unit.
    pub reference: Option<f64>,
    /// Ours over the reference.
    pub ratio: Option<f64>,
}

impl Figure {
    /// A figure without a reference.
    pub fn new(bench: &str, case: impl Into<String>, value: f64, unit: &str) -> Self {
        Figure {
            bench: bench.to_owned(),
            case: case.into(),
            value,
            unit: unit.to_owned(),
            reference: None,
            ratio: None,
        }
    }

    /// The same figure beside the number of a reference, in the same unit. A reference of zero has
    /// no ratio.
    pub fn beside(mut self, reference: f64) -> Self {
        self.reference = Some(reference);
        self.ratio = (reference != 0.0).then(|| self.value / reference);
        self
    }

    /// Whether a small number is the better one.
    pub fn less_is_better(&self) -> bool {
        matches!(
            self.unit.as_str(),
            "s" | "ms" | "us" | "ns" | "MB" | "%" | "bits/byte"
        )
    }

    /// Whether we are ahead of the reference, or level with it.
    pub fn ahead(&self) -> Option<bool> {
        let less = self.less_is_better();
        self.ratio.map(|r| if less { r <= 1.0 } else { r >= 1.0 })
    }

    /// The figure as one line of JSON.
    pub fn json(&self) -> String {
        serde_json::json!({
            "bench": self.bench,
            "case": self.case,
            "value": self.value,
            "unit": self.unit,
            "reference": self.reference,
            "ratio": self.ratio,
        })
        .to_string()
    }

    /// The figure as a row of the table that [`heading`] begins.
    fn row(&self) -> String {
        let number = |x: Option<f64>| x.map_or_else(|| "-".to_owned(), short);
        let word = match self.ahead() {
            Some(true) => "ahead",
            Some(false) => "behind",
            None => "",
        };
        format!(
            "{:<58} {:>10} {:<8} {:>10} {:>7} {word}",
            self.case,
            short(self.value),
            self.unit,
            number(self.reference),
            number(self.ratio),
        )
    }
}

fn heading(bench: &str) -> String {
    format!(
        "{bench}\n{:<58} {:>10} {:<8} {:>10} {:>7}",
        "case", "ours", "unit", "reference", "ratio"
    )
}

/// Three significant digits, without an exponent for the numbers a table usually holds.
fn short(x: f64) -> String {
    let magnitude = if x == 0.0 {
        0.0
    } else {
        x.abs().log10().floor()
    };
    if !(-4.0..9.0).contains(&magnitude) {
        return format!("{x:.2e}");
    }
    format!("{x:.*}", (2.0 - magnitude).clamp(0.0, 6.0) as usize)
}

/// Where figures go: a table on a terminal, one JSON object a line elsewhere.
///
/// Notes go to standard error, so that standard output holds figures only.
#[derive(Debug, Default)]
pub struct Report {
    figures: Vec<Figure>,
    headed: bool,
    quiet: bool,
}

impl Report {
    /// A report that prints each figure as it is given.
    pub fn printing() -> Self {
        Report::default()
    }

    /// A report that only keeps its figures.
    pub fn keeping() -> Self {
        Report {
            quiet: true,
            ..Report::default()
        }
    }

    /// Takes a figure and prints it.
    pub fn give(&mut self, figure: Figure) {
        if !self.quiet {
            let mut out = std::io::stdout().lock();
            // a reader that has gone away is no reason to stop measuring
            let _ = if out.is_terminal() {
                let head = std::mem::replace(&mut self.headed, true);
                let head = if head {
                    String::new()
                } else {
                    heading(&figure.bench) + "\n"
                };
                writeln!(out, "{head}{}", figure.row())
            } else {
                writeln!(out, "{}", figure.json())
            };
            let _ = out.flush();
        }
        self.figures.push(figure);
    }

    /// Says something that is not a figure.
    pub fn note(&self, what: &str) {
        if !self.quiet {
            eprintln!("{what}");
        }
    }

    /// The figures given so far.
    pub fn figures(&self) -> &[Figure] {
        &self.figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A figure survives its line, and the line has the six keys that readers rely on.
    #[test]
    fn json_round_trip() {
        let figure = Figure::new("transport", "copy \"4 MB\"", 1.25, "GB/s").beside(2.5);
        let line = figure.json();
        assert!(!line.contains('\n'));
        assert_eq!(
            serde_json::from_str::<Figure>(&line).expect("own line"),
            figure
        );
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let keys = value.as_object().expect("an object").keys();
        assert_eq!(keys.count(), 6);
        assert_eq!(value["ratio"], 0.5);
    }

    /// Who is ahead follows from the unit: a rate should be large, a time small.
    #[test]
    fn ahead_by_unit() {
        assert_eq!(
            Figure::new("b", "c", 2.0, "GB/s").beside(1.0).ahead(),
            Some(true)
        );
        assert_eq!(
            Figure::new("b", "c", 2.0, "us").beside(1.0).ahead(),
            Some(false)
        );
        assert_eq!(Figure::new("b", "c", 2.0, "us").beside(0.0).ahead(), None);
    }

    /// Numbers of the table keep three digits.
    #[test]
    fn three_digits() {
        let cases = [
            (0.0, "0.00"),
            (1234.5, "1234"),
            (0.01234, "0.0123"),
            (3.999, "4.00"),
        ];
        for (x, want) in cases {
            assert_eq!(short(x), want);
        }
    }
}

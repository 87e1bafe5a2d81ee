//! Progress on standard error: a bar on a terminal, a plain line now and then elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The progress of one phase of a run.
#[derive(Debug)]
pub struct Progress {
    bar: ProgressBar,
    what: String,
    /// Print a plain line each time so many steps more are done; 0 for never.
    every: u64,
}

impl Progress {
    pub(crate) fn new(what: &str, total: u64, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if quiet || !terminal {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let style = "{msg} {bar:32} {pos}/{len} {elapsed} left {eta}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        let every = if quiet || terminal {
            0
        } else {
            total.div_ceil(10).max(1)
        };
        Self {
            bar,
            what: what.to_owned(),
            every,
        }
    }

    /// One more step is done.
    pub fn step(&self) {
        self.bar.inc(1);
        let (done, total) = (self.bar.position(), self.bar.length().unwrap_or(0));
        if self.every > 0 && (done % self.every == 0 || done == total) {
            eprintln!("{}: {done}/{total}", self.what);
        }
    }

    /// Prints a line above the bar, to standard output.
    pub fn line(&self, text: &str) {
        self.bar.suspend(|| crate::cli::print_line(text));
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

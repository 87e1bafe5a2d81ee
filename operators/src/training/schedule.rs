//! Learning rates by step.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

/// How the rate falls after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fall {
    /// Not at all.
    Constant,
    /// Along a straight line.
    Linear,
    /// Along half a cosine (Loshchilov and Hutter 2017, *SGDR*, equation 5).
    Cosine,
}

/// A rate that rises in a straight line, and falls from its peak to `floor` at the last step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The highest rate.
    pub peak: f64,
    /// The rate of the last step, as a part of the peak.
    pub floor: f64,
    /// Steps of the rise; the peak is reached with the last of them.
    pub warm_up: u64,
    /// All steps.
    pub steps: u64,
    /// The fall.
    pub fall: Fall,
}

impl Schedule {
    /// The same rate at every step.
    pub fn constant(rate: f64) -> Self {
        Schedule {
            peak: rate,
            floor: 1.0,
            warm_up: 0,
            steps: 0,
            fall: Fall::Constant,
        }
    }

    /// The rate of `step`, counted from 0.
    ///
    /// ```
    /// use advect_operators::training::{Fall, Schedule};
    /// let schedule = Schedule { peak: 1.0, floor: 0.1, warm_up: 4, steps: 13, fall: Fall::Linear };
    /// assert_eq!([0, 3, 12, 99].map(|step| schedule.rate(step)), [0.25, 1.0, 0.1, 0.1]);
    /// assert_eq!(Schedule { fall: Fall::Cosine, ..schedule }.rate(12), 0.1);
    /// ```
    pub fn rate(&self, step: u64) -> f64 {
        if step < self.warm_up {
            return self.peak * (step + 1) as f64 / self.warm_up as f64;
        }
        let top = self.warm_up.saturating_sub(1);
        let span = self.steps.saturating_sub(1).saturating_sub(top).max(1);
        let part = ((step - top) as f64 / span as f64).min(1.0);
        let height = match self.fall {
            Fall::Constant => 1.0,
            Fall::Linear => 1.0 - part,
            Fall::Cosine => (1.0 + (PI * part).cos()) / 2.0,
        };
        self.peak * (self.floor + (1.0 - self.floor) * height)
    }
}

//! How many samples a step has, and how they are cut: the one place that knows.

use advect_engine::Result;
use serde::{Deserialize, Serialize};

use crate::network::rules::refuse;
use crate::transformer::Strategy;

/// Samples of a step, as a user asks for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Samples {
    /// B, samples of a step over all workers.
    pub step: usize,
    /// b, samples that a worker has in work at once, at most.
    pub micro: usize,
}

/// Samples of a step on a mesh. B samples are any number: the last micro-batch of a step is filled up
/// with samples without targets, which the loss does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    step: usize,
    data: usize,
    moment: usize,
}

impl Batching {
    /// The batching of `samples` on the axes of `strategy` that cut the batch.
    ///
    /// ```
    /// use advect_operators::training::{Batching, Samples};
    /// use advect_operators::transformer::{Role, Strategy};
    /// let strategy = Strategy::new(&[(Role::Data, 2), (Role::Tensor, 3)])?;
    /// let batching = Batching::new(Samples { step: 10, micro: 2 }, &strategy)?;
    /// assert_eq!((batching.data(), batching.moment(), batching.accumulation()), (2, 4, 3));
    /// // what is in the micro-batches of a step: two places of the last are empty
    /// let places: Vec<_> = (0..3).flat_map(|j| batching.places(j)).collect();
    /// assert_eq!(places.iter().flatten().count(), 10);
    /// assert_eq!(places[8..], [Some(8), Some(9), None, None]);
    /// # Ok::<(), advect_engine::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// If a number is 0.
    pub fn new(samples: Samples, strategy: &Strategy) -> Result<Self> {
        if samples.step == 0 || samples.micro == 0 {
            let why = format!(
                "{} samples a step, {} at once; give at least 1 of both",
                samples.step, samples.micro
            );
            return refuse("Batching", why);
        }
        let data = strategy.data();
        Ok(Batching {
            step: samples.step,
            data,
            moment: samples.micro.saturating_mul(data).min(samples.step),
        })
    }

    /// d, workers that have samples of their own.
    pub fn data(&self) -> usize {
        self.data
    }

    /// m, micro-batches of a step.
    pub fn accumulation(&self) -> usize {
        self.step.div_ceil(self.moment)
    }

    /// Samples of one micro-batch over all workers: what the graph is built for.
    pub fn moment(&self) -> usize {
        self.moment
    }

    /// B, samples of a step.
    pub fn step(&self) -> usize {
        self.step
    }

    /// Which samples of the step micro-batch `micro` holds; `None` for a place without one.
    pub fn places(&self, micro: usize) -> impl Iterator<Item = Option<usize>> + use<> {
        let (step, first) = (self.step, micro * self.moment);
        (first..first + self.moment).map(move |n| Some(n).filter(|n| *n < step))
    }
}

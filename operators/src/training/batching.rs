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
    /// b, samples that a worker has in work at once; the last micro-batch of a step is never smaller.
    pub micro: usize,
}

/// Samples of a step on a mesh: $B = b \cdot d \cdot m$ holds by construction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    micro: usize,
    data: usize,
    accumulation: usize,
}

impl Batching {
    /// The batching of `samples` on the axes of `strategy` that cut the batch.
    ///
    /// ```
    /// use advect_operators::training::{Batching, Samples};
    /// use advect_operators::transformer::{Role, Strategy};
    /// let strategy = Strategy::new(&[(Role::Data, 2), (Role::Tensor, 3)])?;
    /// let batching = Batching::new(Samples { step: 12, micro: 2 }, &strategy)?;
    /// assert_eq!((batching.data(), batching.accumulation(), batching.step()), (2, 3, 12));
    /// // what one moment of the graph holds
    /// assert_eq!(batching.moment(), 4);
    /// assert!(Batching::new(Samples { step: 10, micro: 2 }, &strategy).is_err());
    /// # Ok::<(), advect_engine::EngineError>(())
    /// ```
    ///
    /// # Errors
    /// If a step is not a whole number of micro-batches.
    pub fn new(samples: Samples, strategy: &Strategy) -> Result<Self> {
        let data = strategy.data();
        let moment = samples.micro * data;
        if moment == 0 || samples.step == 0 || samples.step % moment != 0 {
            let near = (samples.step / moment.max(1)).max(1) * moment.max(1);
            let why = format!(
                "{} samples a step are not a multiple of {} at once on each of {data} workers; \
                 take {near}",
                samples.step, samples.micro
            );
            return refuse("Batching", why);
        }
        Ok(Batching {
            micro: samples.micro,
            data,
            accumulation: samples.step / moment,
        })
    }

    /// b, samples that a worker has in work at once.
    pub fn micro(&self) -> usize {
        self.micro
    }

    /// d, workers that have samples of their own.
    pub fn data(&self) -> usize {
        self.data
    }

    /// m, micro-batches of a step.
    pub fn accumulation(&self) -> usize {
        self.accumulation
    }

    /// Samples of one micro-batch over all workers: what the graph is built for.
    pub fn moment(&self) -> usize {
        self.micro * self.data
    }

    /// B, samples of a step.
    pub fn step(&self) -> usize {
        self.moment() * self.accumulation
    }
}

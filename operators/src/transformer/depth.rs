//! How many micro-batches a stage has in work.

use super::Strategy;

impl Strategy {
    /// How many micro-batches `worker` may have in work when the last stage has `last`: one more for
    /// every stage after it, which is the bound of the 1F1B schedule for `last` = 1 (Narayanan et al.
    /// 2019, *PipeDream*). Of chunks that go around, each has its own: two more for every stage after it, and as many as
    /// there are stages for every chunk but the last (Narayanan et al. 2021, interleaved).
    pub fn in_flight(&self, worker: usize, last: usize) -> usize {
        self.depth(self.stage(worker), last)
    }

    fn depth(&self, stage: usize, last: usize) -> usize {
        let after = self.stages() - 1 - stage;
        last.saturating_add(match self.around() {
            1 => after,
            chunks => 2 * after + (chunks - 1) * self.stages(),
        })
    }

    /// How often a moment comes to a stage, at most: chunks without a layer are passed over, and tables lie on the first
    /// stage, the head on the last.
    fn around(&self) -> usize {
        let stages = self.stages();
        let chunks = self.chunks.iter().flatten().enumerate();
        let layers = chunks.filter(|(_, n)| **n > 0).map(|(k, _)| k % stages);
        let mut stays: Vec<usize> = std::iter::once(0)
            .chain(layers)
            .chain([stages - 1])
            .collect();
        stays.dedup();
        let of = |stage| stays.iter().filter(|at| **at == stage).count();
        (0..stages).map(of).max().unwrap_or(1)
    }

    /// How many whole micro-batches those in work on the chunks of `worker` are at least.
    pub fn whole_in_flight(&self, worker: usize, last: usize) -> usize {
        self.in_flight(worker, last) / self.around()
    }

    /// How many micro-batches a worker may have in work or waiting for gradients of parameters, if these
    /// are made when nothing else is to do and the last stage has `last` in work: as many on every stage
    /// as on the first if they are not (Qi et al. 2023, *Zero bubble pipeline parallelism*, ZB-H1).
    pub fn deferred(&self, last: usize) -> usize {
        self.depth(0, last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In flight on both stages of two, and with those that wait, where the last stage has one.
    fn depths(mesh: &str) -> ([usize; 2], usize) {
        let strategy: Strategy = mesh.parse().expect("a mesh");
        (
            [0, 1].map(|worker| strategy.in_flight(worker, 1)),
            strategy.deferred(1),
        )
    }

    #[test]
    fn depth_is_that_of_the_schedule() {
        assert_eq!(depths("stage 2"), ([2, 1], 2), "1F1B");
        assert_eq!(depths("stage 2 (2 2)"), ([2, 1], 2));
        assert_eq!(
            depths("stage 2 (1 1 1 1)"),
            ([5, 3], 5),
            "interleaved, 2 chunks"
        );
        assert_eq!(
            depths("stage 2 (1 1 1 1 1 1)"),
            ([7, 5], 7),
            "interleaved, 3 chunks"
        );
    }

    #[test]
    fn chunks_without_layers_are_passed_over() {
        assert_eq!(depths("stage 2 (1 0 0 1)"), ([2, 1], 2), "each stage once");
        assert_eq!(
            depths("stage 2 (1 1 1 0)"),
            ([5, 3], 5),
            "the head is on the last stage"
        );
        let alone: Strategy = "stage 1 (1 1 1)".parse().expect("a mesh");
        assert_eq!(alone.in_flight(0, 1), 1, "one stage");
    }

    #[test]
    fn whole_micro_batches_are_as_many_as_chunks_fill() {
        let strategy: Strategy = "stage 2 (1 1 1 1)".parse().expect("a mesh");
        assert_eq!(
            [0, 1].map(|worker| strategy.whole_in_flight(worker, 1)),
            [2, 1]
        );
    }
}

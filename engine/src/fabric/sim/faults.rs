//! What goes wrong on a simulated network, and when.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A link that is closed from a moment on: what is in flight is lost, what is sent later as well,
/// and both ends get an error after a while, as from a closed connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cut {
    /// The two workers.
    pub between: (usize, usize),
    /// Simulated time, in turns of the job.
    pub at: u64,
}

/// A worker that ends as by a panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crash {
    /// The worker.
    pub worker: usize,
    /// Which of its own turns is its last.
    pub at: u64,
}

/// A worker that stands still for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// The worker.
    pub worker: usize,
    /// Simulated time at which it begins, in turns of the job.
    pub at: u64,
    /// How long it lasts, in turns of the job.
    pub turns: u64,
}

/// The weather of a simulated network. All times are counted in turns: one step of one worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    /// The longest way of a message; each is drawn between 0 and this.
    pub delay: u64,
    /// Links that are cut.
    pub cuts: Vec<Cut>,
    /// Workers that crash.
    pub crashes: Vec<Crash>,
    /// Workers that stand still for a while.
    pub pauses: Vec<Pause>,
    /// The longest time until the loss of a link or a worker is noticed at the other end.
    pub notice: u64,
    /// Turns that every worker takes without a message on its way before the job is stuck.
    pub patience: u64,
}

impl Default for Faults {
    /// A network that delays messages up to 20 turns, and loses none.
    fn default() -> Self {
        Faults {
            delay: 20,
            cuts: Vec::new(),
            crashes: Vec::new(),
            pauses: Vec::new(),
            notice: 200,
            patience: 20_000,
        }
    }
}

impl Faults {
    /// Draws delays, at most one cut, one crash and two pauses for a job of `workers` that takes
    /// about `turns` in good weather. One seed in four has neither cut nor crash.
    pub fn drawn(seed: u64, workers: usize, turns: u64) -> Self {
        // another stream than the scheduler's, which is seeded with the same number
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(1);
        let mut faults = Faults {
            delay: random.random_range(0..=100),
            notice: random.random_range(1..=400),
            ..Faults::default()
        };
        let turns = turns.max(1);
        if workers > 1 {
            for _ in 0..random.random_range(0..=2) {
                faults.pauses.push(Pause {
                    worker: random.random_range(0..workers),
                    at: random.random_range(0..turns),
                    turns: random.random_range(1..=turns),
                });
            }
        }
        if workers > 1 && random.random_bool(0.5) {
            let a = random.random_range(0..workers);
            let b = (a + random.random_range(1..workers)) % workers;
            faults.cuts.push(Cut {
                between: (a, b),
                at: random.random_range(0..turns),
            });
        }
        if random.random_bool(0.5) {
            faults.crashes.push(Crash {
                worker: random.random_range(0..workers.max(1)),
                at: random.random_range(1..=turns.div_ceil(workers.max(1) as u64)),
            });
        }
        faults
    }
}

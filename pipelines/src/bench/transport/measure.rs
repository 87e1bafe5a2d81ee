//! The measurements inside the workers.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use advect_engine::fabric::Context;
use advect_engine::{
    Batch, DType, Data, Fabric, Layout, Mesh, Monoid, Placement, Relayout, Result, Shard, relayout,
};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::channels::pact::ExchangeCore;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::{Input, Inspect};
use timely::worker::Worker;

use super::{Move, SIZES, Times};

type Batches = CapacityContainerBuilder<Batch>;

/// MPI's own calls between the two processes.
pub(super) trait Mpi: Send + Sync {
    /// There and back.
    fn ping_pong(&self, buffer: &mut [u8]);
    /// Sums into the second slice.
    fn all_reduce(&self, parts: &[f32], sums: &mut [f32]);
}

/// How often to measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// Turns that the sides take.
    pub(super) turns: usize,
    /// Bytes that one side moves in a turn, at least; one repetition in any case.
    pub(super) bytes: usize,
    /// Repetitions of one turn at most.
    pub(super) most: usize,
}

/// What one worker has measured: times, and the idle share of its process in percent.
pub(super) type Measured = (Times, f64);

/// Runs all measurements on a fabric of two workers; the answer is that of the first one here.
pub(super) fn measure(
    fabric: &Fabric,
    effort: Effort,
    mpi: Option<Arc<dyn Mpi>>,
) -> Result<Measured> {
    let all =
        fabric.run(move |worker, context| all_moves(worker, context, effort, mpi.as_deref()))?;
    Ok(all.into_iter().next().unwrap_or_default())
}

fn all_moves(
    worker: &mut Worker,
    context: &Context,
    effort: Effort,
    mpi: Option<&dyn Mpi>,
) -> Measured {
    let mut times = Times::new();
    let mut add = |what, bytes, t: Vec<f64>| times.entry((what, bytes)).or_default().extend(t);
    for (bytes, _) in SIZES {
        let repetitions = (effort.bytes / bytes).clamp(1, effort.most);
        let mut ball = Ball::new(worker, context, bytes);
        let mut sum = AllReduce::new(worker, context, bytes);
        let mut buffer = vec![1u8; bytes];
        let (parts, mut sums) = (vec![1f32; bytes / 4], vec![0f32; bytes / 4]);
        for turn in 0..=effort.turns {
            let point = time(repetitions, || ball.there_and_back(worker, context));
            let reduced = time(repetitions, || sum.once(worker, context));
            let theirs = mpi.map(|mpi| {
                (
                    time(repetitions, || mpi.ping_pong(&mut buffer)),
                    time(repetitions, || mpi.all_reduce(&parts, &mut sums)),
                )
            });
            // the first turn brings memory and caches into the state of the others
            if turn > 0 {
                add(Move::PointToPoint, bytes, point);
                add(Move::AllReduce, bytes, reduced);
                if let Some((send, reduce)) = theirs {
                    add(Move::MpiSend, bytes, send);
                    add(Move::MpiAllReduce, bytes, reduce);
                }
            }
        }
    }
    let idle = idle_share(worker, context);
    (times, idle)
}

fn time(repetitions: usize, mut f: impl FnMut()) -> Vec<f64> {
    let one = |_| {
        let begun = Instant::now();
        f();
        begun.elapsed().as_secs_f64()
    };
    (0..repetitions).map(one).collect()
}

/// Shards that have come out of a dataflow.
type Landed = Rc<RefCell<Vec<Shard>>>;

/// A tensor that goes from worker 0 to worker 1 and back.
struct Ball {
    input: InputHandle<u64, Batches>,
    landed: Landed,
    here: Option<Data>,
    epoch: u64,
}

impl Ball {
    fn new(worker: &mut Worker, context: &Context, bytes: usize) -> Self {
        let mut input = InputHandle::new();
        let landed = Landed::default();
        let sink = Rc::clone(&landed);
        let route = ExchangeCore::<Batches, _>::new(|s: &Shard| u64::from(s.to));
        worker.dataflow::<u64, _, _>(|scope| {
            scope
                .input_from(&mut input)
                .unary::<Batches, _, _, _>(route, "Land", move |_, _| {
                    move |input, _output| {
                        input.for_each(|_, batch| sink.borrow_mut().append(&mut batch.shards));
                    }
                });
        });
        let here = (context.index == 0).then(|| vec![1f32; bytes / 4].into());
        Ball {
            input,
            landed,
            here,
            epoch: 0,
        }
    }

    fn there_and_back(&mut self, worker: &mut Worker, context: &Context) {
        if context.index == 0 {
            self.throw(context);
            self.land(worker, context);
        } else {
            self.land(worker, context);
            self.throw(context);
        }
    }

    fn throw(&mut self, context: &Context) {
        if let Some(data) = self.here.take() {
            let shard = Shard::new(0, vec![data.len()], data);
            self.input
                .send(shard.addressed(context.index, 1 - context.index));
        }
        // what is sent leaves when its epoch ends
        self.epoch += 1;
        self.input.advance_to(self.epoch);
    }

    fn land(&mut self, worker: &mut Worker, context: &Context) {
        context.drive(worker, || self.landed.borrow().is_empty());
        self.here = self.landed.borrow_mut().pop().map(Shard::into_data);
    }
}

/// The sum of a tensor over the workers, by relayout.
struct AllReduce {
    input: InputHandle<u64, Batches>,
    landed: Landed,
    part: Data,
    epoch: u64,
}

impl AllReduce {
    fn new(worker: &mut Worker, context: &Context, bytes: usize) -> Self {
        let mesh = Mesh::line("x", context.peers);
        let partial = Layout::new([Placement::Partial(Monoid::Sum)]);
        let same = Layout::same(&mesh);
        let plan = Relayout::plan(&mesh, &[bytes / 4], DType::F32, &partial, &same);
        let mut input = InputHandle::new();
        let landed = Landed::default();
        let sink = Rc::clone(&landed);
        worker.dataflow::<u64, _, _>(|scope| {
            let stream = scope.input_from(&mut input);
            // a partial and a copy fit every mesh: there is always a plan
            if let Ok(plan) = &plan {
                relayout(stream, plan).inspect_core(move |event| {
                    if let Ok((_, batch)) = event {
                        sink.borrow_mut().extend(batch.shards.iter().cloned());
                    }
                });
            }
        });
        AllReduce {
            input,
            landed,
            part: vec![1f32; bytes / 4].into(),
            epoch: 0,
        }
    }

    fn once(&mut self, worker: &mut Worker, context: &Context) {
        let shard = Shard::new(0, vec![self.part.len()], self.part.clone());
        self.input
            .send(shard.addressed(context.index, context.index));
        self.epoch += 1;
        self.input.advance_to(self.epoch);
        context.drive(worker, || self.landed.borrow().is_empty());
        for shard in self.landed.borrow_mut().drain(..) {
            std::hint::black_box(shard.data());
        }
    }
}

/// Share of a core that this process takes while its workers wait, in percent.
fn idle_share(worker: &mut Worker, context: &Context) -> f64 {
    let wait = |worker: &mut Worker, time| {
        let begun = Instant::now();
        context.drive(worker, || begun.elapsed() < time);
    };
    wait(worker, Duration::from_millis(500));
    let (before, begun) = (processor_time(), Instant::now());
    wait(worker, Duration::from_secs(1));
    100.0 * (processor_time() - before) / begun.elapsed().as_secs_f64()
}

/// Processor time of this process so far, in seconds.
fn processor_time() -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the call fills the structure that it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Bandwidth of a copy in memory that was touched before, in GB/s, by repetition.
pub(super) fn copy_rate(bytes: usize, effort: Effort) -> Vec<f64> {
    let (from, mut to) = (vec![1u8; bytes], vec![0u8; bytes]);
    let repetitions = effort.turns * (effort.bytes / bytes).clamp(1, effort.most);
    let copy = || {
        to.copy_from_slice(std::hint::black_box(&from));
        std::hint::black_box(&mut to);
    };
    let times = time(repetitions, copy);
    times.iter().map(|t| bytes as f64 / t * 1e-9).collect()
}

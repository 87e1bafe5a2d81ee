//! What every rank of an MPI job runs; `scripts/test-mpi.sh` starts it under `mpirun`.
//!
//! * `laws THREADS`: every relayout against the reference, in small and in large tensors.
//! * `large`: a payload of more than 2 GiB.
//! * `unread`: payloads that nobody takes do not stop the end of the job.
//! * `idle`: a parked worker leaves its core alone.
//! * `panic`, `kill`: the last rank fails; the job must end.

mod shared;

use std::time::{Duration, Instant};

use advect_engine::{Batch, DType, Data, Fabric, Shard};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::channels::pact::ExchangeCore;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::{Input, Probe};
use timely::worker::Worker;

type Batches = CapacityContainerBuilder<Batch>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let what = arguments.first().map_or("laws", String::as_str);
    let number = arguments.get(1).and_then(|a| a.parse().ok());
    let fabric = Fabric::named("mpi", number.unwrap_or(1)).expect("MPI starts");
    let last = fabric.process() + 1 == fabric.workers() / number.unwrap_or(1);
    match what {
        "large" => large(&fabric),
        "unread" => unread(&fabric),
        "idle" => idle(&fabric),
        "panic" | "kill" => fail(&fabric, what == "kill", last),
        // also what the test runner of cargo passes
        _ => {
            let small = shared::check(&fabric, &[5, 7, 3]);
            let large = shared::check(&fabric, &[37, 31, 60]);
            println!("{fabric}: {small} small and {large} large relayouts hold");
        }
    }
}

/// Sends one tensor of zeros but for its ends to the last worker; `look` sees it there.
fn send_one(
    worker: &mut Worker,
    peers: usize,
    len: usize,
    look: fn(&Shard),
) -> impl Fn() -> bool + use<> {
    let mut input = InputHandle::<u64, Batches>::new();
    let route = ExchangeCore::<Batches, _>::new(|s: &Shard| u64::from(s.to));
    let (index, last) = (worker.index(), peers - 1);
    let probe = worker.dataflow::<u64, _, _>(|scope| {
        scope
            .input_from(&mut input)
            .unary::<Batches, _, _, _>(route, "Look", move |_, _| {
                move |input, _output| {
                    input.for_each(|_, batch| batch.shards.drain(..).for_each(|s| look(&s)));
                }
            })
            .probe()
            .0
    });
    if index == 0 {
        let mut v = vec![0i64; len];
        (v[0], v[len - 1]) = (7, 9);
        input.send(Shard::new(0, vec![len], v.into()).addressed(0, last));
    }
    input.close();
    move || !probe.done()
}

/// 2.5 GiB arrive whole, in several messages.
fn large(fabric: &Fabric) {
    const LEN: usize = 5 << 26;
    let peers = fabric.workers();
    let run = fabric.run(move |worker, context| {
        let more = send_one(worker, peers, LEN, |s| {
            let v: &[i64] = s.elements();
            assert_eq!((v.len(), v[0], v[1], v[LEN - 1]), (LEN, 7, 0, 9));
            println!("{} bytes arrived", s.bytes_len());
        });
        context.drive(worker, more);
    });
    run.expect("runs");
}

/// An operator drops what it gets unread.
fn unread(fabric: &Fabric) {
    let peers = fabric.workers();
    let run = fabric.run(move |worker, context| {
        for _ in 0..20 {
            let more = send_one(worker, peers, 1 << 17, |_| ());
            context.drive(worker, more);
        }
    });
    run.expect("runs");
    println!("unread payloads are let go");
}

/// Processor time of this process, in seconds.
fn processor_time() -> f64 {
    // SAFETY: getrusage fills the structure it is given.
    let usage = unsafe {
        let mut usage = std::mem::zeroed::<libc::rusage>();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// Workers are parked for two seconds, while one sleeps.
fn idle(fabric: &Fabric) {
    let peers = fabric.workers();
    let run = fabric.run(move |worker, context| {
        if context.index + 1 == peers {
            std::thread::sleep(Duration::from_secs(3));
        }
        let more = send_one(worker, peers, 1 << 16, |s| {
            assert_eq!(s.dtype(), DType::I64);
        });
        // half a second to start, then two that count
        let begun = Instant::now();
        context.drive(worker, || begun.elapsed() < Duration::from_millis(500));
        let (from, parked) = (processor_time(), Instant::now());
        context.drive(worker, || {
            more() && parked.elapsed() < Duration::from_secs(2)
        });
        let share = 100.0 * (processor_time() - from) / parked.elapsed().as_secs_f64();
        context.drive(worker, more);
        (context.index + 1 < peers).then_some(share)
    });
    for share in run.expect("runs").into_iter().flatten() {
        println!("{fabric}: a parked worker takes {share:.2} % of a core");
        // what it takes exactly is measured by `advect bench transport`
        assert!(share < 50.0, "an idle rank spins: {share:.2} % of a core");
    }
}

/// The last rank fails while the others wait for it.
fn fail(fabric: &Fabric, kill: bool, last: bool) {
    let run = fabric.run(move |worker, context| {
        let mut input = InputHandle::<u64, Batches>::new();
        let probe = worker.dataflow::<u64, _, _>(|scope| scope.input_from(&mut input).probe().0);
        input.send(Shard::new(0, vec![1], Data::zeros(DType::F32, 1)));
        if last {
            std::thread::sleep(Duration::from_millis(300));
            if kill {
                // SAFETY: no memory is touched.
                unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
            }
            panic!("struck by lightning");
        }
        // this one never closes its input: without the alarm it would wait for ever
        context.drive(worker, || !probe.done());
    });
    match run {
        Ok(_) => println!("the job went on without one of its ranks"),
        Err(e) => {
            eprintln!("rank {}: {e}", fabric.process());
            std::process::exit(3);
        }
    }
}

//! The job that is observed.

use std::net::TcpListener;
use std::time::Duration;

use advect_engine::fabric::Context;
use advect_engine::observe::Options;
use advect_engine::{EngineError, Fabric};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::{Input, Probe};
use timely::worker::Worker;

type Records = CapacityContainerBuilder<Vec<u64>>;
/// Steps of the pipeline below, and records that each worker gives in each.
pub(crate) const STEPS: u64 = 20;
pub(crate) const RECORDS: u64 = 8;

/// What is to go wrong in the pipeline, at which step, on worker 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fault {
    None,
    Panic(u64),
    Sleep(u64, Duration),
    /// The source no longer moves.
    Hold(u64),
}

/// Every worker gives records at each tick, they are exchanged, and "Solve" takes them up.
pub(crate) fn pipeline(worker: &mut Worker, context: &Context, fault: Fault) {
    let mut input = InputHandle::<u64, Records>::new();
    let me = context.index;
    let probe = worker.dataflow_named::<u64, _, _>("Training", |scope| {
        let route = Exchange::new(|x: &u64| *x);
        let shared =
            scope
                .input_from(&mut input)
                .unary::<Records, _, _, _>(route, "Share", |_, _| {
                    |input, output| {
                        input.for_each(|cap, data| output.session(&cap).give_container(data))
                    }
                });
        let solved = shared.unary_frontier::<Records, _, _, _>(Pipeline, "Solve", move |_, _| {
            move |(input, frontier), output| {
                input.for_each(|cap, data| output.session(&cap).give_container(data));
                let late = |step| me == 1 && !frontier.less_equal(&step);
                match fault {
                    Fault::Panic(step) if late(step) => panic!("singular matrix"),
                    Fault::Sleep(step, time) if late(step) => std::thread::sleep(time),
                    _ => {}
                }
            }
        });
        solved.probe().0
    });
    for step in 0..STEPS {
        for i in 0..RECORDS {
            input.send(step * RECORDS + i);
        }
        if me == 1 && fault == Fault::Hold(step) {
            context.drive(worker, || true);
        }
        input.advance_to(step + 1);
        context.drive(worker, || probe.less_than(&(step + 1)));
    }
}

/// `processes` of two workers each over TCP, as threads of this process.
pub(crate) fn over_tcp<R: Send + 'static>(
    processes: usize,
    options: impl Fn() -> Options,
    pipeline: impl Fn(&mut Worker, &Context) -> R + Send + Sync + Clone + 'static,
) -> (Vec<String>, Vec<Result<Vec<R>, EngineError>>) {
    let free: Vec<_> = (0..processes)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let hosts: Vec<String> = free
        .iter()
        .map(|l| l.local_addr().unwrap().to_string())
        .collect();
    drop(free);
    let runs: Vec<_> = (0..processes)
        .map(|process| {
            let fabric = Fabric::Tcp {
                threads: 1,
                process,
                hosts: hosts.clone(),
            };
            let (options, pipeline) = (options(), pipeline.clone());
            std::thread::spawn(move || fabric.run_with(&options, pipeline))
        })
        .collect();
    (hosts, runs.into_iter().map(|r| r.join().unwrap()).collect())
}

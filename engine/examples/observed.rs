//! What observing costs: `cargo run --release -p advect-engine --example observed`.
//!
//! Ends with one line for each case, such as `50 idle operators: … ratio 1.40`: the time of a
//! timestamp observed over that with nothing observed, medians of runs that alternate.

use std::time::Instant;

use advect_engine::Fabric;
use advect_engine::fabric::Context;
use advect_engine::observe::Options;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::InputHandle;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator;
use timely::dataflow::operators::{Input, Probe};
use timely::worker::Worker;

type Records = CapacityContainerBuilder<Vec<f64>>;

const OPERATORS: usize = 50;
const REPEATS: usize = 7;

/// Seconds per timestamp of a chain of operators that each pass over `records` numbers.
fn chain(worker: &mut Worker, context: &Context, records: usize, steps: u64) -> f64 {
    let mut input = InputHandle::<u64, Records>::new();
    let probe = worker.dataflow::<u64, _, _>(|scope| {
        let mut stream = scope.input_from(&mut input);
        for _ in 0..OPERATORS {
            stream = stream.unary_frontier::<Records, _, _, _>(Pipeline, "Pass", |_, _| {
                |(input, _), output| {
                    input.for_each(|cap, data| {
                        data.iter_mut().for_each(|x| *x = (*x + 1.0).sqrt());
                        output.session(&cap).give_container(data);
                    });
                }
            });
        }
        stream.probe().0
    });
    let mut step = 0;
    let mut advance = |many: u64| {
        for _ in 0..many {
            if records > 0 {
                input.send_batch(&mut vec![1.0; records]);
            }
            step += 1;
            input.advance_to(step);
            context.drive(worker, || probe.less_than(&step));
        }
    };
    advance(steps / 10);
    let begun = Instant::now();
    advance(steps);
    begun.elapsed().as_secs_f64() / steps as f64
}

fn main() -> Result<(), advect_engine::EngineError> {
    let folder = std::env::temp_dir().join(format!("observed-{}", std::process::id()));
    let cases = [
        ("50 idle operators", 0, 2000),
        ("50 operators, 1 record", 1, 2000),
        ("50 operators, 100,000 records", 100_000, 20),
    ];
    for (name, records, steps) in cases {
        let ways = [
            Options::bare(),
            Options::default(),
            Options::default().metrics("127.0.0.1:0"),
            Options::default().trace(folder.join("trace.json")),
        ];
        let mut times = vec![Vec::new(); ways.len()];
        for _ in 0..REPEATS {
            for (way, times) in ways.iter().zip(&mut times) {
                let run = move |w: &mut Worker, c: &Context| chain(w, c, records, steps);
                times.extend(Fabric::Threads(1).run_with(way, run)?);
            }
        }
        let median = |times: &mut Vec<f64>| {
            times.sort_by(f64::total_cmp);
            times[times.len() / 2]
        };
        let us: Vec<f64> = times.iter_mut().map(|t| median(t) * 1e6).collect();
        println!(
            "{name}: bare {:.1} us a timestamp; ratio {:.2}, with metrics {:.2}, with a trace {:.2}",
            us[0],
            us[1] / us[0],
            us[2] / us[0],
            us[3] / us[0]
        );
    }
    let _ = std::fs::remove_dir_all(folder);
    Ok(())
}

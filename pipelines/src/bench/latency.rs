//! `latency`: what one timestamp costs that passes through a chain of 50 operators.
//!
//! Ours is a graph of 50 differentiable operators, started by a fabric; the reference is a chain of
//! 50 `unary` of timely on a plain timely worker. Each round is one timestamp, with nothing or with
//! one small record on every worker, and ends when the frontier has left the chain. The sides take
//! turns.

use std::time::Instant;

use advect_engine::graph::{Saved, Site, Streams};
use advect_engine::{
    Batch, DType, EngineError, Fabric, Graph, Layout, Mesh, Operator, Placement, Result, Shard,
    Spec,
};
use timely::Config;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::operator::Operator as _;
use timely::dataflow::operators::{Input as _, Probe};
use timely::dataflow::{InputHandle, ProbeHandle};

use super::{BenchError, Figure, Options, Report, median};

const NAME: &str = "latency";
/// Operators of the chain.
const LENGTH: usize = 50;
/// Numbers of the record.
const NUMBERS: usize = 16;
/// Rounds before those that count.
const WARM: u64 = 200;

/// y = c x.
#[derive(Debug)]
struct Scale(f64);

impl Scale {
    fn apply(&self, site: &Site, x: &Shard) -> Shard {
        let y: Vec<f64> = x.elements::<f64>().iter().map(|x| self.0 * x).collect();
        Shard::new(site.key(), x.shape.clone(), y.into())
    }
}

impl Operator for Scale {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Ok(inputs.to_vec())
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        let y = inputs.iter().map(|x| self.apply(site, x)).collect();
        Ok((y, Saved::nothing()))
    }

    fn tangent(&self, site: &Site, _: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        Ok(tangents.iter().map(|t| self.apply(site, t)).collect())
    }

    fn adjoint(
        &self,
        site: &Site,
        _: &Saved,
        cotangents: &[Shard],
        _: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        Ok(cotangents
            .iter()
            .map(|c| Some(self.apply(site, c)))
            .collect())
    }
}

/// Measures, and gives the figures to the report.
pub(super) fn run(options: &Options, report: &mut Report) -> std::result::Result<(), BenchError> {
    let (turns, rounds) = if options.quick { (2, 300) } else { (7, 2000) };
    for threads in [1, 2] {
        for (record, what) in [(false, "nothing"), (true, "one small record")] {
            let (mut ours, mut plain) = (Vec::new(), Vec::new());
            for _ in 0..turns {
                let measured =
                    by_graph(threads, record, rounds).map_err(|source| BenchError::Engine {
                        bench: NAME,
                        source,
                    })?;
                ours.push(median(&measured));
                let measured = by_timely(threads, record, rounds);
                let measured = measured.map_err(|why| BenchError::failed(NAME, why))?;
                plain.push(median(&measured));
            }
            let workers = if threads == 1 {
                "1 worker"
            } else {
                "2 workers"
            };
            let case = format!("a timestamp with {what}, {LENGTH} operators, {workers} / timely");
            report.give(Figure::new(NAME, case, median(&ours), "us").beside(median(&plain)));
        }
    }
    Ok(())
}

/// Microseconds of each round through a graph, as the first worker sees them.
fn by_graph(threads: usize, record: bool, rounds: u64) -> Result<Vec<f64>> {
    let mesh = Mesh::line("x", threads);
    let spec = Spec::new(
        [NUMBERS * threads],
        DType::F64,
        Layout::new([Placement::Split { dim: 0 }]),
    );
    let mut graph = Graph::new(mesh);
    let mut value = graph.input("x", spec)?;
    for at in 0..LENGTH {
        value = graph.apply(&format!("scale {at}"), Scale(1.0), &[value])?;
    }
    graph.output("y", value)?;
    let all = Fabric::Threads(threads).run(move |worker, context| {
        let mut input = InputHandle::<u64, CapacityContainerBuilder<Batch>>::new();
        let probe = ProbeHandle::<u64>::new();
        let wired = worker.dataflow::<u64, _, _>(|scope| {
            let feeds = Streams::from([("x".to_owned(), scope.input_from(&mut input))]);
            let wired = graph.wire(feeds)?;
            wired.stream(value).probe_with(&probe);
            Ok::<(), EngineError>(())
        });
        let mut times = Vec::with_capacity(rounds as usize);
        for round in 0..WARM + rounds {
            let begun = Instant::now();
            if record {
                input.send(Shard::new(0, vec![NUMBERS], vec![1f64; NUMBERS].into()));
            }
            input.advance_to(round + 1);
            context.drive(worker, || probe.less_than(&(round + 1)));
            if round >= WARM {
                times.push(begun.elapsed().as_secs_f64() * 1e6);
            }
        }
        wired.map(|()| times)
    })?;
    all.into_iter().next().unwrap_or_else(|| Ok(Vec::new()))
}

/// The same by timely alone.
fn by_timely(threads: usize, record: bool, rounds: u64) -> std::result::Result<Vec<f64>, String> {
    let config = match threads {
        1 => Config::thread(),
        n => Config::process(n),
    };
    let guards = timely::execute(config, move |worker| {
        let probe = ProbeHandle::<u64>::new();
        let mut input = worker.dataflow::<u64, _, _>(|scope| {
            let (input, mut stream) = scope.new_input::<Vec<Vec<f64>>>();
            for _ in 0..LENGTH {
                stream = stream.unary::<CapacityContainerBuilder<Vec<Vec<f64>>>, _, _, _>(
                    Pipeline,
                    "Scale",
                    |_, _| {
                        |input, output| {
                            input.for_each(|cap, data: &mut Vec<Vec<f64>>| {
                                let scaled = data
                                    .drain(..)
                                    .map(|x| x.iter().map(|x| 1.0 * x).collect::<Vec<f64>>());
                                output.session(&cap).give_iterator(scaled);
                            });
                        }
                    },
                );
            }
            stream.probe_with(&probe);
            input
        });
        let mut times = Vec::with_capacity(rounds as usize);
        for round in 0..WARM + rounds {
            let begun = Instant::now();
            if record {
                input.send(vec![1f64; NUMBERS]);
            }
            input.advance_to(round + 1);
            while probe.less_than(&(round + 1)) {
                worker.step_or_park(None);
            }
            if round >= WARM {
                times.push(begun.elapsed().as_secs_f64() * 1e6);
            }
        }
        times
    })?;
    guards
        .join()
        .into_iter()
        .next()
        .unwrap_or_else(|| Ok(Vec::new()))
}

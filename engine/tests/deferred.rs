//! Cotangents of parameters that are made when nothing else is to do: all of them come, in one order, and
//! no more moments than allowed wait for theirs.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use advect_engine::graph::{Saved, Site, Streams, Wiring};
use advect_engine::source::tensors;
use advect_engine::{
    DType, Fabric, Graph, Layout, Mesh, Operator, Placement, Result, Shard, Spec, Tick,
};
use timely::dataflow::ProbeHandle;
use timely::dataflow::operators::{Inspect, Probe};

/// What an operator did, by chunk and micro-batch.
type Log = Arc<Mutex<Vec<(char, usize, u64)>>>;

/// y = x w on single numbers, that notes what it does.
#[derive(Debug)]
struct Product {
    chunk: usize,
    log: Log,
}

impl Product {
    fn note(&self, what: char, site: &Site) {
        let entry = (what, self.chunk, site.moment()[1]);
        self.log.lock().expect("nobody panics").push(entry);
    }
}

impl Operator for Product {
    fn infer(&self, _: &Mesh, inputs: &[Spec]) -> Result<Vec<Spec>> {
        Ok(inputs[..1].to_vec())
    }

    fn forward(&self, site: &Site, inputs: &[Shard]) -> Result<(Vec<Shard>, Saved)> {
        self.note('F', site);
        let y = inputs[0].elements::<f64>()[0] * inputs[1].elements::<f64>()[0];
        Ok((
            vec![Shard::new(site.key(), vec![1], vec![y].into())],
            Saved::nothing(),
        ))
    }

    fn keeps(&self) -> &[usize] {
        &[0, 1]
    }

    fn separable(&self) -> bool {
        true
    }

    fn tangent(&self, _: &Site, _: &Saved, tangents: &[Shard]) -> Result<Vec<Shard>> {
        Ok(tangents[..1].to_vec())
    }

    fn adjoint(
        &self,
        site: &Site,
        saved: &Saved,
        cotangents: &[Shard],
        wanted: &[bool],
    ) -> Result<Vec<Option<Shard>>> {
        let times = |i: usize| -> Result<Shard> {
            let by = saved.input(site, i)?.elements::<f64>()[0];
            let y = cotangents[0].elements::<f64>()[0] * by;
            Ok(Shard::new(site.key(), vec![1], vec![y].into()))
        };
        for (what, _) in ['B', 'W']
            .into_iter()
            .zip(wanted)
            .filter(|(_, wanted)| **wanted)
        {
            self.note(what, site);
        }
        Ok(vec![
            wanted[0].then(|| times(1)).transpose()?,
            wanted[1].then(|| times(0)).transpose()?,
        ])
    }
}

/// The gradients of `chunks` products over `micros` moments, and what was done, on `stages` workers.
fn run(
    stages: usize,
    chunks: usize,
    micros: usize,
    deferred: Option<usize>,
) -> (Vec<f64>, Vec<(char, usize, u64)>) {
    let log = Log::default();
    let at = |at: usize| Layout::new([Placement::At { at }]);
    let mut graph = Graph::new(Mesh::line("stage", stages));
    let mut x = graph
        .input("x", Spec::new([1], DType::F64, at(0)))
        .expect("it fits");
    let mut names = Vec::new();
    for chunk in 0..chunks {
        let (here, name) = (at(chunk % stages), format!("w{chunk}"));
        x = graph.relayout(x, &here).expect("it fits");
        let w = Spec::new([1], DType::F64, here);
        let w = graph.parameter(&name, w).expect("it fits");
        let log = Arc::clone(&log);
        let product = Product { chunk, log };
        x = graph
            .apply(&format!("chunk {chunk}"), product, &[x, w])
            .expect("it fits");
        names.push(name);
    }
    // x stays wanted, so that the first product has both to answer
    graph.output("y", x).expect("it is free");
    let outcome = Fabric::Threads(stages).run(move |worker, context| {
        let probe = ProbeHandle::<Tick>::new();
        let in_flight = Some(stages - context.index);
        let wiring = Wiring {
            in_flight,
            deferred,
            ..Wiring::default()
        };
        let found: Rc<RefCell<Vec<f64>>> = Rc::default();
        worker.dataflow::<Tick, _, _>(|scope| {
            let piece = |at: usize, number: f64| match at == scope.index() {
                true => Shard::new(0, vec![1], vec![number].into()),
                false => Shard::new(0, vec![0], Vec::<f64>::new().into()),
            };
            let numbers = (0..micros).map(|i| piece(0, 1.0 + i as f64)).collect();
            let mut feeds =
                Streams::from([("x".to_owned(), tensors(scope, "x", moments(numbers)))]);
            for (chunk, name) in names.iter().enumerate() {
                let w = vec![piece(chunk % stages, 1.0 + chunk as f64 / 7.0)];
                feeds.insert(name.clone(), tensors(scope, name, moments(w)));
            }
            let wired = graph
                .wire_with(feeds, wiring)
                .expect("all sources are there");
            let seeds = Streams::from([("y".to_owned(), wired.stream(x))]);
            let mut asked: Vec<&str> = names.iter().map(String::as_str).collect();
            asked.push("x");
            let back = graph
                .backward(&wired, seeds, &asked)
                .expect("all are reached");
            for (name, stream) in back {
                let found = Rc::clone(&found);
                let seen = stream.inspect_core(move |event| {
                    if let Ok((_, batch)) = event
                        && name != "x"
                    {
                        let numbers = batch.shards.iter().flat_map(|s| s.elements::<f64>());
                        found.borrow_mut().extend(numbers);
                    }
                });
                seen.probe_with(&probe);
            }
        });
        context.drive(worker, || !probe.done());
        found.take()
    });
    let mut found: Vec<f64> = outcome.expect("it runs").into_iter().flatten().collect();
    found.sort_by(f64::total_cmp);
    let done = log.lock().expect("nobody panics").clone();
    (found, done)
}

/// One tensor after the other, each at the next micro-batch.
fn moments(pieces: Vec<Shard>) -> Vec<(Tick, Shard)> {
    (0..).map(|micro| Tick::new(0, micro)).zip(pieces).collect()
}

/// On one worker and on stages, with room for one moment and for more, the gradients have the same bits,
/// and every action is taken once.
#[test]
fn all_gradients_come_later() {
    for (stages, chunks) in [(1, 1), (1, 3), (2, 2), (4, 4), (2, 4)] {
        let (want, _) = run(stages, chunks, 6, None);
        assert_eq!(want.len(), chunks);
        for deferred in [stages, stages + 2] {
            let (got, done) = run(stages, chunks, 6, Some(deferred));
            assert_eq!(
                want, got,
                "{stages} stages, {chunks} chunks, {deferred} deferred"
            );
            assert_eq!(done.len(), 3 * 6 * chunks);
        }
    }
}

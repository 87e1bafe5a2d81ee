//! What workers do when: moments pass one behind the other, no more of them are in work than allowed, and
//! cotangents of parameters that are made when nothing else is to do all come, in one order.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

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
    /// Begins when the first chunk has been passed by so many moments.
    after: usize,
}

impl Product {
    /// Waits until the first chunk has been passed by as many moments as it waits for.
    fn wait(&self) {
        let begun = Instant::now();
        let passed = || {
            let log = self.log.lock().expect("nobody panics");
            log.iter()
                .filter(|done| (done.0, done.1) == ('F', 0))
                .count()
        };
        while passed() < self.after {
            assert!(begun.elapsed() < Duration::from_secs(60), "they never come");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

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
        self.wait();
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

/// A chain of products on a line of workers.
#[derive(Debug, Clone, Copy)]
struct Chain {
    stages: usize,
    chunks: usize,
    micros: usize,
    /// Whether a stage has only moments of its depth in work.
    limited: bool,
    deferred: Option<usize>,
    /// Moments that the first chunk has passed before the last begins.
    after: usize,
}

/// The gradients of all products, and what was done.
fn run(chain: Chain) -> (Vec<f64>, Vec<(char, usize, u64)>) {
    let Chain {
        stages,
        chunks,
        micros,
        ..
    } = chain;
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
        let after = if chunk + 1 == chunks { chain.after } else { 0 };
        let product = Product { chunk, log, after };
        x = graph
            .apply(&format!("chunk {chunk}"), product, &[x, w])
            .expect("it fits");
        names.push(name);
    }
    // x stays wanted, so that the first product has both to answer
    graph.output("y", x).expect("it is free");
    let outcome = Fabric::Threads(stages).run(move |worker, context| {
        let probe = ProbeHandle::<Tick>::new();
        let wiring = Wiring {
            in_flight: chain.limited.then_some(stages - context.index),
            deferred: chain.deferred,
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
        let chain = Chain {
            stages,
            chunks,
            micros: 6,
            limited: true,
            deferred: None,
            after: 0,
        };
        let (want, _) = run(chain);
        assert_eq!(want.len(), chunks);
        for room in [stages, stages + 2] {
            let deferred = Some(room);
            let (got, done) = run(Chain { deferred, ..chain });
            assert_eq!(
                want, got,
                "{stages} stages, {chunks} chunks, {room} deferred"
            );
            assert_eq!(done.len(), 3 * 6 * chunks);
        }
    }
}

/// A moment flows on, to the last chunk and back, before the next is begun: on one worker nothing is kept
/// of more than one, although no limit is set.
#[test]
fn moments_pass_one_behind_the_other() {
    let (_, done) = run(Chain {
        stages: 1,
        chunks: 3,
        micros: 5,
        limited: false,
        deferred: None,
        after: 0,
    });
    let micros: Vec<u64> = done.iter().map(|(_, _, micro)| *micro).collect();
    assert!(micros.is_sorted(), "{done:?}");
    assert_eq!(done.len(), 3 * 3 * 5);
}

/// While the last stage waits, the first takes all moments without a limit, and those of its depth with one.
#[test]
fn depth_bounds_what_is_in_work() {
    let chain = Chain {
        stages: 4,
        chunks: 4,
        micros: 12,
        limited: false,
        deferred: None,
        after: 12,
    };
    let most = |done: &[(char, usize, u64)], chunk: usize| {
        let mut now = 0_usize;
        let of = done.iter().filter(|entry| entry.1 == chunk);
        of.map(|entry| {
            match entry.0 {
                'F' => now += 1,
                'B' => now -= 1,
                _ => {}
            }
            now
        })
        .max()
    };
    let (want, free) = run(chain);
    assert_eq!(most(&free, 0), Some(12), "nothing bounds it");
    let (got, bound) = run(Chain {
        limited: true,
        after: 4,
        ..chain
    });
    assert_eq!(want, got);
    assert_eq!(most(&bound, 0), Some(4), "the first stage fills up");
    for chunk in 1..4 {
        assert!(most(&bound, chunk) <= Some(4 - chunk), "{chunk}: {bound:?}");
    }
}

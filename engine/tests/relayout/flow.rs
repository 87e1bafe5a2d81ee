//! The dataflow gives the bits of the in-memory reference.

use std::cell::RefCell;
use std::rc::Rc;

use advect_engine::{Batch, DType, Data, Fabric, Layout, Mesh, Placement, Relayout, relayout};
use timely::dataflow::Stream as TimelyStream;
use timely::dataflow::operators::Inspect;
use timely::dataflow::operators::core::ToStream;

use super::{SHAPE, halos, kinds, pieces, shards};

fn run_pairs(fabric: &Fabric, pairs: Vec<(Layout, Layout)>) -> Vec<Vec<Data>> {
    let results = fabric.run(move |worker, context| {
        let mesh = Mesh::line("x", context.peers);
        let got = Rc::new(RefCell::new(Vec::new()));
        for (i, (from, to)) in pairs.iter().enumerate() {
            let plan = Relayout::plan(&mesh, &SHAPE, DType::F64, from, to).unwrap();
            let mine = shards(&mesh, from, pieces(&mesh, from, 1)).swap_remove(context.index);
            let sink = Rc::clone(&got);
            worker.dataflow::<u64, _, _>(|scope| {
                let source: TimelyStream<u64, Batch> = Some(mine).to_stream(scope);
                relayout(source, &plan).inspect_core(move |event| {
                    if let Ok((_, batch)) = event {
                        sink.borrow_mut()
                            .extend(batch.shards.iter().map(|s| s.data().clone()));
                    }
                });
            });
            context.drive(worker, || got.borrow().len() <= i);
        }
        got.take()
    });
    results.expect("runs")
}

/// What every worker should get, by the in-memory reference.
fn expected(workers: usize, pairs: &[(Layout, Layout)]) -> Vec<Vec<Data>> {
    let mesh = Mesh::line("x", workers);
    let mut all = vec![Vec::new(); workers];
    for (from, to) in pairs {
        let plan = Relayout::plan(&mesh, &SHAPE, DType::F64, from, to).unwrap();
        let moved = plan
            .apply(&shards(&mesh, from, pieces(&mesh, from, 1)))
            .unwrap();
        for (w, s) in moved.into_iter().enumerate() {
            all[w].push(s.into_data());
        }
    }
    all
}

fn all_pairs(workers: usize) -> Vec<(Layout, Layout)> {
    let all: Vec<Placement> = kinds(workers).into_iter().chain(halos()).collect();
    let one = |p: &Placement| Layout::new([*p]);
    all.iter()
        .flat_map(|a| all.iter().map(move |b| (one(a), one(b))))
        .collect()
}

/// Threads give the bits of the reference.
#[test]
fn flow_over_threads() {
    for workers in [1, 2, 3, 4] {
        let got = run_pairs(&Fabric::Threads(workers), all_pairs(workers));
        assert_eq!(
            got,
            expected(workers, &all_pairs(workers)),
            "{workers} workers"
        );
    }
}

/// Two processes of two threads over TCP give the bits of the reference.
#[test]
fn flow_over_tcp() {
    let free: Vec<_> = (0..2)
        .map(|_| std::net::TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let hosts: Vec<String> = free
        .iter()
        .map(|l| l.local_addr().unwrap().to_string())
        .collect();
    drop(free);
    let runs: Vec<_> = (0..2)
        .map(|process| {
            let fabric = Fabric::Tcp {
                threads: 2,
                process,
                hosts: hosts.clone(),
            };
            std::thread::spawn(move || run_pairs(&fabric, all_pairs(4)))
        })
        .collect();
    let got: Vec<Vec<Data>> = runs.into_iter().flat_map(|r| r.join().unwrap()).collect();
    assert_eq!(got, expected(4, &all_pairs(4)));
}

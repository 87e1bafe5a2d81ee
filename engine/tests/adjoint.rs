//! The adjoint graph keeps its promises. Four families:
//!
//! * `order_*`: what meets is added in a fixed order, whatever order it comes in; numbers are
//!   chosen so that any other order gives another sum.
//! * `kept_*`: what waits for a cotangent is freed, by its adjoint or by the frontier.
//! * `refused_*`: a graph that cannot be right is an error that names the place.
//! * `harness_*`: the harness of laws finds every kind of mistake in an operator.

use advect_engine::fabric::Faults;
use advect_engine::graph::{Delivery, Value};
use advect_engine::laws::{Case, Outcome, Sample, check, perform};
use advect_engine::{
    DType, Fabric, Graph, Layout, Mesh, Monoid, Placement, Relayout, Shard, Spec, Tick,
};

#[path = "adjoint/operators.rs"]
mod operators;

use operators::{Mistake, Scale, Times, named, pieces, spec};

const SAME: Placement = Placement::Same;
const SPLIT: Placement = Placement::Split { dim: 0 };
const SUM: Placement = Placement::Partial(Monoid::Sum);

/// The number that every worker got under a name.
fn number(outcome: &Outcome, name: &str, moment: Tick, key: u64) -> Vec<f64> {
    let shards = &outcome.cotangents[&(name.to_owned(), moment, key)];
    shards.iter().map(|s| s.elements::<f64>()[0]).collect()
}

/// Cotangents of a fan-out are added from the last use to the first: (1e16 − 1e16) + 1 is 1 in that
/// order and 0 in another; so does the rehearsal.
#[test]
fn order_of_a_fan_out_is_that_of_the_way_back() {
    for (factors, want) in [([1e16, -1e16, 1.0], 0.0), ([1.0, -1e16, 1e16], 1.0)] {
        let mesh = Mesh::line("x", 2);
        let mut graph = Graph::new(mesh.clone());
        let x = graph.input("x", spec(&mesh, 1)).unwrap();
        let mut seeds = Vec::new();
        for (i, factor) in factors.into_iter().enumerate() {
            let y = graph
                .apply(&format!("use {i}"), Scale(factor), &[x])
                .unwrap();
            graph.output(&format!("y{i}"), y).unwrap();
            seeds.push((format!("y{i}"), pieces(2, &[1.0])));
        }
        let sample = Sample {
            sources: named(&[("x", pieces(2, &[1.0]))]),
            seeds: seeds.into_iter().collect(),
            ..Sample::default()
        };
        let now = graph.rehearse(&sample.sources, [0, 0], 0).unwrap();
        let outputs = graph
            .outputs()
            .map(|(name, y)| (y, sample.seeds[name].clone()));
        let back = now.adjoint(&outputs.collect(), &[x]).unwrap();
        assert_eq!(back[&x][0].elements::<f64>(), [want]);
        for seed in 0..20 {
            let run = perform(
                &graph,
                &Fabric::Threads(2),
                Delivery::Shuffled(seed),
                std::slice::from_ref(&sample),
                &["x"],
            );
            assert_eq!(
                number(&run.unwrap(), "x", Tick::new(0, 0), 0),
                vec![want; 2]
            );
        }
    }
}

/// The gradient of a parameter is the sum over moments, keys and uses in that order, it comes once
/// a version at its last moment, and each version has its own.
#[test]
fn order_of_a_version_is_that_of_its_moments() {
    let mesh = Mesh::line("x", 3);
    let mut graph = Graph::new(mesh.clone());
    let w = graph.parameter("w", spec(&mesh, 1)).unwrap();
    let x = graph.input("x", spec(&mesh, 1)).unwrap();
    let double = graph.apply("double", Scale(2.0), &[w]).unwrap();
    let times = std::sync::Arc::new(Times {
        mistake: Mistake::None,
    });
    let z = graph.apply_all("times", times, &[x, double]).unwrap()[0];
    graph.output("z", z).unwrap();
    let parts = [
        (0, 0, 0, 1e16),
        (0, 1, 3, 1.0),
        (0, 1, 5, -1e16),
        (0, 2, 0, 0.25),
        (4, 0, 0, 3.0),
    ];
    let samples: Vec<Sample> = parts
        .iter()
        .map(|&(step, micro, key, x)| {
            let mut sources = named(&[("x", pieces(3, &[x]))]);
            if micro == 0 {
                sources.extend(named(&[("w", pieces(3, &[1.0 + step as f64]))]));
            }
            let seeds = named(&[("z", pieces(3, &[1.0]))]);
            Sample {
                moment: Tick::new(step, micro),
                key,
                sources,
                seeds,
            }
        })
        .collect();
    for seed in 0..20 {
        let delivery = Delivery::Shuffled(seed);
        let run = perform(&graph, &Fabric::Threads(3), delivery, &samples, &["w", "x"]).unwrap();
        let of_w: Vec<Tick> = run
            .cotangents
            .keys()
            .filter(|k| k.0 == "w")
            .map(|k| k.1)
            .collect();
        assert_eq!(of_w, [Tick::new(0, 2), Tick::new(4, 0)]);
        // doubled after the sum: ((1e16 + 1) − 1e16 + 0.25) · 2
        assert_eq!(number(&run, "w", Tick::new(0, 2), 0), [0.5; 3]);
        assert_eq!(number(&run, "w", Tick::new(4, 0), 0), [6.0; 3]);
        assert_eq!(
            number(&run, "x", Tick::new(0, 1), 5),
            [2.0; 3],
            "w is held over its version"
        );
        assert_eq!(number(&run, "x", Tick::new(4, 0), 0), [10.0; 3]);
        assert_eq!(run.left, [0; 3]);
    }
}

/// Moments without a cotangent keep nothing in the end, those with one output seeded take zero for
/// the other, and what is kept at once is counted.
#[test]
fn kept_points_are_freed_by_the_frontier() {
    let mesh = Mesh::line("x", 2);
    let mut graph = Graph::new(mesh.clone());
    let x = graph.input("x", spec(&mesh, 4)).unwrap();
    let y = graph.input("y", spec(&mesh, 4)).unwrap();
    let times = std::sync::Arc::new(Times {
        mistake: Mistake::None,
    });
    let made = graph.apply_all("times", times, &[x, y]).unwrap();
    graph.output("z", made[0]).unwrap();
    graph.output("copy", made[1]).unwrap();
    let samples: Vec<Sample> = (0..6)
        .map(|step| {
            let sources = named(&[("x", pieces(2, &[2.0; 4])), ("y", pieces(2, &[3.0; 4]))]);
            let seeds = match step % 3 {
                0 => named(&[]),
                1 => named(&[("z", pieces(2, &[1.0; 4]))]),
                _ => named(&[("copy", pieces(2, &[1.0; 4]))]),
            };
            Sample {
                moment: Tick::new(step, 0),
                key: 0,
                sources,
                seeds,
            }
        })
        .collect();
    for delivery in [Delivery::AsTheyCome, Delivery::Shuffled(3)] {
        let run = perform(&graph, &Fabric::Threads(2), delivery, &samples, &["x", "y"]).unwrap();
        assert_eq!(run.left, [0, 0]);
        assert_eq!(
            run.cotangents.len(),
            2 * 4,
            "a moment without a seed has no cotangents"
        );
        assert_eq!(number(&run, "x", Tick::new(1, 0), 0), [3.0; 2]);
        assert_eq!(number(&run, "x", Tick::new(2, 0), 0), [1.0; 2]);
        assert_eq!(number(&run, "y", Tick::new(2, 0), 0), [0.0; 2]);
        let one = 2 * 4 * 8;
        assert!(
            run.peak
                .iter()
                .all(|&peak| peak >= one && peak <= 6 * one && peak % one == 0)
        );
    }
    let run = perform(
        &graph,
        &Fabric::Threads(2),
        Delivery::AsTheyCome,
        &samples,
        &[],
    )
    .unwrap();
    assert_eq!(run.left, [0, 0]);
    assert_eq!(
        run.peak,
        [2 * 4 * 8; 2],
        "without a way back each point is dropped at once"
    );
}

/// A derivative that cannot reach its source is an error and not a zero.
#[test]
fn refused_where_a_gradient_would_be_cut() {
    let mesh = Mesh::line("x", 1);
    let mut graph = Graph::new(mesh.clone());
    let x = graph.input("x", spec(&mesh, 1)).unwrap();
    graph.parameter("unused", spec(&mesh, 1)).unwrap();
    let labels = Spec::new([1], DType::I64, Layout::same(&mesh));
    graph.input("labels", labels).unwrap();
    let y = graph.apply("y", Scale(1.0), &[x]).unwrap();
    graph.output("y", y).unwrap();
    let same = pieces(1, &[1.0]);
    let ints = vec![Shard::new(0, vec![1], vec![1i64].into())];
    let sample = Sample {
        sources: named(&[
            ("x", same.clone()),
            ("unused", same.clone()),
            ("labels", ints),
        ]),
        seeds: named(&[("y", same)]),
        ..Sample::default()
    };
    for (wrt, word) in [
        ("unused", "no differentiable path"),
        ("labels", "no differentiable path"),
    ] {
        let run = perform(
            &graph,
            &Fabric::Threads(1),
            Delivery::AsTheyCome,
            std::slice::from_ref(&sample),
            &["x", wrt],
        );
        let why = run.unwrap_err().to_string();
        assert!(why.contains(wrt) && why.contains(word), "{why}");
    }
    let unknown = perform(
        &graph,
        &Fabric::Threads(1),
        Delivery::AsTheyCome,
        &[sample],
        &["w"],
    );
    let why = unknown.unwrap_err().to_string();
    assert!(why.contains("'w'") || why.contains("w:"), "{why}");
    assert!(why.contains("\"x\""), "the tensors that there are: {why}");
}

/// An input that never comes, a cotangent without a forward pass and a piece of another shape end
/// the job with the operator, its worker and its time.
#[test]
fn refused_while_it_runs() {
    let mesh = Mesh::line("x", 2);
    let mut graph = Graph::new(mesh.clone());
    let x = graph.input("x", spec(&mesh, 1)).unwrap();
    let y = graph.input("y", spec(&mesh, 1)).unwrap();
    let times = std::sync::Arc::new(Times {
        mistake: Mistake::None,
    });
    let z = graph.apply_all("product", times, &[x, y]).unwrap()[0];
    graph.output("z", z).unwrap();
    let one = pieces(2, &[1.0]);
    let whole = Sample {
        moment: Tick::new(2, 5),
        key: 0,
        sources: named(&[("x", one.clone()), ("y", one.clone())]),
        seeds: named(&[("z", one.clone())]),
    };
    let run = |sample: Sample| {
        let fabric = Fabric::Threads(2);
        let run = perform(
            &graph,
            &fabric,
            Delivery::AsTheyCome,
            &[whole.clone(), sample],
            &["x"],
        );
        run.map(|_| ()).map_err(|e| e.to_string())
    };
    let lonely = Sample {
        moment: Tick::new(3, 7),
        sources: named(&[("x", one.clone())]),
        ..Sample::default()
    };
    let early = Sample {
        moment: Tick::new(3, 7),
        seeds: named(&[("z", one.clone())]),
        ..Sample::default()
    };
    let wide = pieces(2, &[1.0, 2.0]);
    let odd = Sample {
        moment: Tick::new(3, 7),
        sources: named(&[("x", wide), ("y", one)]),
        ..Sample::default()
    };
    for (sample, words) in [
        (lonely, ["product", "(3, 7)", "input 1 never came"]),
        (early, ["product", "(3, 7)", "no forward pass"]),
        (odd, ["product", "worker", "[2]"]),
    ] {
        let why = run(sample).unwrap_err();
        assert!(words.iter().all(|w| why.contains(w)), "{why}");
    }
}

/// Names are unique, layouts fit, and a mesh is of all workers.
#[test]
fn refused_when_it_is_built() {
    let mesh = Mesh::line("x", 2);
    let mut graph = Graph::new(mesh.clone());
    let x = graph.input("x", spec(&mesh, 3)).unwrap();
    assert!(
        graph
            .input("x", spec(&mesh, 3))
            .unwrap_err()
            .to_string()
            .contains("taken")
    );
    let odd = Spec::new([3], DType::F64, Layout::new([SAME, SAME]));
    assert!(graph.input("odd", odd).is_err());
    let rows = Spec::new([3, 4], DType::F64, Layout::new([SUM])).scaled();
    assert!(
        rows.check(&mesh)
            .unwrap_err()
            .to_string()
            .contains("LogSumExp")
    );
    let times = Times {
        mistake: Mistake::None,
    };
    let partial = graph.relayout(x, &Layout::new([SUM])).unwrap();
    let why = graph
        .apply("mine", times, &[partial, x])
        .unwrap_err()
        .to_string();
    assert!(
        why.contains("mine") && why.contains("product of sums"),
        "{why}"
    );
    graph.output("x", x).unwrap();
    let run = perform(&graph, &Fabric::Threads(3), Delivery::AsTheyCome, &[], &[]);
    assert!(run.unwrap_err().to_string().contains("2 workers"));
}

/// What is printed before the run is what the relayouts send, there and back.
#[test]
fn bytes_are_those_of_the_relayouts() {
    let mesh = Mesh::new([("data", 2), ("model", 2)]).unwrap();
    let mut graph = Graph::new(mesh.clone());
    let start = Layout::new([SPLIT, SUM]);
    let x = graph
        .input("x", Spec::new([64, 8], DType::F32, start.clone()))
        .unwrap();
    let y = graph.relayout(x, &Layout::new([SPLIT, SAME])).unwrap();
    let z = graph.relayout(y, &Layout::same(&mesh)).unwrap();
    assert_eq!(
        graph.relayout(z, &Layout::same(&mesh)).unwrap(),
        z,
        "already there"
    );
    graph.output("z", z).unwrap();
    let plan = |a: &Layout, b: &Layout| Relayout::plan(&mesh, &[64, 8], DType::F32, a, b).unwrap();
    let first = plan(&start, &Layout::new([SPLIT, SAME]));
    let second = plan(&Layout::new([SPLIT, SAME]), &Layout::same(&mesh));
    for worker in 0..4 {
        assert_eq!(
            graph.bytes_sent(worker),
            first.bytes_sent(worker) + second.bytes_sent(worker)
        );
        let back = first.adjoint().unwrap().bytes_sent(worker)
            + second.adjoint().unwrap().bytes_sent(worker);
        assert_eq!(graph.bytes_sent_back(worker), back);
    }
    let text = graph.to_string();
    for words in [
        "mesh: data 2 x model 2",
        "Partial(Sum)",
        "x: F32[64, 8]",
        "=> z",
    ] {
        assert!(text.contains(words), "{text}");
    }
    let dot = graph.dot();
    assert_eq!(dot.matches("->").count(), 3, "{dot}");
    assert!(dot.starts_with("digraph") && dot.trim_end().ends_with('}'));
}

/// The dataflow over two processes, and over a network that delays and reorders, gives the bits of
/// the rehearsal.
#[test]
fn order_over_a_network_is_that_of_the_rehearsal() {
    let mesh = Mesh::line("x", 4);
    let mut graph = Graph::new(mesh.clone());
    let split = Spec::new([10], DType::F64, Layout::new([SPLIT]));
    let x = graph.input("x", split.clone()).unwrap();
    let whole = graph.relayout(x, &Layout::same(&mesh)).unwrap();
    let times = std::sync::Arc::new(Times {
        mistake: Mistake::None,
    });
    let z: Value = graph.apply_all("square", times, &[whole, whole]).unwrap()[0];
    let part = graph.relayout(z, &Layout::new([SPLIT])).unwrap();
    graph.output("z", part).unwrap();
    let numbers: Vec<f64> = (0..10).map(|i| (f64::from(i) * 0.7).sin()).collect();
    let cut = |spec: &Spec| spec.cut(&mesh, 0, &numbers.clone().into()).unwrap();
    let sample = Sample {
        sources: named(&[("x", cut(&split))]),
        seeds: named(&[("z", cut(&split))]),
        ..Sample::default()
    };
    let now = graph.rehearse(&sample.sources, [0, 0], 0).unwrap();
    let want = now.adjoint(&[(part, cut(&split))].into(), &[x]).unwrap();
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
            let (graph, sample) = (graph.clone(), sample.clone());
            std::thread::spawn(move || {
                perform(&graph, &fabric, Delivery::AsTheyCome, &[sample], &["x"]).unwrap()
            })
        })
        .collect();
    let found: Vec<Vec<f64>> = runs
        .into_iter()
        .flat_map(|run| run.join().unwrap().cotangents.into_values().flatten())
        .map(|s| s.elements::<f64>().to_vec())
        .collect();
    let want: Vec<Vec<f64>> = want[&x]
        .iter()
        .map(|s| s.elements::<f64>().to_vec())
        .collect();
    assert_eq!(found, want);
    for seed in 0..10 {
        let fabric = Fabric::Sim {
            workers: 4,
            seed,
            faults: Faults::default(),
        };
        let delivery = Delivery::Shuffled(seed);
        let run = perform(
            &graph,
            &fabric,
            delivery,
            std::slice::from_ref(&sample),
            &["x"],
        );
        let pieces = run.unwrap().cotangents.into_values().flatten();
        let found: Vec<Vec<f64>> = pieces.map(|s| s.elements::<f64>().to_vec()).collect();
        assert_eq!(found, want, "seed {seed}");
    }
}

fn case(mistake: Mistake) -> Case {
    let case = Case::new("Times", Times { mistake })
        .input(&[7], 0.5..2.0)
        .input(&[7], 0.5..2.0);
    let case = case.on_line([SPLIT, SPLIT]).on_line([SAME, SAME]);
    if mistake == Mistake::Layout {
        case.on_line([SUM, SUM])
    } else {
        case
    }
}

/// The harness lets a right operator pass and finds a wrong adjoint, a wrong tangent with its own
/// transpose, a layout that is not allowed, a result that changes from run to run, and a
/// cotangent that is left out.
#[test]
fn harness_finds_every_kind_of_mistake() {
    check(&case(Mistake::None)).unwrap();
    for (mistake, words) in [
        (Mistake::Adjoint, "<J dx, y>"),
        (Mistake::Tangent, "differs from differences"),
        (Mistake::Layout, "differs from that of one worker"),
        (Mistake::Order, "changes bits"),
        (Mistake::Silent, "gave nothing for input 1"),
    ] {
        let why = check(&case(mistake))
            .expect_err("a mistake must be found")
            .to_string();
        assert!(why.contains(words), "{mistake:?}: {why}");
    }
}

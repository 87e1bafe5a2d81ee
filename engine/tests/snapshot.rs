//! Laws of snapshots.
//!
//! * A job that stops or fails anywhere and resumes, on any number of workers, has the outputs of an
//!   undisturbed one, bit for bit, each record once.
//! * A torn snapshot is never used; the one before it is. A foreign one is named.
//! * What a killed run leaves behind is removed, and a full disk costs nothing that was sealed.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use advect_engine::fabric::{Context, Faults};
use advect_engine::snapshot::{Entry, RandomState, Session, Store, whole};
use advect_engine::{EngineError, Fabric};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::Concat;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::{Scope, StreamVec};
use timely::worker::Worker;

const KEYS: u64 = 13;
const EPOCHS: u64 = 12;

type Out = CapacityContainerBuilder<Vec<(u64, f64)>>;
type Kept = CapacityContainerBuilder<Vec<Entry<u64>>>;
/// Epoch, order, key and bits.
type Records = Vec<(u64, u64, u64, u64)>;

/// How a run goes.
#[derive(Clone, Copy)]
struct Plan {
    resume: bool,
    /// Ends here.
    until: u64,
    /// A worker that fails after it has filtered so many values.
    fails: Option<(usize, u64)>,
}

const WHOLE: Plan = Plan {
    resume: true,
    until: EPOCHS,
    fails: None,
};

/// Values with their keys, and what is kept of their source.
type Numbers<'s> = (
    StreamVec<'s, u64, (u64, f64)>,
    StreamVec<'s, u64, Entry<u64>>,
);

/// Every key draws a number in every epoch, from a stream of its own.
fn numbers<'s>(scope: &Scope<'s, u64>, session: &Session, until: u64) -> Numbers<'s> {
    let (me, peers) = (scope.worker().index() as u64, scope.worker().peers() as u64);
    let mut streams: BTreeMap<u64, ChaCha8Rng> = (0..KEYS)
        .filter(|k| k % peers == me)
        .map(|k| {
            let mut random = ChaCha8Rng::seed_from_u64(5);
            random.set_stream(k);
            (k, random)
        })
        .collect();
    for saved in session.saved().get_all::<u64, RandomState>("numbers") {
        let (key, state) = saved.unwrap();
        streams
            .entry(key)
            .and_modify(|random| *random = state.resume());
    }
    let mut next = session.epoch();
    let mut builder = OperatorBuilder::new("Numbers".to_owned(), *scope);
    let (values, value_stream) = builder.new_output::<Vec<(u64, f64)>>();
    let (kept, kept_stream) = builder.new_output::<Vec<Entry<u64>>>();
    let (mut values, mut kept) = (
        OutputBuilder::<_, Out>::from(values),
        OutputBuilder::<_, Kept>::from(kept),
    );
    let wake = scope.activator_for(builder.operator_info().address);
    wake.activate();
    builder.build(move |mut capabilities| {
        move |_| {
            if next >= until {
                capabilities.clear();
            }
            let [cap, keep] = &mut capabilities[..] else {
                return;
            };
            cap.downgrade(&next);
            keep.downgrade(&next);
            for (key, random) in &mut streams {
                values
                    .activate()
                    .session(cap)
                    .give((*key, random.random::<f64>()));
                let state = RandomState::of(random);
                kept.activate()
                    .session(keep)
                    .give(Entry::put(next, "numbers", key, &state).unwrap());
            }
            next += 1;
            wake.activate();
        }
    });
    (value_stream, kept_stream)
}

/// A recursive filter for each key, on another worker than its source.
fn filtered<'s>(
    values: StreamVec<'s, u64, (u64, f64)>,
    session: &Session,
    fails: Option<(usize, u64)>,
) -> StreamVec<'s, u64, Entry<u64>> {
    use timely::dataflow::operators::generic::operator::Operator;
    let me = values.scope().worker().index();
    let held: BTreeMap<u64, f64> = session
        .saved()
        .get_all("filter")
        .map(Result::unwrap)
        .collect();
    let mut state = held;
    let mut seen = 0;
    let route = Exchange::new(|(key, _): &(u64, f64)| key / 3);
    values.unary::<Kept, _, _, _>(route, "Filter", move |_, _| {
        move |input, output| {
            input.for_each(|cap, data| {
                let time = *cap.stamp().elements().first().unwrap();
                let mut session = output.session(&cap);
                for (key, value) in data.drain(..) {
                    seen += 1;
                    assert!(fails != Some((me, seen)), "fails as it was told to");
                    let level = state.entry(key).or_default();
                    *level = 0.9 * *level + value;
                    session.give(Entry::put(time, "filter", &key, level).unwrap());
                    session.give(Entry::count(time, "seen", &(key % 5), 1).unwrap());
                    let bits = (key, level.to_bits());
                    session.give(Entry::record(time, "levels", key, &bits).unwrap());
                    if key == time % KEYS {
                        session.give(Entry::record(time, "turns", 0, &key).unwrap());
                    }
                }
            });
        }
    })
}

fn job(
    worker: &mut Worker,
    context: &Context,
    store: &Store,
    plan: Plan,
) -> Result<(), EngineError> {
    let session = store.begin(worker, context, plan.resume)?;
    let counted: i64 = session
        .saved()
        .counts::<u64>("seen")
        .map(|c| c.unwrap().1)
        .sum();
    assert_eq!(counted as u64, KEYS * session.epoch());
    worker.dataflow::<u64, _, _>(|scope| {
        let (values, kept) = numbers(&scope, &session, plan.until);
        let entries = filtered(values, &session, plan.fails).concat(kept);
        session.keep(entries, |t| *t);
    });
    Ok(())
}

fn store(directory: &Path) -> Store {
    Store::new(directory, "filter", "13 keys")
}

fn run(fabric: &Fabric, directory: &Path, plan: Plan) -> Result<(), String> {
    let store = Arc::new(store(directory));
    let ran = fabric.run(move |worker, context| job(worker, context, &store, plan));
    let results = ran.map_err(|e| e.to_string())?;
    results
        .into_iter()
        .try_for_each(|r| r.map_err(|e| e.to_string()))
}

fn records(directory: &Path) -> Records {
    let outputs = store(directory).outputs().unwrap();
    assert!(outputs.finished());
    let levels = outputs
        .records::<(u64, u64)>("levels")
        .unwrap()
        .map(Result::unwrap);
    let mut all: Records = levels
        .map(|r| (r.epoch, r.order, r.body.0, r.body.1))
        .collect();
    let turns = outputs.records::<u64>("turns").unwrap().map(Result::unwrap);
    all.extend(turns.map(|r| (r.epoch, u64::MAX, r.body, 0)));
    all
}

fn undisturbed() -> Records {
    let directory = tempfile::tempdir().unwrap();
    run(&Fabric::Threads(1), directory.path(), WHOLE).unwrap();
    let all = records(directory.path());
    assert_eq!(all.len() as u64, EPOCHS * (KEYS + 1));
    all
}

/// A clean stop at every epoch, and a resume on any number of workers, change nothing; resuming
/// what is finished neither.
#[test]
fn stops_on_any_number_of_workers() {
    let want = undisturbed();
    for until in [0, 1, 5, EPOCHS] {
        for (before, after) in [(1, 3), (3, 1), (2, 4), (4, 2)] {
            let directory = tempfile::tempdir().unwrap();
            let stop = Plan { until, ..WHOLE };
            run(&Fabric::Threads(before), directory.path(), stop).unwrap();
            assert_eq!(store(directory.path()).outputs().unwrap().epoch(), until);
            for workers in [after, before] {
                run(&Fabric::Threads(workers), directory.path(), WHOLE).unwrap();
                assert_eq!(
                    records(directory.path()),
                    want,
                    "{until}: {before} to {after}"
                );
            }
        }
    }
}

/// A worker that fails anywhere costs nothing, and no file is left that belongs to no snapshot.
#[test]
fn failures_anywhere() {
    let want = undisturbed();
    for (i, value) in (1..=60).step_by(6).enumerate() {
        let directory = tempfile::tempdir().unwrap();
        let (before, after) = (1 + i % 3, 1 + (i + 1) % 4);
        let fail = Plan {
            fails: Some((i % before, value)),
            ..WHOLE
        };
        let first = run(&Fabric::Threads(before), directory.path(), fail);
        // a worker with few keys may come to the end before
        if let Err(e) = &first {
            assert!(e.contains("fails as it was told to"), "{e}");
        }
        run(&Fabric::Threads(after), directory.path(), WHOLE).unwrap();
        assert_eq!(records(directory.path()), want, "failure at {value}");
        run(&Fabric::Threads(1), directory.path(), WHOLE).unwrap();
        let parts = fs::read_dir(directory.path().join("parts"))
            .unwrap()
            .count();
        assert!(parts <= 2 * 4, "{parts} parts");
    }
}

/// The same on a simulated network: whatever is delayed, cut or crashes, the run ends rightly or
/// names who failed, and a resume ends rightly.
#[test]
fn on_a_simulated_network() {
    let want = undisturbed();
    let mut disturbed = 0;
    for seed in 0..24 {
        let directory = tempfile::tempdir().unwrap();
        let workers = 2 + seed as usize % 3;
        let faults = Faults::drawn(seed, workers, 600);
        let stormy = Fabric::Sim {
            workers,
            seed,
            faults,
        };
        if run(&stormy, directory.path(), WHOLE).is_err() {
            disturbed += 1;
            let calm = Fabric::Sim {
                workers: 5 - workers,
                seed,
                faults: Faults::default(),
            };
            run(&calm, directory.path(), WHOLE).unwrap();
        }
        assert_eq!(records(directory.path()), want, "seed {seed}");
    }
    assert!(disturbed > 4, "{disturbed} runs were disturbed");
}

/// The files in a folder that end so, in order.
fn files(directory: &Path, folder: &str, ending: &str) -> Vec<std::path::PathBuf> {
    let found = fs::read_dir(directory.join(folder))
        .unwrap()
        .map(|e| e.unwrap().path());
    let mut found: Vec<_> = found
        .filter(|p| p.to_string_lossy().ends_with(ending))
        .collect();
    found.sort();
    found
}

/// A snapshot of which anything is torn, changed or missing gives way to the one before it; if that
/// is broken as well, the error names a file and nothing is removed.
#[test]
fn torn_snapshots() {
    let want = undisturbed();
    let broken: [fn(&Path) -> std::path::PathBuf; 2] = [
        |d| files(d, "", ".json").pop().unwrap(),
        |d| {
            // a part of the newest snapshot
            let manifest = fs::read_to_string(files(d, "", ".json").pop().unwrap()).unwrap();
            files(d, "parts", ".part")
                .into_iter()
                .find(|p| manifest.contains(p.file_name().unwrap().to_str().unwrap()))
                .unwrap()
        },
    ];
    let harm: [fn(&Path); 3] = [
        |path| fs::write(path, &fs::read(path).unwrap()[..20]).unwrap(),
        |path| {
            let mut bytes = fs::read(path).unwrap();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
            fs::write(path, bytes).unwrap();
        },
        |path| fs::remove_file(path).unwrap(),
    ];
    for pick in broken {
        for harm in harm {
            let directory = tempfile::tempdir().unwrap();
            for until in [4, 7] {
                let stop = Plan { until, ..WHOLE };
                run(&Fabric::Threads(2), directory.path(), stop).unwrap();
            }
            assert_eq!(files(directory.path(), "", ".json").len(), 2);
            harm(&pick(directory.path()));
            run(&Fabric::Threads(3), directory.path(), WHOLE).unwrap();
            assert_eq!(records(directory.path()), want);
        }
    }
    let directory = tempfile::tempdir().unwrap();
    run(
        &Fabric::Threads(2),
        directory.path(),
        Plan { until: 7, ..WHOLE },
    )
    .unwrap();
    let log = files(directory.path(), "outputs", ".log").remove(0);
    harm[1](&log);
    let before = files(directory.path(), "parts", "");
    let error = run(&Fabric::Threads(2), directory.path(), WHOLE).unwrap_err();
    assert!(
        error.contains(log.file_name().unwrap().to_str().unwrap()),
        "{error}"
    );
    assert!(error.contains("start anew"), "{error}");
    assert_eq!(files(directory.path(), "parts", ""), before);
    run(
        &Fabric::Threads(2),
        directory.path(),
        Plan {
            resume: false,
            ..WHOLE
        },
    )
    .unwrap();
    assert_eq!(records(directory.path()), want);
}

/// Another configuration is told so on every worker, and changes nothing.
#[test]
fn foreign_snapshots() {
    let directory = tempfile::tempdir().unwrap();
    run(
        &Fabric::Threads(2),
        directory.path(),
        Plan { until: 3, ..WHOLE },
    )
    .unwrap();
    let other = Arc::new(Store::new(directory.path(), "filter", "14 keys"));
    let errors = Fabric::Threads(3).run(move |worker, context| {
        other
            .begin(worker, context, true)
            .map(|s| s.epoch())
            .unwrap_err()
            .to_string()
    });
    for error in errors.unwrap() {
        assert!(
            error.contains("configuration 13 keys, and this is 14 keys"),
            "{error}"
        );
    }
    run(&Fabric::Threads(2), directory.path(), WHOLE).unwrap();
    assert_eq!(records(directory.path()), undisturbed());
}

/// With a pause between snapshots only few are made, and the last one holds everything.
#[test]
fn seldom() {
    let directory = tempfile::tempdir().unwrap();
    let rare = store(directory.path()).every(Duration::from_secs(3600));
    let rare = Arc::new(rare);
    let ran = Fabric::Threads(2).run(move |worker, context| job(worker, context, &rare, WHOLE));
    ran.unwrap().into_iter().for_each(|r| r.unwrap());
    assert_eq!(records(directory.path()), undisturbed());
}

/// A file is replaced whole or not at all.
#[test]
fn whole_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("result");
    let write = |text: &'static str, fails: bool| {
        whole(&path, |beside| {
            fs::write(beside, text).unwrap();
            match fails {
                true => Err(EngineError::Worker {
                    worker: 0,
                    why: "no".to_owned(),
                }),
                false => Ok(()),
            }
        })
    };
    write("first", false).unwrap();
    write("second", true).unwrap_err();
    assert_eq!(fs::read_to_string(&path).unwrap(), "first");
    write("third", false).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "third");
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
}

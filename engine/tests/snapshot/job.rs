//! The job whose snapshots are tested.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use advect_engine::fabric::Context;
use advect_engine::snapshot::{Entry, RandomState, Session, Store};
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

pub(crate) const KEYS: u64 = 13;
pub(crate) const EPOCHS: u64 = 12;

type Out = CapacityContainerBuilder<Vec<(u64, f64)>>;
type Kept = CapacityContainerBuilder<Vec<Entry<u64>>>;
/// Epoch, order, key and bits.
pub(crate) type Records = Vec<(u64, u64, u64, u64)>;

/// How a run goes.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) resume: bool,
    /// Ends here.
    pub(crate) until: u64,
    /// A worker that fails after it has filtered so many values.
    pub(crate) fails: Option<(usize, u64)>,
    /// Milliseconds between epochs.
    pub(crate) pause: u64,
}

pub(crate) const WHOLE: Plan = Plan {
    resume: true,
    until: EPOCHS,
    fails: None,
    pause: 0,
};

/// Values with their keys, and what is kept of their source.
type Numbers<'s> = (
    StreamVec<'s, u64, (u64, f64)>,
    StreamVec<'s, u64, Entry<u64>>,
);

/// Every key draws a number in every epoch, from a stream of its own.
fn numbers<'s>(scope: &Scope<'s, u64>, session: &Session, plan: Plan) -> Numbers<'s> {
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
            if next >= plan.until {
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
            match plan.pause {
                0 => wake.activate(),
                pause => wake.activate_after(Duration::from_millis(pause)),
            }
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

pub(crate) fn job(
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
        let (values, kept) = numbers(&scope, &session, plan);
        let entries = filtered(values, &session, plan.fails).concat(kept);
        session.keep(entries, |t| *t);
    });
    Ok(())
}

pub(crate) fn store(directory: &Path) -> Store {
    Store::new(directory, "filter", "13 keys")
}

pub(crate) fn run(fabric: &Fabric, directory: &Path, plan: Plan) -> Result<(), String> {
    let store = Arc::new(store(directory));
    let ran = fabric.run(move |worker, context| job(worker, context, &store, plan));
    let results = ran.map_err(|e| e.to_string())?;
    results
        .into_iter()
        .try_for_each(|r| r.map_err(|e| e.to_string()))
}

pub(crate) fn records(directory: &Path) -> Records {
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

pub(crate) fn undisturbed() -> Records {
    let directory = tempfile::tempdir().unwrap();
    run(&Fabric::Threads(1), directory.path(), WHOLE).unwrap();
    let all = records(directory.path());
    assert_eq!(all.len() as u64, EPOCHS * (KEYS + 1));
    all
}

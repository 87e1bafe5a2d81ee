//! A run tells its log where it is: once at the start and end with the workers and what was done,
//! at each cycle with the dataflow and its time, and on failure with the reason.

#![expect(clippy::unwrap_used, reason = "the helpers of tests fail as tests do")]

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use advect_engine::observe::Options;
use advect_engine::{Cycle, Fabric};
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::core::UnorderedInput;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Events as lines `target level field=value …`.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Visit for Lines {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let mut lines = self.0.lock().unwrap();
        let line = lines.last_mut().unwrap();
        *line += &format!(" {field}={value:?}");
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let m = event.metadata();
        let mut own = Lines::default();
        own.0
            .lock()
            .unwrap()
            .push(format!("{} {}", m.target(), m.level()));
        event.record(&mut own);
        let line = own.0.lock().unwrap().remove(0);
        self.0.lock().unwrap().push(line);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The log of a run of three cycles, and of one that fails.
#[test]
fn log_tells_where_the_run_is() {
    let lines = Lines::default();
    tracing::subscriber::set_global_default(lines.clone()).unwrap();
    let run = Fabric::Threads(2).run_with(&Options::default(), |worker, context| {
        let (mut input, cap, probe) = worker.dataflow_named::<Cycle, _, _>("Cycles", |scope| {
            let ((input, cap), stream) = scope
                .new_unordered_input::<timely::container::CapacityContainerBuilder<Vec<u64>>>();
            (input, cap, stream.probe().0)
        });
        let mut cap = Some(cap);
        for valid in 0..3 {
            let at = Cycle::new(valid, valid);
            cap = cap.map(|c| c.delayed(&at));
            if let Some(cap) = &cap {
                input.activate().session(cap).give(valid);
            }
            context.drive(worker, || probe.less_than(&at));
        }
        drop(cap);
        context.drive(worker, || !probe.done());
    });
    run.unwrap();
    let seen = std::mem::take(&mut *lines.0.lock().unwrap());
    let find = |parts: &[&str]| {
        let found = seen
            .iter()
            .position(|l| parts.iter().all(|p| l.contains(p)));
        found.unwrap_or_else(|| panic!("{parts:?} in {seen:#?}"))
    };
    let start = find(&["advect::run INFO", "message=start", "workers=2", "of=2"]);
    let mut last = start;
    for valid in 1..3 {
        let time = format!("Cycle {{ valid: {valid}, known: {valid} }}");
        let at = find(&["advect::cycle DEBUG", "dataflow=\"Cycles 0\"", &time]);
        assert!(last < at);
        last = at;
    }
    let done = find(&["advect::cycle DEBUG", "message=done"]);
    let end = find(&["advect::run INFO", "message=end", "messages=", "seconds="]);
    assert!(last < done && done < end);

    let run = Fabric::Threads(2).run(|_, context| assert!(context.index == 0, "out of bounds"));
    run.unwrap_err();
    let seen = lines.0.lock().unwrap().clone();
    let failed = |l: &&String| {
        l.starts_with("advect::run ERROR") && l.contains("worker 1") && l.contains("out of bounds")
    };
    assert_eq!(seen.iter().filter(failed).count(), 1);
}

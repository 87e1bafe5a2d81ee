//! Listening to timely's log of progress, on one worker of each process.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use timely::logging::TimelyProgressEventBuilder;
use timely::progress::Timestamp;
use timely::worker::Worker;

use super::board::{Board, locked};
use super::times::{Front, Times, Typed};
use super::trace::Mark;

impl Board {
    /// Follows the progress of all dataflows of one type of timestamp.
    pub(crate) fn follow<T: Timestamp>(self: &Arc<Self>, worker: &Worker, number: fn(&T) -> u64) {
        let typed = Arc::new(Mutex::new(Typed::<T>::new(number, self.place.peers)));
        let shared: Arc<Mutex<dyn Times>> = typed.clone();
        locked(&self.times).push(shared);
        let offset = worker
            .timer()
            .map_or(Duration::ZERO, |t| t.saturating_duration_since(self.start));
        let board = Arc::clone(self);
        let mut roots: BTreeMap<usize, String> = BTreeMap::new();
        let name = format!("timely/progress/{}", std::any::type_name::<T>());
        let Some(mut register) = worker.log_register() else {
            return;
        };
        register.insert::<TimelyProgressEventBuilder<T>, _>(&name, move |_, batch| {
            let Some(batch) = batch else { return };
            for (time, event) in batch.drain(..).filter(|(_, e)| !e.is_send) {
                let at = offset + time;
                board.moves.fetch_add(1, Ordering::Relaxed);
                if let Some(heard) = board.heard.get(event.source) {
                    heard.store(at.as_nanos() as u64, Ordering::Relaxed);
                }
                let scope = event.identifier;
                let known = locked(&typed).knows(scope);
                if !known {
                    let Some(page) = board.pages.first().map(locked) else {
                        continue;
                    };
                    let Some(operator) = page.operators.get(scope).and_then(Option::as_ref) else {
                        continue;
                    };
                    if operator.done {
                        continue;
                    }
                    if operator.addr.len() == 1 {
                        roots.insert(scope, format!("{} {}", operator.name, operator.addr[0]));
                    }
                    locked(&typed).open(
                        scope,
                        &page.outputs(&operator.addr),
                        page.children(&operator.addr),
                    );
                }
                let moved = locked(&typed).digest(at, &event);
                if let (Some(front), Some(root)) = (moved, roots.get(&scope)) {
                    board.moved(at, root, front);
                }
            }
        });
    }

    /// The frontier of a dataflow has moved.
    fn moved(&self, at: Duration, dataflow: &str, front: Front) {
        match &front.time {
            Some((time, _)) => tracing::debug!(
                target: "advect::cycle",
                dataflow,
                time,
                seconds = at.as_secs_f64(),
                "frontier"
            ),
            None => tracing::debug!(
                target: "advect::cycle",
                dataflow,
                seconds = at.as_secs_f64(),
                "done"
            ),
        }
        if let Some(page) = self.pages.first()
            && let Some(marks) = &mut locked(page).marks
        {
            marks.push(Mark::Frontier {
                at,
                dataflow: dataflow.to_owned(),
                time: front.time,
            });
        }
    }
}

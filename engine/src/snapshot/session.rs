//! Beginning a run, the same on every worker.

use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;

use timely::dataflow::StreamVec;
use timely::dataflow::operators::core::{Exchange, Inspect, ToStream};
use timely::progress::Timestamp;
use timely::worker::Worker;

use super::entry::Entry;
use super::flow;
use super::saved::Saved;
use super::seal::Desk;
use super::store::{Choice, Store};
use crate::error::{EngineError, Result};
use crate::fabric::Context;

/// The snapshots of a run on one worker: where it begins, and where its entries go.
#[derive(Debug)]
pub struct Session {
    epoch: u64,
    finished: bool,
    saved: Arc<Saved>,
    desk: Rc<RefCell<Desk>>,
}

/// What one worker tells the others: its answer, or why there is none.
type Answer = std::result::Result<Choice, (String, String)>;

impl Store {
    /// Begins a run on every worker: with `resume` from the newest whole snapshot, if there is
    /// one, else with an empty directory. Worker 0 looks and tells the others, so that all begin
    /// at the same place.
    ///
    /// Call it on every worker, before or between building dataflows, and give the entries to
    /// [`Session::keep`]; a session that is dropped without makes no snapshot.
    ///
    /// # Errors
    /// If the snapshots are of another pipeline or configuration, none of them is whole, the
    /// directory can not be written, or another job writes it.
    pub fn begin(&self, worker: &mut Worker, context: &Context, resume: bool) -> Result<Session> {
        let (index, peers) = (context.index, context.peers);
        if context.is_dry() {
            let desk = Desk::dry();
            return Ok(Session {
                epoch: 0,
                finished: false,
                saved: Arc::default(),
                desk: Rc::new(RefCell::new(desk)),
            });
        }
        let (mut kept, mut lock, mut answer) = (Vec::new(), None, None);
        if index == 0 {
            answer = Some(match self.choose(resume) {
                Ok(chosen) => {
                    (kept, lock) = (chosen.kept, Some(chosen.lock));
                    Ok(chosen.choice)
                }
                Err(EngineError::Snapshot { path, why }) => Err((path, why)),
                Err(e) => Err((self.directory.display().to_string(), e.to_string())),
            });
        }
        let heard: Rc<RefCell<Option<Answer>>> = Rc::default();
        let ear = Rc::clone(&heard);
        worker.dataflow::<u64, _, _>(|scope| {
            let told = answer
                .into_iter()
                .flat_map(|a| (0..peers as u64).map(move |w| (w, a.clone())));
            let told: Vec<(u64, Answer)> = told.collect();
            let told: StreamVec<'_, u64, (u64, Answer)> = told.to_stream(scope);
            told.exchange(|(worker, _)| *worker)
                .inspect(move |(_, answer)| *ear.borrow_mut() = Some(answer.clone()));
        });
        context.drive(worker, || heard.borrow().is_none());
        let choice = match heard.take() {
            Some(Ok(choice)) => choice,
            Some(Err((path, why))) => return Err(EngineError::Snapshot { path, why }),
            None => Err(EngineError::Worker {
                worker: index,
                why: "worker 0 did not say where to begin".to_owned(),
            })?,
        };
        let saved = self.load(&choice)?;
        let (epoch, finished) = match &choice.manifest {
            Some(m) => (m.epoch, m.finished),
            None => (0, false),
        };
        let share = saved.share(index, peers);
        let desk = Desk::new(self, (index, peers), choice, (kept, lock), share);
        let desk = Rc::new(RefCell::new(desk));
        flow::orders(worker, &desk);
        Ok(Session {
            epoch,
            finished,
            saved,
            desk,
        })
    }
}

impl Session {
    /// The epoch at which this run begins: all of the earlier ones is in [`Session::saved`], and
    /// what sources and operators give for those again is dropped.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether the snapshot was made at the end of the job, where nothing is left to be done.
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// The state of all operators before [`Session::epoch`], as all workers saved it.
    pub fn saved(&self) -> &Saved {
        &self.saved
    }

    /// Where the files of the snapshots are.
    pub fn directory(&self) -> PathBuf {
        self.desk.borrow().directory().to_owned()
    }

    /// Keeps `entries`: a snapshot is made when their frontier has passed an epoch, and a last one
    /// when it is empty. `epoch` must not decrease along the order of times.
    ///
    /// All sources must end at the boundary of an epoch: records of an epoch that was kept half
    /// are not taken again.
    pub fn keep<T>(self, entries: StreamVec<'_, T, Entry<T>>, epoch: fn(&T) -> u64)
    where
        T: Timestamp + Ord + serde::Serialize + for<'d> serde::Deserialize<'d>,
    {
        flow::keep(entries, epoch, &self.desk);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // without entries there is nothing to wait for; a worker that fails drops this at any time
        if let Ok(mut desk) = self.desk.try_borrow_mut() {
            desk.release();
        }
    }
}

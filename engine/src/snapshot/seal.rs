//! The desk of a worker: what it holds, what it writes, and what worker 0 decides.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use timely::scheduling::Activator;

use super::disk::{sync_directory, unwritten};
use super::entry::{Change, Record};
use super::lock::Lock;
use super::log::LogWriter;
use super::manifest::{FileSeal, LogSeal, Manifest};
use super::part;
use super::saved::Saved;
use super::store::{Choice, OUTPUTS, PARTS, Store};
use crate::error::Result;

/// How many snapshots stay.
const KEEP: usize = 2;

/// Worker 0 asks for everything before an epoch; `None` at the end for all there is.
pub(super) type Order = Option<u64>;

/// What a worker has written for an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Receipt {
    part: FileSeal,
    logs: Vec<LogSeal>,
    /// The first epoch of which the worker has seen nothing.
    unseen: u64,
}

/// Where the frontier of the entries is, as this worker knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reached {
    /// No entry of an earlier epoch comes any more.
    Epoch(u64),
    /// No entry comes any more.
    End,
}

/// Entries that came and are in no snapshot.
pub(super) trait Waiting {
    /// Takes those of epochs before `order`: changes in the order in which they apply, and records
    /// in the order in which they are written, with their epochs.
    fn take(&mut self, order: Order) -> (Vec<Change>, Vec<(u64, Record)>);
}

/// What a worker holds for its snapshots.
pub(super) struct Desk {
    directory: PathBuf,
    run: String,
    worker: usize,
    pub(super) peers: usize,
    pub(super) saved: Saved,
    logs: BTreeMap<String, (String, LogWriter)>,
    pub(super) waiting: Option<Box<dyn Waiting>>,
    /// The epoch before which everything was known when the run began.
    pub(super) begun: u64,
    pub(super) unseen: u64,
    pub(super) reached: Reached,
    /// The operator that gives orders.
    pub(super) clerk: Option<Activator>,
    /// On worker 0.
    pub(super) chair: Option<Chair>,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Desk {
            worker,
            begun,
            reached,
            ..
        } = self;
        write!(
            f,
            "Desk {{ worker: {worker}, begun: {begun}, reached: {reached:?} }}"
        )
    }
}

/// What worker 0 knows beyond its own desk.
pub(super) struct Chair {
    pipeline: String,
    fingerprint: String,
    every: Duration,
    kept: Vec<Manifest>,
    /// Logs of earlier runs, which do not grow any more.
    old: Vec<LogSeal>,
    sealed: u64,
    last: Option<Instant>,
    ordered: Option<Order>,
    receipts: Vec<Receipt>,
    pub(super) done: bool,
    _lock: Option<Lock>,
}

/// What the clerk is to do.
pub(super) enum Next {
    Order(Order),
    Wait,
    After(Duration),
    End,
}

impl Desk {
    /// A desk that nothing is brought to.
    pub(super) fn dry() -> Self {
        Desk {
            directory: PathBuf::new(),
            run: String::new(),
            worker: 0,
            peers: 1,
            saved: Saved::default(),
            logs: BTreeMap::new(),
            waiting: None,
            begun: 0,
            unseen: 0,
            reached: Reached::Epoch(0),
            clerk: None,
            chair: None,
        }
    }

    pub(super) fn new(
        store: &Store,
        (worker, peers): (usize, usize),
        choice: Choice,
        (kept, lock): (Vec<Manifest>, Option<Lock>),
        saved: Saved,
    ) -> Self {
        let begun = choice.manifest.as_ref().map_or(0, |m| m.epoch);
        let chair = Chair {
            pipeline: store.pipeline.clone(),
            fingerprint: store.fingerprint.clone(),
            every: store.every,
            kept,
            old: choice.manifest.map_or_else(Vec::new, |m| m.outputs),
            sealed: begun,
            last: None,
            ordered: None,
            receipts: Vec::new(),
            done: false,
            _lock: lock,
        };
        Desk {
            directory: store.directory.clone(),
            run: choice.run,
            worker,
            peers,
            saved,
            begun,
            unseen: begun,
            chair: (worker == 0).then_some(chair),
            ..Desk::dry()
        }
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Ends a session that keeps nothing.
    pub(super) fn release(&mut self) {
        if let (None, Some(chair)) = (&self.waiting, &mut self.chair) {
            chair.done = true;
        }
        self.wake();
    }

    pub(super) fn wake(&self) {
        if let Some(clerk) = &self.clerk {
            clerk.activate();
        }
    }

    /// What worker 0 does now.
    pub(super) fn next(&mut self) -> Next {
        let Some(chair) = &mut self.chair else {
            return Next::End;
        };
        if chair.done {
            return Next::End;
        }
        let order = match self.reached {
            _ if chair.ordered.is_some() => return Next::Wait,
            Reached::Epoch(e) if e <= chair.sealed => return Next::Wait,
            Reached::Epoch(e) => Some(e),
            Reached::End => None,
        };
        if let (Some(last), Some(_), false) = (chair.last, order, chair.every.is_zero()) {
            let due = chair.every.saturating_sub(last.elapsed());
            if !due.is_zero() {
                return Next::After(due);
            }
        }
        chair.ordered = Some(order);
        Next::Order(order)
    }

    /// Writes everything before the order. Its frontier has passed, so that all of it is here.
    pub(super) fn write(&mut self, order: Order) -> Result<Receipt> {
        let taken = self.waiting.as_mut().map(|w| w.take(order));
        let (changes, records) = taken.unwrap_or_default();
        changes.into_iter().for_each(|c| self.saved.apply(c));
        let mut created = false;
        for (epoch, record) in &records {
            if !self.logs.contains_key(&record.output) {
                let name = format!(
                    "{OUTPUTS}/{}-{:05}-{}.log",
                    self.run,
                    self.worker,
                    self.logs.len()
                );
                let path = self.directory.join(&name);
                let log = LogWriter::create(&path).map_err(|e| unwritten(&path, &e))?;
                self.logs.insert(record.output.clone(), (name, log));
                created = true;
            }
            if let Some((name, log)) = self.logs.get_mut(&record.output) {
                let pushed = log.push(*epoch, record);
                pushed.map_err(|e| unwritten(&self.directory.join(name), &e))?;
            }
        }
        let mut logs = Vec::new();
        for (output, (name, log)) in &mut self.logs {
            let synced = log
                .sync()
                .map_err(|e| unwritten(&self.directory.join(&*name), &e));
            let (length, crc32) = synced?;
            let log = FileSeal {
                file: name.clone(),
                length,
                crc32,
            };
            logs.push(LogSeal {
                output: output.clone(),
                log,
            });
        }
        let label = order.map_or_else(|| "last".to_owned(), |e| format!("{e:012}"));
        let file = format!("{PARTS}/{label}-{}-{:05}.part", self.run, self.worker);
        let path = self.directory.join(&file);
        let (length, crc32) = part::write(&path, &self.saved).map_err(|e| unwritten(&path, &e))?;
        for (folder, changed) in [(PARTS, true), (OUTPUTS, created)] {
            let path = self.directory.join(folder);
            if changed {
                sync_directory(&path).map_err(|e| unwritten(&path, &e))?;
            }
        }
        let part = FileSeal {
            file,
            length,
            crc32,
        };
        Ok(Receipt {
            part,
            logs,
            unseen: self.unseen,
        })
    }

    /// Takes a receipt on worker 0; with the last one, writes the manifest.
    pub(super) fn seal(&mut self, receipt: Receipt) -> Result<()> {
        let Some(chair) = &mut self.chair else {
            return Ok(());
        };
        chair.receipts.push(receipt);
        if chair.receipts.len() < self.peers {
            return Ok(());
        }
        let Some(order) = chair.ordered.take() else {
            return Ok(());
        };
        let mut receipts = std::mem::take(&mut chair.receipts);
        receipts.sort_by(|a, b| a.part.file.cmp(&b.part.file));
        let unseen = receipts.iter().map(|r| r.unseen).max().unwrap_or(0);
        let mut manifest = Manifest::new(&chair.pipeline, &chair.fingerprint, self.peers);
        manifest.epoch = order.unwrap_or(unseen.max(chair.sealed));
        manifest.finished = order.is_none();
        manifest.outputs.clone_from(&chair.old);
        for receipt in receipts {
            manifest.parts.push(receipt.part);
            manifest.outputs.extend(receipt.logs);
        }
        manifest.write(&self.directory)?;
        tracing::debug!(
            epoch = manifest.epoch,
            finished = manifest.finished,
            "snapshot sealed"
        );
        (chair.sealed, chair.done) = (manifest.epoch, manifest.finished);
        chair.last = Some(Instant::now());
        chair.keep(manifest, &self.directory);
        self.wake();
        Ok(())
    }
}

impl Chair {
    /// Removes snapshots that are not needed any more. What can not be removed is removed by the
    /// next run: no reason to stop this one.
    fn keep(&mut self, manifest: Manifest, directory: &Path) {
        let replaced = self.kept.iter().position(|m| m.epoch == manifest.epoch);
        let mut gone: Vec<Manifest> = replaced.map(|i| self.kept.remove(i)).into_iter().collect();
        self.kept.push(manifest);
        while self.kept.len() > KEEP {
            let old = self.kept.remove(0);
            let _ = fs::remove_file(directory.join(Manifest::name(old.epoch)));
            gone.push(old);
        }
        let _ = sync_directory(directory);
        for part in gone.iter().flat_map(|m| &m.parts) {
            let _ = fs::remove_file(directory.join(&part.file));
        }
    }
}

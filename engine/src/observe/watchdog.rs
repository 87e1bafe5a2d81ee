//! The watchdog: names who holds a job up, instead of a hang.
//!
//! One thread of each process looks several times per `silence` whether messages or progress have
//! moved and whether each worker has come back from its step. After `silence` without motion it
//! warns, and again after twice, four times … that, until things move; after `give_up` it raises
//! the alarm, which ends the job with the same words. When a job that has failed, for whatever
//! reason, still waits for a silent peer after [`GRACE`], it cuts the connections.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::board::{Board, locked};
use super::page::dotted;
use super::sample::Doing;
use crate::fabric::Alarm;

/// How long a failed job may take to come to its end by itself.
const GRACE: Duration = Duration::from_secs(1);

/// Who holds a job up.
#[derive(Debug, Clone)]
pub(crate) struct Culprit {
    /// The worker as printed; `None` if only the operator is known.
    worker: Option<String>,
    operator: Option<String>,
    time: Option<String>,
    /// What it does, or does not.
    what: String,
}

impl std::fmt::Display for Culprit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [
            self.worker.clone(),
            self.operator.as_ref().map(|o| format!("operator {o}")),
            self.time.as_ref().map(|t| format!("at {t}")),
            Some(self.what.clone()),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        f.write_str(&parts.join(", "))
    }
}

/// A running watchdog; ends when dropped.
#[derive(Debug)]
pub(crate) struct Watchdog {
    stop: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watchdog {
    pub(crate) fn start(
        board: Arc<Board>,
        alarm: Arc<Alarm>,
        silence: Duration,
        trouble: Arc<OnceLock<String>>,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("watchdog".to_owned())
            .spawn(move || watch(&board, &alarm, silence, &trouble, &stopped))?;
        Ok(Watchdog {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(
    board: &Board,
    alarm: &Alarm,
    silence: Duration,
    trouble: &OnceLock<String>,
    stopped: &Receiver<()>,
) {
    let round = (silence / 4).clamp(Duration::from_millis(20), Duration::from_secs(1));
    let (mut motion, mut since, mut next) = (board.motion(), Instant::now(), silence);
    loop {
        match stopped.recv_timeout(round) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => return,
        }
        if alarm.raised().is_some() {
            if let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(GRACE) {
                alarm.cut();
                let _ = stopped.recv();
            }
            return;
        }
        let now = board.motion();
        let stuck = longest_step(board);
        if now != motion {
            (motion, since) = (now, Instant::now());
        }
        let quiet = since.elapsed().max(stuck);
        if quiet < silence {
            if next > silence {
                tracing::info!(target: "advect::watchdog", "the job moves again");
            }
            next = silence;
            continue;
        }
        let late = board.options.give_up.is_some_and(|limit| quiet >= limit);
        if quiet < next && !late {
            continue;
        }
        next = quiet * 2;
        let found = culprits(board, silence);
        if found.is_empty() {
            continue;
        }
        for c in &found {
            tracing::warn!(
                target: "advect::watchdog",
                worker = c.worker,
                operator = c.operator,
                time = c.time,
                seconds = quiet.as_secs_f64(),
                "nothing has moved: {}",
                c.what
            );
        }
        if late {
            let names: Vec<String> = found.iter().map(Culprit::to_string).collect();
            let why = format!(
                "nothing has moved for {:.1} s: {}",
                quiet.as_secs_f64(),
                names.join("; ")
            );
            let _ = trouble.set(why.clone());
            alarm.raise(why);
        }
    }
}

/// How long the worker that has been in its step longest has been there.
fn longest_step(board: &Board) -> Duration {
    let now = board.now();
    let pages = board.pages.iter().map(|p| locked(p));
    pages
        .filter(|p| p.alive)
        .map(|p| now.saturating_sub(p.seen))
        .max()
        .unwrap_or_default()
}

/// Who holds the job up: workers that do not come back from an operator, or else those who hold
/// the earliest times; and beside them workers of other processes not heard of.
pub(crate) fn culprits(board: &Board, silence: Duration) -> Vec<Culprit> {
    let mut found = stuck(board, silence);
    if found.is_empty() {
        return holders(board, silence);
    }
    // an operator may wait for a process that no longer reads
    found.extend(unheard(board, silence));
    found
}

fn stuck(board: &Board, silence: Duration) -> Vec<Culprit> {
    let now = board.now();
    let mut found = Vec::new();
    for page in &board.pages {
        let page = locked(page);
        let unseen = now.saturating_sub(page.seen);
        if !page.alive || unseen < silence {
            continue;
        }
        // the page is locked, so the worker cannot end meanwhile
        let Some(Doing::Operator(id)) = page.probe.as_ref().and_then(|p| p.ask()) else {
            continue;
        };
        let operator = page.operators.get(id).cloned().flatten();
        let worker = board.place.worker(page.worker);
        drop(page);
        found.push(Culprit {
            worker: Some(worker),
            time: operator.as_ref().and_then(|o| board.time_of(&o.addr)),
            operator: operator.map(|o| format!("'{}' ({})", o.name, dotted(&o.addr))),
            what: format!("has not come back for {:.1} s", unseen.as_secs_f64()),
        });
    }
    found
}

/// Holders that are named at most.
const NAMED: usize = 4;

fn holders(board: &Board, silence: Duration) -> Vec<Culprit> {
    let mut found = Vec::new();
    for h in board.held().into_iter().filter(|h| h.first) {
        let Some((id, name, addr)) = board.name_of(h.scope, h.node) else {
            continue;
        };
        let local = h.worker.and_then(|w| {
            let page = board.pages.get(w.checked_sub(board.place.first)?)?;
            let page = locked(page);
            Some(page.operators.get(id)?.as_ref()?.outside)
        });
        if local == Some(true) {
            continue;
        }
        let what = match h.worker {
            None => format!("{} records have not been taken up", h.count),
            Some(w) if board.place.process_of(w) != board.place.process => {
                let unheard = board.unheard(w).as_secs_f64();
                format!("holds its frontier there and was last heard of {unheard:.1} s ago")
            }
            Some(_) => "holds its frontier there".to_owned(),
        };
        found.push(Culprit {
            worker: h.worker.map(|w| board.place.worker(w)),
            operator: Some(format!("'{name}' ({addr})")),
            time: Some(h.time),
            what,
        });
        if h.worker.is_none() {
            found.extend(unheard(board, silence));
        }
    }
    found.truncate(NAMED);
    found
}

/// Workers of other processes whose progress has not been heard of.
fn unheard(board: &Board, silence: Duration) -> Vec<Culprit> {
    let others =
        (0..board.place.peers).filter(|&w| board.place.process_of(w) != board.place.process);
    others
        .filter(|&w| board.unheard(w) >= silence)
        .map(|w| Culprit {
            worker: Some(board.place.worker(w)),
            operator: None,
            time: None,
            what: format!(
                "was last heard of {:.1} s ago",
                board.unheard(w).as_secs_f64()
            ),
        })
        .collect()
}

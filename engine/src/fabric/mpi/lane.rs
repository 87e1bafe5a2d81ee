//! The bulk lane of MPI ranks.

use std::sync::Arc;

use super::job::Job;
use super::progress::{Backoff, Outgoing, Progress};
use super::raw::Request;
use crate::fabric::Alarm;
use crate::fabric::bulk::{self, Arrival, Lane};
use crate::shard::payload::View;
use crate::shard::pool::Pool;
use crate::shard::{DType, Data};

/// Bytes of one message of MPI: longer payloads are several messages of one tag, which MPI keeps in
/// order. One fits into the caches, so that it is merged from there.
const CHUNK: usize = 4 << 20;

/// Payloads as tagged messages, straight from and to the memory of tensors.
pub(super) struct MpiLane {
    job: Job,
    threads: usize,
    progress: Progress,
    alarm: Arc<Alarm>,
}

impl MpiLane {
    pub(super) fn start(
        job: &Job,
        threads: usize,
        pool: &Arc<Pool>,
        alarm: &Arc<Alarm>,
    ) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(MpiLane {
            job: job.clone(),
            threads,
            progress: Progress::start(job, pool, alarm)?,
            alarm: Arc::clone(alarm),
        }))
    }
}

impl Lane for MpiLane {
    fn send(&self, worker: usize, view: &View) -> u64 {
        let tag = self.job.next_tag();
        // the view that is kept holds the memory, and shared memory is never written to
        let view = view.clone();
        let chunks = view.bytes().chunks(CHUNK);
        // SAFETY: `view` lives until the requests are done: `Progress` keeps both, and forgets the
        // memory rather than free it under a request.
        let sent =
            chunks.map(|c| unsafe { self.job.payloads().send(c, worker / self.threads, tag) });
        match sent.collect() {
            Ok(requests) => self.progress.follow(Outgoing { requests, view }),
            Err(why) => {
                self.alarm
                    .raise(format!("worker {worker} takes no payloads: {why}"));
                // a part of it may be under way
                std::mem::forget(view);
                self.alarm.check();
            }
        }
        tag
    }

    fn expect(&self, worker: usize, tag: u64) -> Result<Box<dyn Arrival>, String> {
        let rank = worker / self.threads;
        if rank >= self.job.size() {
            return Err(format!(
                "a payload was announced by worker {worker}, whom nobody knows"
            ));
        }
        Ok(Box::new(Announced {
            job: self.job.clone(),
            alarm: Arc::clone(&self.alarm),
            rank,
            tag,
        }))
    }
}

/// A payload that another rank has begun to send.
struct Announced {
    job: Job,
    alarm: Arc<Alarm>,
    rank: usize,
    tag: u64,
}

impl Announced {
    fn receive(&self, out: &mut [u8]) -> Result<(), String> {
        let mut requests: Vec<Request> = Vec::new();
        for chunk in out.chunks_mut(CHUNK) {
            // SAFETY: this function does not return before the requests are done; `out` is borrowed
            // for as long.
            match unsafe { self.job.payloads().receive(chunk, self.rank, self.tag) } {
                Ok(request) => requests.push(request),
                Err(why) if requests.is_empty() => return Err(why),
                Err(why) => self.job.abort(&why),
            }
        }
        let mut backoff = Backoff::default();
        for mut request in requests {
            loop {
                match request.done() {
                    Ok(true) => break,
                    // a job that fails meanwhile is ended by the thread that watches the alarm; until
                    // then MPI may write to `out`
                    Ok(false) => backoff.wait(),
                    Err(why) => self.job.abort(&why),
                }
            }
        }
        Ok(())
    }

    fn failed(&self, why: &str) {
        let from = self.job.name(self.rank);
        self.alarm
            .raise(format!("a payload of {from} could not be received: {why}"));
        self.alarm.check();
    }
}

impl Arrival for Announced {
    fn fill(self: Box<Self>, out: &mut [u8]) {
        if let Err(why) = self.receive(out) {
            self.failed(&why);
        }
    }

    fn take(self: Box<Self>, dtype: DType, len: usize) -> Data {
        let mut data = bulk::buffer(dtype, len);
        self.fill(data.as_bytes_mut());
        data
    }

    fn runs(self: Box<Self>, dtype: DType, len: usize, next: &mut dyn FnMut(usize, &Data)) {
        let run = CHUNK / dtype.size();
        let mut memory = bulk::buffer(dtype, run.min(len));
        for at in (0..len).step_by(run) {
            memory.truncate(run.min(len - at));
            if let Err(why) = self.receive(memory.as_bytes_mut()) {
                return self.failed(&why);
            }
            next(at, &memory);
        }
        bulk::recycle(&mut memory);
    }

    fn discard(self: Box<Self>, bytes: usize) {
        if !std::thread::panicking() && self.alarm.raised().is_none() {
            let mut unread = bulk::buffer(DType::I64, bytes.div_ceil(8));
            self.fill(&mut unread.as_bytes_mut()[..bytes]);
            bulk::recycle(&mut unread);
        }
    }
}

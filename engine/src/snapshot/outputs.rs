//! Reading outputs: each record once, in their order.

use std::cmp::Reverse;
use std::collections::binary_heap::PeekMut;
use std::collections::{BTreeSet, BinaryHeap};
use std::marker::PhantomData;
use std::path::PathBuf;

use serde::de::DeserializeOwned;

use super::disk::bad;
use super::log::{Line, LogReader};
use super::manifest::Manifest;
use super::saved::decode;
use super::store::{Store, manifests};
use crate::error::Result;

/// The sealed records of a job, as the newest snapshot has them.
///
/// Reading changes nothing: to put an output into one file, read it all and write with
/// [`whole`](super::whole); done twice it gives the same file.
#[derive(Debug)]
pub struct Outputs {
    directory: PathBuf,
    manifest: Manifest,
}

/// A record of an output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed<B> {
    /// The epoch of its time.
    pub epoch: u64,
    /// Its place within the epoch, as given.
    pub order: u64,
    /// What was recorded.
    pub body: B,
}

impl Store {
    /// The outputs of the newest snapshot. Call it when no run is under way: after
    /// [`Fabric::run`](crate::Fabric::run), on one process.
    ///
    /// # Errors
    /// If there is no snapshot, or the newest is torn or of another pipeline or configuration.
    pub fn outputs(&self) -> Result<Outputs> {
        let newest = manifests(&self.directory)?.into_iter().next();
        let (_, path) =
            newest.ok_or_else(|| bad(&self.directory, "there is none; run the job first"))?;
        let manifest = Manifest::read(&path)?;
        manifest.fits(&path, &self.pipeline, &self.fingerprint)?;
        Ok(Outputs {
            directory: self.directory.clone(),
            manifest,
        })
    }
}

impl Outputs {
    /// Whether the job has come to its end: if not, there will be more records.
    pub fn finished(&self) -> bool {
        self.manifest.finished
    }

    /// The first epoch of which there are no records yet.
    pub fn epoch(&self) -> u64 {
        self.manifest.epoch
    }

    /// Names of the outputs that have records.
    pub fn names(&self) -> BTreeSet<&str> {
        self.manifest
            .outputs
            .iter()
            .map(|o| o.output.as_str())
            .collect()
    }

    /// The records of an output by epoch, order and bytes of the body: the same whatever number of
    /// workers wrote them. They are read as they are asked for, one of each log in memory.
    ///
    /// # Errors
    /// If a log is missing; and, in place of a record, if it has been changed or holds other
    /// bodies. Records before the first error are only good if none follows: checksums are of
    /// whole logs.
    pub fn records<B: DeserializeOwned>(
        &self,
        output: &str,
    ) -> Result<impl Iterator<Item = Result<Sealed<B>>> + use<B>> {
        let logs = self.manifest.outputs.iter().filter(|o| o.output == output);
        let mut merge = Merge {
            output: output.to_owned(),
            logs: Vec::new(),
            heads: BinaryHeap::new(),
            failed: false,
            body: PhantomData,
        };
        for (i, seal) in logs.enumerate() {
            let mut log = LogReader::open(&self.directory, &seal.log)?;
            if let Some(line) = log.next()? {
                merge.heads.push(Reverse((line, i)));
            }
            merge.logs.push(log);
        }
        Ok(merge)
    }
}

/// Merges logs that are sorted.
struct Merge<B> {
    output: String,
    logs: Vec<LogReader>,
    heads: BinaryHeap<Reverse<(Line, usize)>>,
    failed: bool,
    body: PhantomData<B>,
}

impl<B> Merge<B> {
    fn line(&mut self) -> Result<Option<Line>> {
        let Some(mut head) = self.heads.peek_mut() else {
            return Ok(None);
        };
        let log = head.0.1;
        let line = match self.logs[log].next()? {
            Some(next) => std::mem::replace(&mut head.0.0, next),
            None => PeekMut::pop(head).0.0,
        };
        Ok(Some(line))
    }
}

impl<B: DeserializeOwned> Iterator for Merge<B> {
    type Item = Result<Sealed<B>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let read = self.line().transpose()?;
        let read = read.and_then(|(epoch, order, body)| {
            let body = decode(&self.output, &body)?;
            Ok(Sealed { epoch, order, body })
        });
        self.failed = read.is_err();
        Some(read)
    }
}

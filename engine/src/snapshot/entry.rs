//! What operators give to be kept.

use serde::{Deserialize, Serialize};

use crate::error::{EngineError, Result};

/// A change of the state of an operator, or a record of an output, at a time.
///
/// Keys, values and bodies are written as [postcard](https://postcard.jamesmunns.com), which keeps
/// every bit of a float.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry<T> {
    pub(super) time: T,
    pub(super) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum What {
    Change(Change),
    Record(Record),
}

/// A change at an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Change {
    pub(super) operator: String,
    pub(super) key: Vec<u8>,
    pub(super) how: How,
}

/// In the order in which they apply at one time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum How {
    Remove,
    Put(Vec<u8>),
    Count(i64),
}

/// A record, in the order in which an output holds them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) output: String,
    pub(super) order: u64,
    pub(super) body: Vec<u8>,
}

impl<T> Entry<T> {
    /// From `time` on, `operator` holds `value` at `key`. The last put in the order of `T` stands;
    /// give one for a key and time.
    ///
    /// # Errors
    /// If the key or the value can not be serialized.
    pub fn put(
        time: T,
        operator: &str,
        key: &impl Serialize,
        value: &impl Serialize,
    ) -> Result<Self> {
        let value = encode(operator, value)?;
        Self::change(time, operator, key, How::Put(value))
    }

    /// From `time` on, `operator` holds nothing at `key`.
    ///
    /// # Errors
    /// If the key can not be serialized.
    pub fn remove(time: T, operator: &str, key: &impl Serialize) -> Result<Self> {
        Self::change(time, operator, key, How::Remove)
    }

    /// From `time` on, `operator` holds `key` this many times more: an update of a collection of
    /// differential dataflow. A key that is held zero times is not held.
    ///
    /// # Errors
    /// If the key can not be serialized.
    pub fn count(time: T, operator: &str, key: &impl Serialize, diff: i64) -> Result<Self> {
        Self::change(time, operator, key, How::Count(diff))
    }

    /// A record of an output. An output holds its records by epoch, then by `order`, then by the
    /// bytes of `body`.
    ///
    /// # Errors
    /// If the body can not be serialized.
    pub fn record(time: T, output: &str, order: u64, body: &impl Serialize) -> Result<Self> {
        let record = Record {
            output: output.to_owned(),
            order,
            body: encode(output, body)?,
        };
        Ok(Entry {
            time,
            what: What::Record(record),
        })
    }

    fn change(time: T, operator: &str, key: &impl Serialize, how: How) -> Result<Self> {
        let change = Change {
            operator: operator.to_owned(),
            key: encode(operator, key)?,
            how,
        };
        Ok(Entry {
            time,
            what: What::Change(change),
        })
    }

    /// The same at another time.
    pub fn at<U>(self, time: U) -> Entry<U> {
        Entry {
            time,
            what: self.what,
        }
    }
}

/// Decides which worker keeps an address: the same for every run with this number of workers.
pub(super) fn route(operator: &str, key: &[u8]) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(operator.as_bytes());
    hasher.update(&[0]);
    hasher.update(key);
    u64::from(hasher.finalize())
}

pub(super) fn encode(place: &str, value: &impl Serialize) -> Result<Vec<u8>> {
    postcard::to_stdvec(value).map_err(|e| EngineError::Snapshot {
        path: format!("entry of {place}"),
        why: format!("cannot be serialized: {e}; give a sequence its length"),
    })
}

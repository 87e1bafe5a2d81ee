//! State of operators by operator and key.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::entry::{Change, How, encode, route};
use crate::error::{EngineError, Result};

/// What is held at a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Bytes(Arc<[u8]>),
    Count(i64),
}

/// The state of all operators before a frontier, by operator and key.
///
/// Operators choose the keys they own now: whatever number of workers wrote the snapshot, every
/// worker sees all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Saved {
    pub(super) operators: BTreeMap<String, BTreeMap<Vec<u8>, Value>>,
}

impl Saved {
    /// Keys and values that `operator` has put, in the order of the bytes of the keys.
    ///
    /// # Errors
    /// Each that is not of these types: another version of the program wrote it.
    pub fn get_all<K: DeserializeOwned, V: DeserializeOwned>(
        &self,
        operator: &str,
    ) -> impl Iterator<Item = Result<(K, V)>> {
        let place = operator.to_owned();
        self.entries(operator).filter_map(move |(k, v)| match v {
            Value::Bytes(v) => Some(decode(&place, k).and_then(|k| Ok((k, decode(&place, v)?)))),
            Value::Count(_) => None,
        })
    }

    /// Keys that `operator` has counted and how many times it holds each, in the order of the
    /// bytes of the keys.
    ///
    /// # Errors
    /// Each that is not of this type: another version of the program wrote it.
    pub fn counts<K: DeserializeOwned>(
        &self,
        operator: &str,
    ) -> impl Iterator<Item = Result<(K, i64)>> {
        let place = operator.to_owned();
        self.entries(operator).filter_map(move |(k, v)| match v {
            Value::Count(n) => Some(decode(&place, k).map(|k| (k, *n))),
            Value::Bytes(_) => None,
        })
    }

    /// What `operator` has put at `key`.
    ///
    /// # Errors
    /// If it is not of this type: another version of the program wrote it.
    pub fn get<V: DeserializeOwned>(
        &self,
        operator: &str,
        key: &impl Serialize,
    ) -> Result<Option<V>> {
        let key = encode(operator, key)?;
        match self.operators.get(operator).and_then(|held| held.get(&key)) {
            Some(Value::Bytes(v)) => decode(operator, v).map(Some),
            _ => Ok(None),
        }
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.operators.values().all(BTreeMap::is_empty)
    }

    fn entries(&self, operator: &str) -> impl Iterator<Item = (&Vec<u8>, &Value)> {
        self.operators.get(operator).into_iter().flatten()
    }

    /// What `worker` of `workers` keeps of it.
    pub(super) fn share(&self, worker: usize, workers: usize) -> Saved {
        let mine =
            |operator: &str, key: &[u8]| route(operator, key) % workers as u64 == worker as u64;
        let operators = self.operators.iter().map(|(operator, held)| {
            let held = held.iter().filter(|(key, _)| mine(operator, key));
            (
                operator.clone(),
                held.map(|(k, v)| (k.clone(), v.clone())).collect(),
            )
        });
        Saved {
            operators: operators.collect(),
        }
    }

    pub(super) fn apply(&mut self, change: Change) {
        let held = self.operators.entry(change.operator).or_default();
        match change.how {
            How::Remove => {
                held.remove(&change.key);
            }
            How::Put(value) => {
                held.insert(change.key, Value::Bytes(value.into()));
            }
            How::Count(diff) => {
                let before = match held.get(&change.key) {
                    Some(Value::Count(n)) => *n,
                    _ => 0,
                };
                match before + diff {
                    0 => held.remove(&change.key),
                    n => held.insert(change.key, Value::Count(n)),
                };
            }
        }
    }

    /// Takes in what another worker kept; no address is kept by two.
    pub(super) fn absorb(&mut self, other: Saved) {
        for (operator, held) in other.operators {
            self.operators.entry(operator).or_default().extend(held);
        }
    }
}

pub(super) fn decode<V: DeserializeOwned>(place: &str, bytes: &[u8]) -> Result<V> {
    let whole = postcard::take_from_bytes(bytes);
    let whole = whole.and_then(|(value, rest)| match rest.is_empty() {
        true => Ok(value),
        false => Err(postcard::Error::DeserializeBadEncoding),
    });
    whole.map_err(|e| EngineError::Snapshot {
        path: format!("state of {place}"),
        why: format!("is of another type: {e}; resume with the program that wrote it"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::entry::{Entry, What};
    use super::*;

    fn saved(entries: Vec<Entry<u64>>) -> Saved {
        let mut saved = Saved::default();
        for entry in entries {
            if let What::Change(change) = entry.what {
                saved.apply(change);
            }
        }
        saved
    }

    /// Every bit of a float comes back, of a quiet and of a signalling NaN as well.
    #[test]
    fn floats_keep_their_bits() {
        let bits = [
            0u64,
            1 << 63,
            0x7ff0_0000_0000_0001,
            0x7ff8_dead_beef_0001,
            1,
            u64::MAX,
        ];
        let values: Vec<f64> = bits.iter().map(|&b| f64::from_bits(b)).collect();
        let saved = saved(vec![
            Entry::put(0, "field", &(3u64, "row"), &values).unwrap(),
        ]);
        let back: Vec<f64> = saved.get("field", &(3u64, "row")).unwrap().unwrap();
        assert_eq!(back.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), bits);
        let wrong: Result<Option<String>> = saved.get("field", &(3u64, "row"));
        assert!(wrong.unwrap_err().to_string().contains("state of field"));
    }

    /// What was retracted or removed leaves no trace; shares are all of it, each key once.
    #[test]
    fn retraction_and_shares() {
        let count = |key: u64, diff| Entry::count(0, "reports", &key, diff).unwrap();
        let put = |key: u64| Entry::put(0, "rows", &key, &(key as f32)).unwrap();
        let mut entries: Vec<_> = (0..100).flat_map(|k| [count(k, 2), put(k)]).collect();
        let plain = saved(entries.clone());
        entries.extend((100..150).flat_map(|k| [count(k, 1), put(k)]));
        entries
            .extend((100..150).flat_map(|k| [count(k, -1), Entry::remove(1, "rows", &k).unwrap()]));
        assert_eq!(saved(entries), plain);
        assert_eq!(
            plain
                .counts::<u64>("reports")
                .filter(|r| r.as_ref().unwrap().1 == 2)
                .count(),
            100
        );
        for workers in 1..5 {
            let mut all = Saved::default();
            let shares: Vec<Saved> = (0..workers).map(|w| plain.share(w, workers)).collect();
            let held = |s: &Saved| s.operators.values().map(BTreeMap::len).sum::<usize>();
            assert_eq!(shares.iter().map(held).sum::<usize>(), 200);
            shares.into_iter().for_each(|s| all.absorb(s));
            assert_eq!(all, plain);
        }
    }
}

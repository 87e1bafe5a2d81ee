//! The container in which shards travel on timely's channels.
//!
//! In one process a batch is moved. Between processes each shard becomes a descriptor of
//! `40 + 8 · rank` bytes; payloads of at least 32 KiB leave on the bulk lane beside it
//! and smaller ones follow the descriptor, padded to 8 bytes. There is no general-purpose
//! serialisation on this path.

use std::io::Write;

use timely::bytes::arc::Bytes;
use timely::container::{Accountable, DrainContainer, PushInto, SizableContainer};
use timely::dataflow::channels::ContainerBytes;

use super::data::{DType, Data};
use super::piece::Shard;
use crate::fabric::bulk;

/// Payloads from this many bytes on leave on the bulk lane (where there is one).
pub(crate) const BULK: usize = 32 << 10;
/// Bytes at which a batch is shipped.
const SHIP: usize = 64 << 10;
/// Fixed words of a descriptor: key, from|to, type|rank|lane, bytes, tag.
const WORDS: usize = 5;
/// A rank no tensor has; guards the decoder.
const MAX_RANK: usize = 16;

/// A sequence of shards.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The shards, in the order they were given.
    pub shards: Vec<Shard>,
    bytes: usize,
}

impl Accountable for Batch {
    fn record_count(&self) -> i64 {
        self.shards.len() as i64
    }
}

impl DrainContainer for Batch {
    type Item<'a> = Shard;
    type DrainIter<'a> = std::vec::Drain<'a, Shard>;
    fn drain(&mut self) -> Self::DrainIter<'_> {
        self.bytes = 0;
        self.shards.drain(..)
    }
}

impl SizableContainer for Batch {
    fn at_capacity(&self) -> bool {
        self.bytes >= SHIP
    }
    fn ensure_capacity(&mut self, _stash: &mut Option<Self>) {}
}

impl PushInto<Shard> for Batch {
    fn push_into(&mut self, shard: Shard) {
        self.bytes += shard.bytes_len() + 64;
        self.shards.push(shard);
    }
}

fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(8)
}

impl ContainerBytes for Batch {
    fn length_in_bytes(&self) -> usize {
        let by_lane = bulk::is_open();
        8 + self
            .shards
            .iter()
            .map(|s| {
                let inline = if by_lane && s.bytes_len() >= BULK {
                    0
                } else {
                    padded(s.bytes_len())
                };
                8 * (WORDS + s.shape.len()) + inline
            })
            .sum::<usize>()
    }

    fn into_bytes<W: Write>(&self, writer: &mut W) {
        let mut put = |bytes: &[u8]| {
            if let Err(e) = writer.write_all(bytes) {
                panic!("tensor message could not be written to its channel: {e}");
            }
        };
        put(&(self.shards.len() as u64).to_le_bytes());
        for s in &self.shards {
            let bulk = bulk::is_open() && s.bytes_len() >= BULK;
            let tag = if bulk {
                bulk::send(s.to as usize, s.view())
            } else {
                0
            };
            let kind = s.dtype() as u64 | (s.shape.len() as u64) << 8 | u64::from(bulk) << 16;
            for word in [
                s.key,
                u64::from(s.from) << 32 | u64::from(s.to),
                kind,
                s.bytes_len() as u64,
                tag,
            ] {
                put(&word.to_le_bytes());
            }
            for &d in &s.shape {
                put(&(d as u64).to_le_bytes());
            }
            if !bulk {
                put(s.view().bytes());
                put(&[0u8; 8][..padded(s.bytes_len()) - s.bytes_len()]);
            }
        }
    }

    fn from_bytes(bytes: Bytes) -> Self {
        match Batch::decode(&bytes) {
            Ok(batch) => batch,
            Err(why) => panic!("tensor message of another version or damaged: {why}"),
        }
    }
}

impl Batch {
    /// Reads a batch from its bytes on the wire; never reads past the end and never reserves more
    /// than the bytes at hand justify.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let mut wire = Wire { bytes, at: 0 };
        let count = wire.word("the count")?;
        let mut batch = Batch::default();
        for _ in 0..count {
            batch.push_into(wire.shard()?);
        }
        Ok(batch)
    }
}

/// A cursor over the bytes of a message.
struct Wire<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Wire<'_> {
    fn take(&mut self, len: usize, what: &str) -> Result<&[u8], String> {
        let rest = &self.bytes[self.at..];
        let got = rest
            .get(..len)
            .ok_or_else(|| format!("ends inside {what} at byte {}", self.at))?;
        self.at += len;
        Ok(got)
    }

    fn word(&mut self, what: &str) -> Result<u64, String> {
        let raw = self.take(8, what)?;
        raw.try_into()
            .map(u64::from_le_bytes)
            .map_err(|e| format!("{what}: {e}"))
    }

    fn shard(&mut self) -> Result<Shard, String> {
        let key = self.word("a key")?;
        let route = self.word("a route")?;
        let kind = self.word("a kind")?;
        let len = self.word("a length")? as usize;
        let tag = self.word("a tag")?;
        let dtype = DType::from_code(kind as u8)
            .ok_or_else(|| format!("unknown element type {}", kind as u8))?;
        let rank = (kind >> 8) as u8 as usize;
        if rank > MAX_RANK {
            return Err(format!("rank {rank} is above {MAX_RANK}"));
        }
        let mut shape = Vec::with_capacity(rank);
        for _ in 0..rank {
            shape.push(self.word("an extent")? as usize);
        }
        let elements = shape
            .iter()
            .try_fold(1usize, |n, &d| n.checked_mul(d))
            .filter(|n| n.checked_mul(dtype.size()) == Some(len))
            .ok_or_else(|| format!("{shape:?} of {dtype:?} are not {len} bytes"))?;
        let from = (route >> 32) as usize;
        let to = (route & 0xffff_ffff) as usize;
        let shard = if kind >> 16 & 1 == 1 {
            let wait = bulk::expect(from, tag)?;
            Shard::coming(key, shape, dtype, wait)
        } else {
            let padded = len.checked_next_multiple_of(8).ok_or("length overflows")?;
            let raw = self.take(padded, "a payload")?;
            let mut data = Data::zeros(dtype, elements);
            data.as_bytes_mut().copy_from_slice(&raw[..len]);
            Shard::new(key, shape, data)
        };
        Ok(shard.addressed(from, to))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Batch {
        let mut b = Batch::default();
        b.push_into(
            Shard::new(7, vec![2, 3], vec![1f32, 2., 3., 4., 5., 6.].into()).addressed(1, 2),
        );
        b.push_into(Shard::new(8, vec![0, 3], Data::zeros(DType::I128, 0)).addressed(3, 0));
        b.push_into(Shard::new(9, vec![3], vec![1i128 << 100, -1, 0].into()).addressed(0, 1));
        b.push_into(Shard::new(
            10,
            vec![],
            vec![half::bf16::from_f32(2.5)].into(),
        ));
        b
    }

    /// Writing and reading gives the same shards, empty and scalar ones included.
    #[test]
    fn wire_round_trip() {
        let b = sample();
        let mut bytes = Vec::new();
        b.into_bytes(&mut bytes);
        assert_eq!(bytes.len(), b.length_in_bytes());
        assert_eq!(bytes.len() % 8, 0);
        let c = Batch::decode(&bytes).expect("own bytes");
        assert_eq!(c.shards.len(), 4);
        for (x, y) in b.shards.iter().zip(&c.shards) {
            assert_eq!(
                (x.key, x.from, x.to, &x.shape),
                (y.key, y.from, y.to, &y.shape)
            );
            assert_eq!(x.data(), y.data());
        }
    }

    /// Every prefix and every flipped byte gives a batch or an error, never a panic.
    #[test]
    fn damaged_bytes_are_an_error() {
        let mut bytes = Vec::new();
        sample().into_bytes(&mut bytes);
        for cut in 0..bytes.len() {
            assert!(Batch::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for i in 0..bytes.len() {
            for flip in [1u8, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[i] ^= flip;
                let _ = Batch::decode(&damaged);
            }
        }
    }
}

//! Seeded damage to bytes: what disks, networks and bad writers do, and what an attacker tries.

/// SplitMix64 (Steele, Lea and Flood 2014): every seed has its own stream.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`, 0 for `n` = 0.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Numbers that break sums, products and signs.
const EDGES: [u64; 12] = [
    0,
    1,
    0x7f,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// One to four damages of `bytes`; `other` gives the pieces that are spliced in.
pub(crate) fn mutate(bytes: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut out = bytes.to_vec();
    for _ in 0..=random.below(4) {
        damage(&mut out, other, random);
    }
    out
}

fn damage(out: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let at = random.below(out.len());
    match random.below(8) {
        // a bit flips
        0 | 1 => {
            if let Some(b) = out.get_mut(at) {
                *b ^= 1 << random.below(8);
            }
        }
        // a byte is another one
        2 => {
            if let Some(b) = out.get_mut(at) {
                *b = random.next() as u8;
            }
        }
        // the end is missing
        3 => {
            if random.below(4) == 0 {
                out.truncate(at);
            }
        }
        // a length, a count or an offset is wrong: an aligned word of 2, 4 or 8 bytes
        4 | 5 => {
            let size = [2, 4, 8][random.below(3)];
            let at = at - at % size.min(4);
            let Some(word) = out.get_mut(at..at + size) else {
                return;
            };
            let little = random.below(2) == 0;
            let old = word.iter().rev().fold(0, |x, &b| x << 8 | u64::from(b));
            let new = match random.below(4) {
                0 => old.wrapping_add(1),
                1 => old.wrapping_sub(1),
                2 => old << random.below(8),
                _ => EDGES[random.below(EDGES.len())],
            };
            let bytes = new.to_le_bytes();
            for (k, b) in word.iter_mut().enumerate() {
                *b = bytes[if little { k } else { size - 1 - k }];
            }
        }
        // a piece of this or another file comes in, over what is there or between
        6 => {
            let from = if random.below(2) == 0 { other } else { &*out };
            let first = random.below(from.len());
            let last = (first + random.below(200)).min(from.len());
            let piece = from[first..last].to_vec();
            let end = (at + piece.len() * random.below(2)).min(out.len());
            out.splice(at..end, piece);
        }
        // a piece is missing
        _ => {
            let end = (at + random.below(64)).min(out.len());
            out.drain(at..end);
        }
    }
}

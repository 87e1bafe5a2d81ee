//! SHA-256 (FIPS 180-4), for the digests of data sets.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::error::{PipelineError, Result};

/// Fractional parts of the cube roots of the first 64 primes, section 4.2.2.
const K: [u32; 64] = roots::<64>(3);
/// Fractional parts of the square roots of the first 8 primes, section 5.3.3.
const H: [u32; 8] = roots::<8>(2);

/// The first 32 bits of the fractional part of the `power`-th root of the first `N` primes, found
/// with integers only: the root of `p << 32 * power`, whose low word is the fraction.
const fn roots<const N: usize>(power: u32) -> [u32; N] {
    let mut out = [0; N];
    let (mut found, mut p) = (0, 2u128);
    while found < N {
        let mut divisor = 2;
        while divisor * divisor <= p && p % divisor != 0 {
            divisor += 1;
        }
        if divisor * divisor > p {
            let target = p << (32 * power);
            let mut root = 0u128;
            let mut bit = 40;
            while bit > 0 {
                bit -= 1;
                let tried = root | (1 << bit);
                let square = tried * tried;
                if (if power == 2 { square } else { square * tried }) <= target {
                    root = tried;
                }
            }
            out[found] = root as u32;
            found += 1;
        }
        p += 1;
    }
    out
}

/// A digest in the making.
struct Sha256 {
    state: [u32; 8],
    block: [u8; 64],
    filled: usize,
    length: u64,
}

impl Sha256 {
    fn new() -> Self {
        Self {
            state: H,
            block: [0; 64],
            filled: 0,
            length: 0,
        }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        while !bytes.is_empty() {
            let n = bytes.len().min(64 - self.filled);
            self.block[self.filled..self.filled + n].copy_from_slice(&bytes[..n]);
            self.filled += n;
            bytes = &bytes[n..];
            if self.filled == 64 {
                self.compress();
                self.filled = 0;
            }
        }
    }

    fn finish(mut self) -> String {
        let bits = self.length * 8;
        self.update(&[0x80]);
        while self.filled != 56 {
            self.update(&[0]);
        }
        self.update(&bits.to_be_bytes());
        let mut out = String::new();
        for word in self.state {
            let _ = write!(out, "{word:08x}");
        }
        out
    }

    /// One block, section 6.2.2.
    fn compress(&mut self) {
        let mut w = [0u32; 64];
        for (word, bytes) in w.iter_mut().zip(self.block.chunks_exact(4)) {
            *word = bytes.iter().fold(0, |word, &b| word << 8 | u32::from(b));
        }
        for t in 16..64 {
            let (x, y) = (w[t - 2], w[t - 15]);
            let s1 = x.rotate_right(17) ^ x.rotate_right(19) ^ x >> 10;
            let s0 = y.rotate_right(7) ^ y.rotate_right(18) ^ y >> 3;
            w[t] = s1
                .wrapping_add(w[t - 7])
                .wrapping_add(s0)
                .wrapping_add(w[t - 16]);
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = self.state;
        for t in 0..64 {
            let s1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
            let choice = (e & f) ^ (!e & g);
            let t1 = h
                .wrapping_add(s1)
                .wrapping_add(choice)
                .wrapping_add(K[t])
                .wrapping_add(w[t]);
            let s0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
            let majority = (a & b) ^ (a & c) ^ (b & c);
            let t2 = s0.wrapping_add(majority);
            (h, g, f, e) = (g, f, e, d.wrapping_add(t1));
            (d, c, b, a) = (c, b, a, t1.wrapping_add(t2));
        }
        for (s, v) in self.state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *s = s.wrapping_add(v);
        }
    }
}

/// The SHA-256 of a file, lower-case hexadecimal.
///
/// # Errors
/// If the file cannot be read.
pub fn sha256_of(path: &Path) -> Result<String> {
    let mend = "check the path and its permissions";
    let failed = || PipelineError::file("read", path, mend);
    let mut file = File::open(path).map_err(failed())?;
    let (mut digest, mut buffer) = (Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut buffer).map_err(failed())? {
            0 => return Ok(digest.finish()),
            n => digest.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> String {
        let mut digest = Sha256::new();
        for piece in bytes.chunks(37) {
            digest.update(piece);
        }
        digest.finish()
    }

    #[test]
    fn the_digests_of_the_standard() {
        // FIPS 180-2, appendix B, and the empty text
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let million = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
        assert_eq!(of(b""), empty);
        assert_eq!(of(b"abc"), abc);
        assert_eq!(of(&vec![b'a'; 1_000_000]), million);
    }
}

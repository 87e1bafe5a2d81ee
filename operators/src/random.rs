//! Random numbers that belong to a name and an element, and not to who draws them.

use advect_engine::{Mesh, Spec};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The stream of a seed and a name.
pub(crate) fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(fingerprint(name));
    random
}

/// Ranges of global elements that a piece holds, in local order.
pub(crate) fn runs(spec: &Spec, mesh: &Mesh, worker: usize) -> Vec<std::ops::Range<usize>> {
    let indices = spec.layout.indices(mesh, &spec.shape, worker);
    let Some((last, outer)) = indices.split_last() else {
        return std::iter::once(0..1).collect();
    };
    let mut starts = vec![0];
    for (dim, held) in outer.iter().enumerate() {
        let n = spec.shape[dim];
        starts = (starts.iter())
            .flat_map(|start| held.iter().map(move |i| start * n + i))
            .collect();
    }
    let width = spec.shape[spec.shape.len() - 1];
    let mut runs: Vec<std::ops::Range<usize>> = Vec::new();
    for start in starts {
        for i in last {
            let at = start * width + i;
            match runs.last_mut() {
                Some(run) if run.end == at => run.end += 1,
                _ => runs.push(at..at + 1),
            }
        }
    }
    runs
}

/// The FNV-1a hash of a name, 64 bits: which stream is the name's own.
fn fingerprint(name: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    name.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

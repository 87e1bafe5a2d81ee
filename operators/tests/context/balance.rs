//! How even the work of causal attention is, in virtual time: a pair of a query and a key takes one unit, and
//! messages take none.

use advect_engine::{DType, Deal, Layout, Mesh, Placement, Spec};
use advect_operators::attention::{Attention, AttentionPartial, Turn};

/// Work of every worker in every turn, in blocks as they are multiplied.
fn work(deal: Deal, workers: usize, positions: usize) -> Vec<Vec<usize>> {
    let mesh = Mesh::line("context", workers).dealing(0, deal);
    let shape = |last: [usize; 3]| [&[1, positions][..], &last].concat();
    let turn = |by: usize| {
        let partial = AttentionPartial {
            attention: Attention::CAUSAL,
            turn: Some(Turn {
                by,
                of: workers,
                deal,
            }),
            onto: by > 0,
        };
        let cut = |by| Layout::new([Placement::Shifted { dim: 1, by }]);
        let q = Spec::new(shape([1, 1, 8]), DType::F32, cut(0));
        let kv = Spec::new(shape([2, 1, 8]), DType::F32, cut(by));
        let pairs = |w| partial.pairs(&mesh, [&q, &kv], w);
        (0..workers).map(pairs).collect()
    };
    (0..workers).map(turn).collect()
}

/// Even work over the time until the last worker is done: a worker takes a turn when it is over with the last
/// one, and the worker after it has sent its piece, which it does when it is over with the turn before the last.
fn efficiency(turns: &[Vec<usize>]) -> f64 {
    let workers = turns.len();
    let mut ends: Vec<Vec<f64>> = Vec::new();
    for (by, work) in turns.iter().enumerate() {
        let over = |turn: usize, worker: usize| ends[turn][worker];
        let end = |w: usize| {
            let own = by.checked_sub(1).map_or(0.0, |last| over(last, w));
            // the piece of turn `by` left the worker after this one after its turn `by` - 2
            let sent = by
                .checked_sub(2)
                .map_or(0.0, |before| over(before, (w + 1) % workers));
            own.max(sent) + work[w] as f64
        };
        let row = (0..workers).map(end).collect();
        ends.push(row);
    }
    let total: usize = turns.iter().flatten().sum();
    let last = ends[workers - 1].iter().copied().fold(0.0, f64::max);
    total as f64 / workers as f64 / last
}

/// Zig-zag: the slowest worker is within a chunk of the mean, and nobody waits for long; a plain ring leaves
/// the first workers without work: (c / 2) / (c − 1/2) of c workers, 0.53 of 8.
#[test]
fn balance_of_zig_zag() {
    let positions = 1 << 15;
    for workers in [2, 4, 8] {
        let [ring, zig_zag, striped] =
            [Deal::Blocks, Deal::ZigZag, Deal::Striped].map(|deal| work(deal, workers, positions));
        let chunk = positions / (2 * workers);
        let sums: Vec<usize> = (0..workers)
            .map(|w| zig_zag.iter().map(|t| t[w]).sum())
            .collect();
        let mean = sums.iter().sum::<usize>() / workers;
        assert!(
            sums.iter().all(|s| s.abs_diff(mean) <= chunk * chunk),
            "{sums:?}"
        );
        let exact = (workers as f64 / 2.0) / (workers as f64 - 0.5);
        let [ring, zig_zag, striped] = [&ring, &zig_zag, &striped].map(|turns| efficiency(turns));
        println!("{workers} workers: ring {ring:.3}, zig-zag {zig_zag:.3}, striped {striped:.3}");
        assert!((ring - exact).abs() < 0.02, "{ring} and {exact}");
        assert!(zig_zag >= 0.9 && striped >= 0.9, "{zig_zag}, {striped}");
    }
}

//! The assimilation on a simulated network: the right bits or an error that names a worker.

use advect_engine::Fabric;
use advect_engine::fabric::Faults;

use super::job::{Seen, archive, run, run_on, together};

const CYCLES: u64 = 2;

fn sim(workers: usize, seed: u64, faults: Faults) -> Result<Vec<Seen>, String> {
    let fabric = Fabric::Sim {
        workers,
        seed,
        faults,
    };
    run_on(&fabric, 0.4, CYCLES, archive(CYCLES))
}

/// 200 seeds with delays, pauses, cuts and crashes.
#[test]
fn right_or_named() {
    let (want, _) = run(1, 0.4, CYCLES, archive(CYCLES));
    let (mut right, mut failed) = (0, 0);
    for workers in [2, 3, 4] {
        let calm = sim(workers, 0, Faults::default()).expect("good weather");
        let turns = calm.iter().filter_map(|s| s.trace).map(|t| t.clock).max();
        let turns = turns.expect("a simulated network has a trace");
        for seed in (0..200).filter(|s| s % 3 + 2 == workers as u64) {
            match sim(workers, seed, Faults::drawn(seed, workers, turns)) {
                Ok(seen) => {
                    assert!(together(&seen).0 == want, "seed {seed}: other bits");
                    right += 1;
                }
                Err(why) => {
                    let named = why.contains("worker ") && why.contains("turn ");
                    assert!(named, "seed {seed}: {why}");
                    failed += 1;
                }
            }
        }
    }
    println!("{right} right, {failed} named errors");
    assert!(right > 40 && failed > 40, "{right} right, {failed} failed");
}

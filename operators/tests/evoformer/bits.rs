//! Neither threads nor workers nor runs change a bit, where that is promised.

use advect_engine::{DType, Data, threads};
use advect_operators::evoformer::Along;

use super::cut::{Attention, Cut, tensors};
use super::plain::Extents;

/// Any number of threads and any run: the same bits, the cotangent of the bias among them.
#[test]
fn threads_and_runs_change_no_bit() {
    for (along, dtype) in [(Along::Rows, DType::F32), (Along::Columns, DType::F64)] {
        let of = Extents {
            along,
            batch: 1,
            rows: 37,
            length: 50,
            heads: 3,
            width: 8,
        };
        let tensors = tensors(&of, true, true);
        let with = |count: usize| {
            threads::fix(count);
            let made = Attention::new(&of, &tensors, dtype, &[(Cut::Rows, 1)]);
            made.expect("it fits").found(&tensors.given)
        };
        let alone = with(1);
        for count in [1, 2, 3, 8] {
            for (a, b) in alone.iter().zip(with(count)) {
                assert_eq!(a.as_bytes(), b.as_bytes(), "{count} threads");
            }
        }
    }
}

/// In canonical numbers, the cotangent of a bias that rows on 1, 2 and 4 workers share has the same bits, and so has
/// everything else, whatever is cut.
#[test]
fn canonical_bits_do_not_know_the_workers() {
    for along in [Along::Rows, Along::Columns] {
        for rows in [8, 7] {
            let of = Extents {
                along,
                batch: 2,
                rows,
                length: 6,
                heads: 4,
                width: 5,
            };
            let tensors = tensors(&of, true, true);
            let found = |cuts: &[(Cut, usize)]| -> Vec<Data> {
                let made = Attention::new(&of, &tensors, DType::Canonical, cuts);
                made.expect("it fits").found(&tensors.given)
            };
            let alone = found(&[(Cut::Rows, 1)]);
            for cut in [Cut::Rows, Cut::Heads, Cut::Queries, Cut::Batch] {
                for workers in [1, 2, 4] {
                    for (i, (a, b)) in alone.iter().zip(found(&[(cut, workers)])).enumerate() {
                        assert_eq!(a.as_bytes(), b.as_bytes(), "{i}, {cut:?} on {workers}");
                    }
                }
            }
            for (a, b) in alone.iter().zip(found(&[(Cut::Rows, 2), (Cut::Heads, 2)])) {
                assert_eq!(a.as_bytes(), b.as_bytes());
            }
        }
    }
}

//! Every pair of layouts converts. Five families:
//!
//! * `value_*`: the logical tensor is the same before and after, by an oracle that knows nothing of
//!   plans; catches boxes that overlap, are lost, or are owned twice.
//! * `adjoint_*`: Σ⟨R x, y⟩ = Σ⟨x, Rᵀ y⟩ over the workers; catches a missing or doubled reduction.
//! * `bytes_*`: planned bytes equal the closed forms of the collectives.
//! * `exact_*`: fixed-point partials give the same bits on every layout.
//! * `flow_*`: the dataflow gives the bits of the in-memory reference, over threads and TCP.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, too, fail by panicking"
)]

use advect_engine::{DType, Edge, Layout, Mesh, Monoid, Overlap, Placement, Relayout, Shard};

#[path = "relayout/deals.rs"]
mod deals;
#[path = "relayout/flow.rs"]
mod flow;

const SHAPE: [usize; 3] = [5, 7, 3];

/// Placements on an axis of `places` workers; the last of them at its two ends.
fn kinds(places: usize) -> Vec<Placement> {
    let mut all = vec![
        Placement::Split { dim: 0 },
        Placement::Split { dim: 1 },
        Placement::Same,
        Placement::Partial(Monoid::Sum),
        Placement::At { at: 0 },
    ];
    if places > 1 {
        all.push(Placement::At { at: places - 1 });
        all.push(Placement::Shifted { dim: 0, by: 1 });
    }
    if places > 2 {
        let by = places - 1;
        all.push(Placement::Shifted { dim: 1, by });
    }
    all
}

fn halos() -> Vec<Placement> {
    let mut all = Vec::new();
    for edge in [Edge::Clamped, Edge::Periodic] {
        for overlap in [Overlap::Copies, Overlap::Sums] {
            for width in [1, 2, 6] {
                all.push(Placement::Halo {
                    dim: 0,
                    width,
                    edge,
                    overlap,
                });
            }
        }
    }
    all
}

/// Numbers that look random, from a counter.
fn noise(seed: u64, i: usize) -> f64 {
    let mut z = (seed << 32 ^ i as u64).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ z >> 31) >> 11) as f64 / (1u64 << 53) as f64 - 0.5
}

fn for_each(idx: &[Vec<usize>], mut f: impl FnMut(usize, usize, &[usize])) {
    let sizes: Vec<usize> = idx.iter().map(Vec::len).collect();
    let n: usize = sizes.iter().product();
    for local in 0..n {
        let mut rest = local;
        let mut at = vec![0; idx.len()];
        for d in (0..idx.len()).rev() {
            at[d] = idx[d][rest % sizes[d]];
            rest /= sizes[d];
        }
        let global = at.iter().zip(SHAPE).fold(0, |g, (&i, n)| g * n + i);
        f(local, global, &at);
    }
}

/// Pieces of a random tensor in the given layout: partial axes hold unequal parts of it, halo sums
/// a tenth of it at every copy that is not the owner's.
fn pieces(mesh: &Mesh, layout: &Layout, seed: u64) -> Vec<Vec<f64>> {
    let total: usize = SHAPE.iter().product();
    let x: Vec<f64> = (0..total).map(|i| noise(seed, i)).collect();
    let sums: Vec<usize> = layout
        .axes
        .iter()
        .filter_map(|p| match p {
            Placement::Halo {
                dim,
                overlap: Overlap::Sums,
                ..
            } => Some(*dim),
            _ => None,
        })
        .collect();
    // how often each index of a summed dimension is held along its axis
    let mut held = vec![0usize; SHAPE[0]];
    let counted = layout
        .axes
        .iter()
        .position(|p| matches!(p, Placement::Halo { .. }));
    if let Some(axis) = counted {
        for c in 0..mesh.sizes()[axis] {
            let mut at = vec![0; mesh.rank()];
            at[axis] = c;
            for &g in &layout.indices(mesh, &SHAPE, mesh.worker(&at))[0] {
                held[g] += 1;
            }
        }
    }
    (0..mesh.workers())
        .map(|w| {
            let at = mesh.coordinates(w);
            let mut weight = 1.0;
            for (a, p) in layout.axes.iter().enumerate() {
                if let Placement::Partial(_) = p {
                    let n = mesh.sizes()[a];
                    let rest: f64 = (1..n).map(|c| noise(seed + 9, c)).sum();
                    weight *= if at[a] == 0 {
                        1.0 - rest
                    } else {
                        noise(seed + 9, at[a])
                    };
                }
            }
            let owned = layout.owned(mesh, &SHAPE, w);
            let idx = layout.indices(mesh, &SHAPE, w);
            let mut v = vec![0.0; idx.iter().map(Vec::len).product()];
            let mut seen_owner = vec![false; total];
            for_each(&idx, |l, g, at| {
                let mut share = weight;
                if sums.contains(&0) {
                    // the first held copy inside the owned range counts as the owner's
                    let owner = owned[0].iter().any(|r| r.contains(&at[0])) && !seen_owner[g];
                    seen_owner[g] |= owner;
                    share *= if owner {
                        1.0 - 0.1 * (held[at[0]] - 1) as f64
                    } else {
                        0.1
                    };
                }
                v[l] = x[g] * share;
            });
            v
        })
        .collect()
}

/// The logical tensor that pieces stand for; copies must agree to the bit.
fn value(mesh: &Mesh, layout: &Layout, pieces: &[Vec<f64>]) -> Vec<f64> {
    let total: usize = SHAPE.iter().product();
    let mut sum = vec![0.0; total];
    let mut first: Vec<Option<f64>> = vec![None; total];
    let adds = |p: &Placement| {
        matches!(
            p,
            Placement::Partial(_)
                | Placement::Halo {
                    overlap: Overlap::Sums,
                    ..
                }
        )
    };
    let copies = |p: &Placement| {
        matches!(
            p,
            Placement::Same
                | Placement::Halo {
                    overlap: Overlap::Copies,
                    ..
                }
        )
    };
    for (w, v) in pieces.iter().enumerate() {
        let at = mesh.coordinates(w);
        let mine = layout
            .axes
            .iter()
            .zip(&at)
            .all(|(p, &c)| *p != Placement::Same || c == 0);
        let owned = layout.owned(mesh, &SHAPE, w);
        let only_owned = layout.axes.iter().any(|p| p.dim() == Some(0) && copies(p));
        let mut seen = vec![false; total];
        for_each(&layout.indices(mesh, &SHAPE, w), |l, g, at| {
            if layout.axes.iter().all(|p| !adds(p)) {
                let same = first[g].is_none_or(|f| f.to_bits() == v[l].to_bits());
                assert!(same, "copies differ at {at:?} in {layout}");
                first[g] = Some(v[l]);
            }
            let counts = !only_owned || (owned[0].iter().any(|r| r.contains(&at[0])) && !seen[g]);
            if mine && counts {
                seen[g] = true;
                sum[g] += v[l];
            }
        });
    }
    sum
}

fn shards(mesh: &Mesh, layout: &Layout, pieces: Vec<Vec<f64>>) -> Vec<Shard> {
    let numbered = pieces.into_iter().enumerate();
    numbered
        .map(|(w, v)| Shard::new(0, layout.local_shape(mesh, &SHAPE, w), v.into()))
        .collect()
}

fn values(shards: &[Shard]) -> Vec<Vec<f64>> {
    shards
        .iter()
        .map(|s| s.elements::<f64>().to_vec())
        .collect()
}

fn dot(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    a.iter()
        .flatten()
        .zip(b.iter().flatten())
        .map(|(x, y)| x * y)
        .sum()
}

/// Value and adjoint of one relayout.
fn check(mesh: &Mesh, from: &Layout, to: &Layout) {
    let plan = Relayout::plan(mesh, &SHAPE, DType::F64, from, to).expect("total");
    let place = format!("{from} -> {to} on {:?}", mesh.sizes());
    let x = pieces(mesh, from, 1);
    let moved = values(&plan.apply(&shards(mesh, from, x.clone())).expect("fits"));
    let (before, after) = (value(mesh, from, &x), value(mesh, to, &moved));
    for (b, a) in before.iter().zip(&after) {
        assert!(
            (b - a).abs() <= 1e-12 * (1.0 + b.abs()),
            "{place}: {b} became {a}"
        );
    }
    let adjoint = plan.adjoint().expect("linear");
    assert_eq!(adjoint.adjoint().expect("linear").from(), from);
    let y = pieces(mesh, &to.dual().expect("linear"), 2);
    let back = values(
        &adjoint
            .apply(&shards(mesh, adjoint.from(), y.clone()))
            .expect("fits"),
    );
    let (left, right) = (dot(&moved, &y), dot(&x, &back));
    assert!(
        (left - right).abs() <= 1e-12 * (1.0 + left.abs()),
        "{place}: {left} and {right}"
    );
    let sent: usize = (0..mesh.workers()).map(|w| plan.bytes_sent(w)).sum();
    let got: usize = (0..mesh.workers()).map(|w| plan.bytes_received(w)).sum();
    assert_eq!(sent, got, "{place}: every byte sent is received");
}

/// All 36 pairs on one axis, 1 to 8 workers (more workers than elements included).
#[test]
fn value_and_adjoint_on_one_axis() {
    for workers in [1, 2, 3, 4, 8] {
        let mesh = Mesh::line("x", workers);
        for x in kinds(workers) {
            for y in kinds(workers) {
                check(&mesh, &Layout::new([x]), &Layout::new([y]));
            }
        }
    }
}

/// Checks all pairs of layouts on a mesh of two axes.
fn check_all_pairs(mesh: &Mesh) {
    let [first, second] = [0, 1].map(|axis| kinds(mesh.sizes()[axis]));
    let beside = |a: &Placement| second.iter().map(|b| Layout::new([*a, *b])).collect();
    let layouts: Vec<Layout> = first.iter().flat_map::<Vec<Layout>, _>(beside).collect();
    for from in &layouts {
        for to in &layouts {
            check(mesh, from, to);
        }
    }
}

/// All pairs on two axes, 3,136 where both have three workers or more.
#[test]
fn value_and_adjoint_on_two_axes() {
    for sizes in [[1, 1], [1, 2], [2, 1], [3, 1], [2, 2], [4, 2], [2, 4]] {
        let mesh = Mesh::new([("x", sizes[0]), ("y", sizes[1])]).unwrap();
        check_all_pairs(&mesh);
    }
}

/// Halo copies and halo sums against everything else, clamped and periodic, wider than a piece and
/// wider than the dimension.
#[test]
fn value_and_adjoint_of_halos() {
    for workers in [1, 2, 3, 4, 8] {
        let mesh = Mesh::line("x", workers);
        for halo in halos() {
            for other in kinds(workers).into_iter().chain(halos()) {
                check(&mesh, &Layout::new([halo]), &Layout::new([other]));
                check(&mesh, &Layout::new([other]), &Layout::new([halo]));
            }
        }
    }
    let mesh = Mesh::new([("x", 2), ("y", 2)]).unwrap();
    for halo in halos() {
        for a in kinds(2) {
            for b in kinds(2) {
                check(&mesh, &Layout::new([halo, a]), &Layout::new([b, a]));
                check(&mesh, &Layout::new([a, b]), &Layout::new([a, halo]));
                check(&mesh, &Layout::new([a, halo]), &Layout::new([b, halo]));
            }
        }
    }
}

/// Collectives cost what the literature says: (P−1)/P of the tensor for gather and reduce-scatter,
/// twice that for all-reduce, (P−1)/P² for all-to-all, a halo for its width, nothing for slicing.
#[test]
fn bytes_equal_the_closed_forms() {
    let shape = [24, 48];
    let n = 24 * 48 * 4;
    for p in [1usize, 2, 3, 4, 8] {
        let mesh = Mesh::line("x", p);
        let bytes = |a: Placement, b: Placement| {
            let plan = Relayout::plan(
                &mesh,
                &shape,
                DType::F32,
                &Layout::new([a]),
                &Layout::new([b]),
            )
            .unwrap();
            let all: Vec<usize> = (0..p).map(|w| plan.bytes_sent(w)).collect();
            let placed = [a, b].iter().any(|p| matches!(p, Placement::At { .. }));
            assert!(
                placed || all.iter().all(|&b| b == all[0]) || p > 2,
                "{all:?}"
            );
            all
        };
        let [s0, s1, same, sum, first, ..] = kinds(p)[..] else {
            panic!("five at least")
        };
        assert_eq!(bytes(s0, same), vec![(p - 1) * n / p; p], "gather");
        assert_eq!(bytes(sum, s1), vec![(p - 1) * n / p; p], "reduce-scatter");
        assert_eq!(bytes(sum, same), vec![2 * (p - 1) * n / p; p], "all-reduce");
        assert_eq!(bytes(s0, s1), vec![(p - 1) * n / p / p; p], "all-to-all");
        assert_eq!(bytes(same, s0), vec![0; p], "slice");
        assert_eq!(bytes(s0, sum), vec![0; p], "place");
        assert_eq!(bytes(same, sum), vec![0; p], "keep one");
        let at = |sender: usize, bytes: usize| {
            let mut all = vec![0; p];
            all[sender] = bytes;
            all
        };
        let last = Placement::At { at: p - 1 };
        let moved = if p > 1 { n } else { 0 };
        assert_eq!(bytes(first, last), at(0, moved), "send");
        assert_eq!(bytes(first, same), at(0, (p - 1) * n), "broadcast");
        assert_eq!(bytes(first, s0), at(0, (p - 1) * n / p), "scatter");
        assert_eq!(bytes(same, last), vec![0; p], "keep one place");
        let mut gathered = vec![n / p; p];
        gathered[0] = 0;
        assert_eq!(bytes(s0, first), gathered, "gather to one place");
        let reduced: usize = bytes(sum, first).iter().sum();
        assert_eq!(
            reduced,
            (p - 1) * n + (p - 1) * n / p,
            "reduce-scatter, gather to one"
        );
        let halo = |edge, overlap| Placement::Halo {
            dim: 0,
            width: 2,
            edge,
            overlap,
        };
        if p > 1 {
            let row = 48 * 4;
            let ring = bytes(s0, halo(Edge::Periodic, Overlap::Copies));
            assert_eq!(ring, vec![4 * row; p], "halo copy");
            let back = bytes(halo(Edge::Periodic, Overlap::Sums), s0);
            assert_eq!(back, vec![4 * row; p], "halo sum");
        }
    }
}

/// Exact fixed-point sums have the same bits by every path.
#[test]
fn exact_partials_do_not_depend_on_the_path() {
    let mesh = Mesh::new([("x", 2), ("y", 3)]).unwrap();
    let partial = Layout::new([Placement::Partial(Monoid::Sum); 2]);
    let parts: Vec<Shard> = (0..6)
        .map(|w| {
            let v: Vec<i128> = (0..105).map(|i| (noise(w, i) * 1e30) as i128).collect();
            Shard::new(0, SHAPE.to_vec(), v.into())
        })
        .collect();
    let want: Vec<i128> = (0..105)
        .map(|i| parts.iter().map(|s| s.elements::<i128>()[i]).sum())
        .collect();
    let same = Layout::same(&mesh);
    for a in kinds(2) {
        for b in kinds(3) {
            let between = Layout::new([a, b]);
            let there = Relayout::plan(&mesh, &SHAPE, DType::I128, &partial, &between).unwrap();
            let home = Relayout::plan(&mesh, &SHAPE, DType::I128, &between, &same).unwrap();
            for shard in home.apply(&there.apply(&parts).unwrap()).unwrap() {
                assert_eq!(shard.elements::<i128>(), want, "through {between}");
            }
        }
    }
}

/// Attention partials merge to the same rows by every path that may cut them.
#[test]
fn exact_log_sum_exp_merges_rows_whole() {
    let mesh = Mesh::line("x", 4);
    let partial = Layout::new([Placement::Partial(Monoid::LogSumExp)]);
    let rows: Vec<Shard> = (0..4)
        .map(|w| {
            let v: Vec<f64> = (0..105).map(|i| noise(w, i) * 20.0).collect();
            Shard::new(0, SHAPE.to_vec(), v.into())
        })
        .collect();
    let to = |p: Placement| {
        let plan = Relayout::plan(&mesh, &SHAPE, DType::F64, &partial, &Layout::new([p])).unwrap();
        let home = Relayout::plan(
            &mesh,
            &SHAPE,
            DType::F64,
            &Layout::new([p]),
            &Layout::same(&mesh),
        );
        home.unwrap().apply(&plan.apply(&rows).unwrap()).unwrap()[0]
            .elements::<f64>()
            .to_vec()
    };
    let whole = to(Placement::Same);
    for p in [
        Placement::Split { dim: 0 },
        Placement::Split { dim: 1 },
        Placement::Split { dim: 2 },
        Placement::At { at: 2 },
    ] {
        assert_eq!(to(p), whole);
    }
    assert!(
        Relayout::plan(&mesh, &SHAPE, DType::F64, &partial, &partial)
            .unwrap()
            .adjoint()
            .is_err()
    );
}

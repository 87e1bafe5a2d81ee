//! Fused attention has the outputs and cotangents of the plain form, and of one worker on many.

use std::collections::BTreeMap;

use advect_engine::{DType, Data, Graph, Layout, Mesh, Placement, Shard, Spec};
use advect_operators::evoformer::{Along, EvoformerAttention};

use super::cut::{Attention, Cut, apart, numbers, tensors};
use super::plain::{Extents, plain};

const ALONG: [Along; 2] = [Along::Rows, Along::Columns];

fn doubles(data: &Data) -> Vec<f64> {
    data.doubles().expect("it is real")
}

/// Any length, widths of heads below and above 64, with and without mask and bias: outputs and all cotangents, in
/// double and single precision.
#[test]
fn fused_is_plain() {
    for along in ALONG {
        for length in [1, 3, 16, 17, 33, 64] {
            for width in [4, 8, 72] {
                for [masked, biased] in [[false, false], [false, true], [true, false], [true, true]]
                {
                    let of = Extents {
                        along,
                        batch: 2,
                        rows: 3,
                        length,
                        heads: 2,
                        width,
                    };
                    let tensors = tensors(&of, masked, biased);
                    let want = plain(&of, &tensors);
                    for (dtype, limit) in [(DType::F64, 1e-12), (DType::F32, 1e-5)] {
                        let made = Attention::new(&of, &tensors, dtype, &[(Cut::Rows, 1)]);
                        let found = made.expect("it fits").found(&tensors.given);
                        for (i, (got, want)) in found.iter().zip(&want).enumerate() {
                            // cotangents that cancel to nothing are measured by what cancels
                            let gap = match length {
                                1 if [1, 2, 4].contains(&i) => {
                                    doubles(got).iter().fold(0.0, |m: f64, x| m.max(x.abs()))
                                }
                                _ => apart(&doubles(got), want),
                            };
                            assert!(
                                gap <= limit,
                                "{of:?}, {dtype:?}, masked {masked}, biased {biased}: {i} by {gap}"
                            );
                        }
                    }
                }
            }
        }
    }
}

/// More queries and keys than a block has.
#[test]
fn long_rows_are_plain() {
    for along in ALONG {
        let of = Extents {
            along,
            batch: 1,
            rows: 3,
            length: 401,
            heads: 1,
            width: 5,
        };
        let tensors = tensors(&of, true, true);
        let made = Attention::new(&of, &tensors, DType::F64, &[(Cut::Rows, 1)]);
        let found = made.expect("it fits").found(&tensors.given);
        for (got, want) in found.iter().zip(&plain(&of, &tensors)) {
            let gap = apart(&doubles(got), want);
            assert!(gap <= 1e-12, "{along:?}: {gap}");
        }
    }
}

/// A row that sees nothing gives zeros, and its cotangents are zeros; what is not seen may be no number.
#[test]
fn rows_that_see_nothing_are_zero() {
    for along in ALONG {
        let of = Extents {
            along,
            batch: 1,
            rows: 4,
            length: 9,
            heads: 2,
            width: 3,
        };
        let mut tensors = tensors(&of, true, true);
        let mask = tensors.mask.clone().expect("it has one");
        let number = of.heads * of.width;
        for (i, _) in mask.iter().enumerate().filter(|(_, seen)| **seen == 0) {
            tensors.k[i * number..][..number].fill(f64::NAN);
            tensors.v[i * number..][..number].fill(f64::NAN);
        }
        let made = Attention::new(&of, &tensors, DType::F64, &[(Cut::Rows, 1)]);
        let found = made.expect("it fits").found(&tensors.given);
        assert!(
            found.iter().flat_map(doubles).all(f64::is_finite),
            "{along:?}"
        );
        let [y, dq, dk, dv] = [0, 1, 2, 3].map(|i| doubles(&found[i]));
        for i in 0..of.length {
            let at = of.position(0, 0, i) * number;
            for of in [&y, &dq, &dk, &dv] {
                assert_eq!(of[at..at + number], vec![0.0; number], "{along:?}");
            }
        }
        for (i, _) in mask.iter().enumerate().filter(|(_, seen)| **seen == 0) {
            for of in [&dk, &dv] {
                assert_eq!(of[i * number..][..number], vec![0.0; number], "{along:?}");
            }
        }
    }
}

/// Every cut and pairs of them, on 1, 2 and 4 workers, with pieces that are uneven and empty.
#[test]
fn cut_is_whole() {
    let cuts = [Cut::Batch, Cut::Rows, Cut::Heads, Cut::Queries];
    for along in ALONG {
        for [batch, rows, length, heads] in [[2, 4, 8, 4], [3, 5, 7, 3]] {
            let of = Extents {
                along,
                batch,
                rows,
                length,
                heads,
                width: 3,
            };
            let tensors = tensors(&of, true, true);
            let alone = Attention::new(&of, &tensors, DType::F64, &[(Cut::Rows, 1)]);
            let alone = alone.expect("it fits").found(&tensors.given);
            let lines = cuts
                .iter()
                .flat_map(|&cut| [1, 2, 4].map(|n| vec![(cut, n)]));
            let planes = cuts
                .iter()
                .flat_map(|&a| cuts.map(|b| vec![(a, 2), (b, 2)]));
            for mesh in lines.chain(planes.filter(|mesh| mesh[0].0 != mesh[1].0)) {
                let made = Attention::new(&of, &tensors, DType::F64, &mesh);
                let found = made.expect("it fits").found(&tensors.given);
                for (i, (got, want)) in found.iter().zip(&alone).enumerate() {
                    let gap = apart(&doubles(got), &doubles(want));
                    assert!(gap <= 1e-13, "{of:?} on {mesh:?}: {i} by {gap}");
                }
            }
        }
    }
}

/// From rows to columns and back is one all-to-all each way: every worker sends all of its piece but what stays,
/// and nothing else leaves it.
#[test]
fn rows_to_columns_is_one_all_to_all() {
    let [b, s, l, h, d] = [2, 8, 12, 2, 4];
    let bytes = b * s * l * h * d * size_of::<f64>();
    let run = |workers: usize| {
        let mesh = Mesh::line("rows", workers);
        let mut graph = Graph::new(mesh.clone());
        let [rows, columns] = [1, 2].map(|dim| Layout::new([Placement::Split { dim }]));
        let spec = Spec::new([b, s, l, h, d], DType::F64, rows.clone());
        let x = graph.input("x", spec.clone()).expect("a source");
        let y = graph
            .apply("rows", EvoformerAttention::new(Along::Rows), &[x, x, x])
            .expect("it fits");
        let y = graph.relayout(y, &columns).expect("it fits");
        let y = graph
            .apply(
                "columns",
                EvoformerAttention::new(Along::Columns),
                &[y, y, y],
            )
            .expect("it fits");
        let y = graph.relayout(y, &rows).expect("it fits");
        graph.output("y", y).expect("it is new");
        let whole = numbers(7, b * s * l * h * d).into();
        let pieces = spec.cut(&mesh, 0, &whole).expect("it fits");
        let sources = BTreeMap::from([("x".to_owned(), pieces)]);
        let now = graph.rehearse(&sources, [0, 0], 0).expect("it works");
        let joined = graph.spec(y).join(&mesh, now.value(y)).expect("it fits");
        let seed: Vec<Shard> = spec.cut(&mesh, 0, &whole).expect("it fits");
        let back = now
            .adjoint(&BTreeMap::from([(y, seed)]), &[x])
            .expect("it has one");
        let back = spec.join(&mesh, &back[&x]).expect("it fits");
        (graph, joined, back)
    };
    let (_, alone, alone_back) = run(1);
    for workers in [2, 4] {
        let (graph, y, back) = run(workers);
        assert!(apart(&doubles(&y), &doubles(&alone)) <= 1e-13);
        assert!(apart(&doubles(&back), &doubles(&alone_back)) <= 1e-13);
        let piece = bytes / workers;
        let leaves = piece - piece / workers;
        for worker in 0..workers {
            assert_eq!(graph.bytes_sent(worker), 2 * leaves);
            assert_eq!(graph.bytes_sent_back(worker), 2 * leaves);
        }
    }
}

/// What does not fit is refused by name, with the mend.
#[test]
fn what_does_not_fit_is_refused() {
    let line = Mesh::line("x", 2);
    let refused = |operator: EvoformerAttention, inputs: &[(&[usize], DType, Placement)]| {
        let mut graph = Graph::new(line.clone());
        let source = |(i, (shape, dtype, p)): (usize, &(&[usize], DType, Placement))| {
            let spec = Spec::new(*shape, *dtype, Layout::new([*p]));
            graph.input(&format!("{i}"), spec).expect("a source")
        };
        let values: Vec<_> = inputs.iter().enumerate().map(source).collect();
        let made = graph.apply("attention", operator, &values);
        made.map(|_| ()).expect_err("it cannot be").to_string()
    };
    let rows = EvoformerAttention::new(Along::Rows);
    let [same, by_row] = [Placement::Same, Placement::Split { dim: 1 }];
    let real = |shape: &'static [usize], p| (shape, DType::F64, p);
    let said = refused(rows, &[real(&[1, 2, 3, 0, 4], same); 3]);
    assert!(said.contains("0 heads"), "{said}");
    let said = refused(rows, &[real(&[1, 2, 3, 4], same); 3]);
    assert!(said.contains("[b, i, j, h, d]"), "{said}");
    let q = real(&[1, 2, 3, 2, 4], same);
    let said = refused(rows, &[q, real(&[1, 3, 3, 2, 4], same), q]);
    assert!(said.contains("but for dimension 2"), "{said}");
    let said = refused(rows, &[q, q]);
    assert!(said.contains("3 inputs, not 2"), "{said}");
    let said = refused(rows.masked(), &[q, q, q, real(&[1, 2, 3], same)]);
    assert!(said.contains("no mask"), "{said}");
    let said = refused(rows.biased(), &[q, q, q, real(&[1, 2, 3, 3], same)]);
    assert!(said.contains("[1, 3, 3, 2]"), "{said}");
    let cut = real(&[1, 2, 3, 2, 4], by_row);
    let bias = real(&[1, 3, 3, 2], by_row);
    let said = refused(rows.biased(), &[cut, cut, cut, bias]);
    assert!(
        said.contains("by row (1)") && said.contains("Same"),
        "{said}"
    );
}

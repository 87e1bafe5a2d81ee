//! What stands around attention has the values of its equations.

use std::collections::BTreeMap;

use advect_engine::{DType, Data, EngineError, Graph, Layout, Mesh, Operator, Shard, Spec};
use advect_operators::evoformer::{
    AddTransposed, Edges, FirstRowEmbedding, OuterProductMean, PairEmbedding, TriangleProduct,
};

use super::cut::{apart, numbers};

const EXACT: f64 = 1e-13;

/// What an operator gives on one worker.
fn of(operator: impl Operator + 'static, inputs: &[(&[usize], Data)]) -> Vec<f64> {
    tried(operator, inputs).expect("it works")
}

fn tried(
    operator: impl Operator + 'static,
    inputs: &[(&[usize], Data)],
) -> Result<Vec<f64>, EngineError> {
    let mut graph = Graph::new(Mesh::line("one", 1));
    let layout = Layout::same(graph.mesh());
    let (mut values, mut sources) = (Vec::new(), BTreeMap::new());
    for (i, (shape, data)) in inputs.iter().enumerate() {
        let name = format!("{i}");
        let spec = Spec::new(*shape, data.dtype(), layout.clone());
        values.push(graph.input(&name, spec).expect("a source"));
        sources.insert(name, vec![Shard::new(0, shape.to_vec(), data.clone())]);
    }
    let y = graph.apply("operator", operator, &values).expect("it fits");
    let now = graph.rehearse(&sources, [0, 0], 0)?;
    let y = now.value(y)[0].data();
    assert_eq!(y.dtype(), DType::F64);
    Ok(y.doubles().expect("it is real"))
}

/// Triangle multiplication, supplement 1.6.5, with more channels than are taken at once.
#[test]
fn triangles_are_sums_over_the_third_node() {
    let [batch, n, c] = [2, 6, 11];
    let shape = [batch, n, n, c];
    let at = |b: usize, i: usize, j: usize, m: usize| ((b * n + i) * n + j) * c + m;
    let len = shape.iter().product();
    let (a, b) = (numbers(1, len), numbers(2, len));
    for edges in [Edges::Outgoing, Edges::Incoming] {
        let inputs = [
            (&shape[..], a.clone().into()),
            (&shape[..], b.clone().into()),
        ];
        let got = of(TriangleProduct(edges), &inputs);
        let mut want = vec![0.0; len];
        for batch in 0..batch {
            for i in 0..n {
                for j in 0..n {
                    for m in 0..c {
                        let term = |k: usize| match edges {
                            Edges::Outgoing => a[at(batch, i, k, m)] * b[at(batch, j, k, m)],
                            Edges::Incoming => a[at(batch, k, i, m)] * b[at(batch, k, j, m)],
                        };
                        want[at(batch, i, j, m)] = (0..n).map(term).sum();
                    }
                }
            }
        }
        assert!(apart(&got, &want) <= EXACT, "{edges:?}");
    }
}

/// The mean of outer products of two columns, mapped, supplement 1.6.4; with more of them than are there at once.
#[test]
fn outer_products_are_means_over_rows() {
    for [batch, s, l, c, e, m] in [[2, 3, 4, 2, 5, 3], [1, 2, 70, 16, 16, 2]] {
        let (a, b) = (numbers(1, batch * s * l * c), numbers(2, batch * s * l * e));
        let w = numbers(3, c * e * m);
        let inputs = [
            (&[batch, s, l, c][..], a.clone().into()),
            (&[batch, s, l, e][..], b.clone().into()),
            (&[c, e, m][..], w.clone().into()),
        ];
        let got = of(OuterProductMean, &inputs);
        let mut want = vec![0.0; batch * l * l * m];
        for (pair, want) in want.chunks_exact_mut(m).enumerate() {
            let (at, i, j) = (pair / l / l, pair / l % l, pair % l);
            for x in 0..c {
                for y in 0..e {
                    let of = |row: usize| (at * s + row) * l;
                    let term = |row: usize| a[(of(row) + i) * c + x] * b[(of(row) + j) * e + y];
                    let mean = (0..s).map(term).sum::<f64>() / s as f64;
                    for (want, w) in want.iter_mut().zip(&w[(x * e + y) * m..]) {
                        *want += mean * w;
                    }
                }
            }
        }
        assert!(apart(&got, &want) <= EXACT);
    }
}

/// First pairs know the letters of both positions and their clipped difference, supplement 1.5.
#[test]
fn pairs_know_their_difference() {
    let [batch, n, m, greatest] = [2, 7, 3, 2];
    let (left, right) = (numbers(1, batch * n * m), numbers(2, batch * n * m));
    let table = numbers(3, (2 * greatest + 1) * m);
    let inputs = [
        (&[batch, n, m][..], left.clone().into()),
        (&[batch, n, m][..], right.clone().into()),
        (&[2 * greatest + 1, m][..], table.clone().into()),
    ];
    let got = of(PairEmbedding { greatest }, &inputs);
    let want = (0..batch * n * n * m).map(|at| {
        let (b, i, j, c) = (at / m / n / n, at / m / n % n, at / m % n, at % m);
        let difference = (i as i64 - j as i64).clamp(-(greatest as i64), greatest as i64);
        let row = (difference + greatest as i64) as usize;
        left[(b * n + i) * m + c] + right[(b * n + j) * m + c] + table[row * m + c]
    });
    assert!(apart(&got, &want.collect::<Vec<_>>()) <= EXACT);
}

/// A tensor beside itself transposed is symmetric.
#[test]
fn added_transposed_is_symmetric() {
    let [batch, n, m] = [2, 5, 3];
    let x = numbers(1, batch * n * n * m);
    let shape = [batch, n, n, m];
    let input = (&shape[..], Data::from(x.clone()));
    let got = of(AddTransposed, &[input.clone(), input]);
    let at = |b: usize, i: usize, j: usize, c: usize| ((b * n + i) * n + j) * m + c;
    for b in 0..batch {
        for i in 0..n {
            for j in 0..n {
                for c in 0..m {
                    let sum = x[at(b, i, j, c)] + x[at(b, j, i, c)];
                    assert!((got[at(b, i, j, c)] - sum).abs() <= EXACT);
                }
            }
        }
    }
}

/// The first row alone is looked up, and a token beyond the table is refused by its number.
#[test]
fn the_first_row_is_looked_up() {
    let tokens: Vec<i64> = vec![3, 0, 1, 2, 2, 2, 1, 1, 0, 3, 3, 3];
    let table = numbers(1, 4 * 2);
    let inputs = [
        (&[2, 2, 3][..], tokens.into()),
        (&[4, 2][..], table.clone().into()),
    ];
    let want: Vec<f64> = [3, 0, 1, 1, 1, 0]
        .iter()
        .flat_map(|row| table[row * 2..][..2].to_vec())
        .collect();
    assert_eq!(of(FirstRowEmbedding, &inputs), want);
    // a token in another row does not matter, and one of the first that is beyond the table is named
    let refused = |tokens: Vec<i64>| {
        let inputs = [
            (&[2, 2, 3][..], tokens.into()),
            (&[4, 2][..], table.clone().into()),
        ];
        tried(FirstRowEmbedding, &inputs).map_err(|e| e.to_string())
    };
    let others = vec![3, 0, 1, 9, 9, 9, 1, 1, 0, -1, 9, 9];
    assert_eq!(refused(others).expect("the first rows are as before"), want);
    let beyond = refused(vec![3, 0, 4, 2, 2, 2, 1, 1, 0, 3, 3, 3]);
    let said = beyond.expect_err("there are four rows");
    assert!(
        said.contains("token 4 is outside the table of 4 rows"),
        "{said}"
    );
}

//! The cases that prove the laws of the operators of this folder.

use advect_engine::laws::{Case, Entry};
use advect_engine::{Monoid, Placement, Result};

use super::{
    AddTransposed, Along, ByCount, Edges, EvoformerAttention, FirstRowEmbedding, OuterProductMean,
    PairCount, PairEmbedding, TriangleProduct,
};

const SAME: Placement = Placement::Same;
const SUM: Placement = Placement::Partial(Monoid::Sum);
const S0: Placement = Placement::Split { dim: 0 };
const S1: Placement = Placement::Split { dim: 1 };
const S2: Placement = Placement::Split { dim: 2 };
const S3: Placement = Placement::Split { dim: 3 };

fn entry(types: &[&'static str], cases: Vec<Case>) -> Entry {
    Entry {
        types: types.to_vec(),
        cases,
    }
}

/// An entry for each operator.
///
/// # Errors
/// If a case asks for a mesh or an operator that cannot be.
pub(crate) fn entries() -> Result<Vec<Entry>> {
    Ok(vec![
        entry(&["EvoformerAttention"], attention()?),
        entry(&["TriangleProduct"], triangles()?),
        entry(&["OuterProductMean"], vec![outer()?]),
        entry(&["PairEmbedding"], vec![pairs()?]),
        entry(&["AddTransposed"], vec![transposed()?]),
        entry(&["FirstRowEmbedding"], vec![first_row()?]),
        entry(&["PairCount"], vec![pair_count()]),
        entry(&["ByCount"], by_count()?),
    ])
}

fn pair_count() -> Case {
    Case::new("PairCount", PairCount)
        .integer_input(&[2, 5, 4], 0..2)
        .integer_input(&[2, 5, 3], 0..2)
        .on_line([S0, S0])
        .on_line([S2, SAME])
        .on_line([SAME, S2])
        .on_line([S1, S1])
        .on_line([SAME, SAME])
}

fn by_count() -> Result<Vec<Case>> {
    let cases = [("kept", ByCount::KEPT), ("mean", ByCount::mean(5))];
    let cases = cases.into_iter().map(|(name, operator)| {
        Case::new(&format!("ByCount, {name}"), operator)
            .input(&[2, 4, 5, 3], -1.0..1.0)
            .integer_input(&[2, 4, 5], 0..4)
            .on_line([S0, S0])
            .on_line([S1, S1])
            .on_line([S2, S2])
            .on_line([S3, SAME])
            .on_line([SAME, SAME])
            .on_plane([[S1, S3], [S1, SAME]])
    });
    cases.collect()
}

/// Both directions, with numbers of nodes that are not the same, and more channels than are taken at once.
fn triangles() -> Result<Vec<Case>> {
    let cases = [
        (Edges::Outgoing, [2, 4, 5, 9], [2, 3, 5, 9], S1, S2),
        (Edges::Incoming, [2, 5, 4, 9], [2, 5, 3, 9], S2, S1),
    ];
    let cases = cases.into_iter().map(|(edges, a, b, node, third)| {
        Case::new(
            &format!("TriangleProduct, {edges:?}"),
            TriangleProduct(edges),
        )
        .input(&a, -1.0..1.0)
        .input(&b, -1.0..1.0)
        .on_line([S0, S0])
        .on_line([S3, S3])
        .on_line([node, SAME])
        .on_line([SAME, node])
        .on_line([third, third])
        .on_line([SAME, SAME])
        .on_plane([[node, S3], [SAME, S3]])?
        .on_plane([[node, SAME], [SAME, node]])
    });
    cases.collect()
}

fn outer() -> Result<Case> {
    Case::new("OuterProductMean", OuterProductMean)
        .input(&[2, 5, 4, 3], -1.0..1.0)
        .input(&[2, 5, 3, 2], -1.0..1.0)
        .input(&[3, 2, 5], -1.0..1.0)
        .on_line([S0, S0, SAME])
        .on_line([S2, SAME, SAME])
        .on_line([SAME, S2, SAME])
        .on_line([S1, S1, SAME])
        .on_line([SAME, SAME, S2])
        .on_line([S3, SAME, S0])
        .on_line([SAME, S3, S1])
        .on_line([SAME, SAME, SAME])
        .on_plane([[S2, S1], [SAME, S1], [SAME, SAME]])?
        .on_plane([[S2, SAME], [SAME, S2], [SAME, SAME]])
}

fn pairs() -> Result<Case> {
    Case::new("PairEmbedding", PairEmbedding { greatest: 2 })
        .input(&[2, 5, 3], -1.0..1.0)
        .input(&[2, 6, 3], -1.0..1.0)
        .input(&[5, 3], -1.0..1.0)
        .on_line([S0, S0, SAME])
        .on_line([S1, SAME, SAME])
        .on_line([SAME, S1, SAME])
        .on_line([S2, S2, S1])
        .on_line([SAME, SAME, SAME])
        .on_plane([[S1, SAME], [SAME, S1], [SAME, SAME]])?
        .on_plane([[S1, S2], [SAME, S2], [SAME, S1]])
}

fn transposed() -> Result<Case> {
    Case::new("AddTransposed", AddTransposed)
        .input(&[2, 5, 3, 4], -1.0..1.0)
        .input(&[2, 3, 5, 4], -1.0..1.0)
        .on_line([S0, S0])
        .on_line([S1, S2])
        .on_line([S2, S1])
        .on_line([S3, S3])
        .on_line([SUM, SUM])
        .on_line([SAME, SAME])
        .on_plane([[S1, S2], [S2, S1]])
}

fn first_row() -> Result<Case> {
    Case::new("FirstRowEmbedding", FirstRowEmbedding)
        .integer_input(&[3, 2, 5], 0..6)
        .input(&[6, 4], -1.0..1.0)
        .on_line([S0, SAME])
        .on_line([S2, SAME])
        .on_line([SAME, S1])
        .on_line([SAME, SAME])
        .on_plane([[S0, S2], [SAME, SAME]])?
        .on_plane([[S2, SAME], [SAME, S1]])
}

/// Along rows and columns, with and without mask and bias; some rows see nothing, and pieces are uneven.
fn attention() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for along in [Along::Rows, Along::Columns] {
        let whole = EvoformerAttention::new(along);
        // 5 rows of 6 positions
        let (shape, row, query) = match along {
            Along::Rows => ([2, 5, 6, 3, 2], S1, S2),
            Along::Columns => ([2, 6, 5, 3, 2], S2, S1),
        };
        let of_bias = if along == Along::Rows { S1 } else { S2 };
        let case = |name: &str, operator| {
            let case = Case::new(&format!("EvoformerAttention, {along:?}{name}"), operator);
            let case = case.input(&shape, -2.0..2.0).input(&shape, -2.0..2.0);
            case.input(&shape, -1.0..1.0)
        };
        let plain = case("", whole)
            .on_line([S0; 3])
            .on_line([row; 3])
            .on_line([S3; 3])
            .on_line([query, SAME, SAME])
            .on_line([SAME; 3])
            .on_plane([[row, S3]; 3])?;
        let biased = case(", biased", whole.biased())
            .input(&[2, 6, 6, 3], -2.0..2.0)
            .on_line([S0; 4])
            .on_line([row, row, row, SAME])
            .on_line([S3; 4])
            .on_line([query, SAME, SAME, of_bias])
            .on_plane([[row, S3], [row, S3], [row, S3], [SAME, S3]])?
            .on_plane([[row, query], [row, SAME], [row, SAME], [SAME, of_bias]])?;
        let masked = case(", masked", whole.masked())
            .integer_input(&shape[..3], 0..2)
            .on_line([S0; 4])
            .on_line([row; 4])
            .on_line([S3, S3, S3, SAME])
            .on_line([query, SAME, SAME, SAME]);
        // a row of one key sees nothing where the mask is 0
        let one = match along {
            Along::Rows => [2, 5, 1, 3, 2],
            Along::Columns => [2, 1, 5, 3, 2],
        };
        let of_one = match along {
            Along::Rows => [2, 6, 1, 3],
            Along::Columns => [2, 1, 6, 3],
        };
        let both = Case::new(
            &format!("EvoformerAttention, {along:?}, one key"),
            whole.masked().biased(),
        )
        .input(&shape, -2.0..2.0)
        .input(&one, -2.0..2.0)
        .input(&one, -1.0..1.0)
        .integer_input(&one[..3], 0..2)
        .input(&of_one, -2.0..2.0)
        .on_line([S0; 5])
        .on_line([row, row, row, row, SAME])
        .on_line([S3, S3, S3, SAME, S3])
        .on_line([query, SAME, SAME, SAME, of_bias])
        .on_plane([[row, S3], [row, S3], [row, S3], [row, SAME], [SAME, S3]])?;
        cases.extend([plain, biased, masked, both]);
    }
    Ok(cases)
}

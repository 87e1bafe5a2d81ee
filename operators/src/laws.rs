//! Every differentiable operator of this crate, with the cases that prove its laws.
//!
//! A new operator gets an entry here; `tests/laws.rs` fails for a type that implements
//! [`Operator`](advect_engine::Operator), [`Function`](crate::local::Function), [`Model`] or
//! [`Tendency`](crate::models::Tendency) and is not named.

use std::sync::Arc;

use advect_engine::graph::Mixed;
use advect_engine::laws::{Case, Entry};
use advect_engine::{Edge, Monoid, Overlap, Placement, Result};

use crate::OperatorError;
use crate::loss::{
    BalancedCrossEntropy, Count, CountEach, CrossEntropy, Hits, MeanSquare, SquareError,
    VocabularyPartial,
};
use crate::models::{Forecast, KuramotoSivashinsky, Lorenz63, Lorenz96, Model, RungeKutta4};
use crate::network::{
    Add, Between, Bias, Convolution, Dropout, Embedding, Gated, LayerNorm, Linear, Pointwise,
    Residual, RmsNorm, Scale, Upsample,
};
use crate::observations::{Corners, Grid, Interpolation, Points};

const SAME: Placement = Placement::Same;
const SUM: Placement = Placement::Partial(Monoid::Sum);
const S0: Placement = Placement::Split { dim: 0 };
const S1: Placement = Placement::Split { dim: 1 };
const S2: Placement = Placement::Split { dim: 2 };
const HALO: Placement = Placement::Halo {
    dim: 0,
    width: 1,
    edge: Edge::Periodic,
    overlap: Overlap::Copies,
};

/// All entries.
///
/// # Errors
/// If a case asks for a mesh or an operator that cannot be.
pub fn catalogue() -> Result<Vec<Entry>> {
    let mut all = network()?;
    all.extend(crate::attention::laws::entries()?);
    all.extend(language()?);
    all.extend(observations()?);
    all.extend(models()?);
    all.push(crate::local::laws::entry()?);
    all.push(crate::fused::laws::entry()?);
    all.extend(crate::evoformer::laws::entries()?);
    Ok(all)
}

pub(crate) fn entry(types: &[&'static str], cases: Vec<Case>) -> Entry {
    Entry {
        types: types.to_vec(),
        cases,
    }
}

fn network() -> Result<Vec<Entry>> {
    let linear = Case::new("Linear", Linear::LAST)
        .input(&[5, 3, 7], -1.0..1.0)
        .input(&[7, 6], -1.0..1.0)
        .on_line([S0, SAME])
        .on_line([S1, SAME])
        .on_line([HALO, SAME])
        .on_line([SAME, S1])
        .on_line([S2, S0])
        .on_line([SUM, SAME])
        .on_line([SAME, SUM])
        .on_plane([[S0, S2], [SAME, S0]])?
        .on_plane([[S0, SAME], [SAME, S1]])?
        .on_plane([[S2, SAME], [S0, S1]])?
        .on_plane([[SUM, SAME], [SAME, SUM]])?;
    let from_heads = Case::new("Linear over heads", Linear::over(2))
        .input(&[4, 3, 2], -1.0..1.0)
        .input(&[3, 2, 5], -1.0..1.0)
        .on_line([S0, SAME])
        .on_line([S1, S0])
        .on_line([S2, S1])
        .on_line([SAME, S2])
        .on_plane([[S0, S1], [SAME, S0]])?;
    let to_heads = Case::new("Linear to heads", Linear::LAST)
        .input(&[4, 5], -1.0..1.0)
        .input(&[5, 3, 2], -1.0..1.0)
        .on_line([SAME, S1])
        .on_line([SAME, S2])
        .on_line([S1, S0])
        .on_plane([[S0, SAME], [SAME, S1]])?;
    let table = Case::new("Linear by a table", Linear::LAST.transposed())
        .input(&[4, 3, 5], -1.0..1.0)
        .input(&[6, 5], -1.0..1.0)
        .on_line([S0, SAME])
        .on_line([SAME, S0])
        .on_line([S2, S1])
        .on_line([SUM, SAME])
        .on_plane([[S0, SAME], [SAME, S0]])?;
    let shifted = Case::new("Linear to heads, shifted", Linear::LAST.shifted())
        .input(&[4, 5], -1.0..1.0)
        .input(&[5, 3, 2], -1.0..1.0)
        .input(&[3, 2], -1.0..1.0)
        .on_line([S0, SAME, SAME])
        .on_line([SAME, S1, S0])
        .on_line([SAME, S2, S1])
        .on_plane([[S0, SAME], [SAME, S1], [SAME, S0]])?;
    let then = [Pointwise::Silu, Pointwise::Gelu].map(|f| {
        Case::new(
            &format!("Linear, shifted, {f:?}"),
            Linear::LAST.shifted().then(f),
        )
        .input(&[5, 3, 7], -1.0..1.0)
        .input(&[7, 6], -1.0..1.0)
        .input(&[6], -1.0..1.0)
        .on_line([S0, SAME, SAME])
        .on_line([S1, SAME, SAME])
        .on_line([SAME, S1, S0])
        .on_plane([[S0, SAME], [SAME, S1], [SAME, S0]])
    });
    let unshifted = Case::new(
        "Linear by a table, Tanh",
        Linear::LAST.transposed().then(Pointwise::Tanh),
    )
    .input(&[4, 5], -1.0..1.0)
    .input(&[6, 5], -1.0..1.0)
    .on_line([S0, SAME])
    .on_line([SAME, S0]);
    let residual = Case::new("Residual", Residual)
        .input(&[5, 7], -1.0..1.0)
        .input(&[5, 7], -1.0..1.0)
        .input(&[7], -1.0..1.0)
        .on_line([S0, S0, SAME])
        .on_line([S1, S1, S0])
        .on_line([SAME, SAME, SAME])
        .on_plane([[S0, S1], [S0, S1], [SAME, S0]])?;
    let positions = Case::new("Bias by position", Bias)
        .input(&[3, 4, 5], -1.0..1.0)
        .input(&[4, 5], -1.0..1.0)
        .on_line([S0, SAME])
        .on_line([S1, S0])
        .on_line([S2, S1])
        .on_plane([[S0, S1], [SAME, S0]])?;
    let norm = Case::new("LayerNorm", LayerNorm { epsilon: 1e-5 })
        .input(&[4, 3, 6], -2.0..2.0)
        .input(&[6], 0.5..1.5)
        .input(&[6], -1.0..1.0)
        .on_line([S0, SAME, SAME])
        .on_line([S1, SAME, SAME])
        .on_line([SAME, SAME, SAME])
        .on_plane([[S0, S1], [SAME, SAME], [SAME, SAME]])?;
    let by_square = Case::new("RmsNorm", RmsNorm { epsilon: 1e-5 })
        .input(&[4, 3, 6], -2.0..2.0)
        .input(&[6], 0.5..1.5)
        .on_line([S0, SAME])
        .on_line([S1, SAME])
        .on_line([SAME, SAME])
        .on_plane([[S0, S1], [SAME, SAME]])?;
    let gated = [Pointwise::Silu, Pointwise::Gelu, Pointwise::Sigmoid].map(|f| {
        Case::new(&format!("Gated, {f:?}"), Gated(f))
            .input(&[5, 7], -3.0..3.0)
            .input(&[5, 7], -1.0..1.0)
            .on_line([S0, S0])
            .on_line([SAME, SAME])
            .on_line([HALO, HALO])
    });
    let bias = Case::new("Bias", Bias)
        .input(&[5, 7], -1.0..1.0)
        .input(&[7], -1.0..1.0)
        .on_line([S0, SAME])
        .on_line([S1, S0])
        .on_line([SAME, SAME])
        .on_plane([[S0, S1], [SAME, S0]])?;
    let add = Case::new("Add", Add)
        .input(&[5, 7], -1.0..1.0)
        .input(&[5, 7], -1.0..1.0)
        .on_line([S1, S1])
        .on_line([SUM, SUM])
        .on_line([HALO, HALO])
        .on_plane([[SUM, S0], [SUM, S0]])?;
    let scale = Case::new("Scale", Scale(0.3))
        .input(&[5, 7], -1.0..1.0)
        .on_line([S1])
        .on_line([SUM])
        .on_plane([[SUM, S0]])?;
    let half = Dropout { rate: 0.5, seed: 3 };
    let dropout = Case::new("Dropout", half)
        .input(&[4, 6, 5], -1.0..1.0)
        .on_line([S0])
        .on_line([S1])
        .on_line([S2])
        .on_line([SAME])
        .on_line([SUM])
        .on_plane([[S0, S1]])?;
    let convolution = |stride, padding, kernel: [usize; 2]| {
        let by = Convolution { stride, padding };
        let name = format!("Convolution of {kernel:?}, stride {stride}, padding {padding}");
        Case::new(&name, by)
            .input(&[4, 5, 7, 6], -1.0..1.0)
            .input(&[6, 5, kernel[0], kernel[1]], -1.0..1.0)
            .on_line([S0, SAME])
            .on_line([SAME, S0])
            .on_line([S1, S1])
            .on_line([SUM, SAME])
            .on_plane([[S0, S1], [SAME, S1]])
    };
    let convolutions = [
        convolution(1, 1, [3, 3])?,
        convolution(2, 0, [3, 2])?,
        convolution(3, 2, [1, 5])?,
    ];
    let finer = |factor, between| {
        Case::new(
            &format!("Upsample by {factor}, {between:?}"),
            Upsample { factor, between },
        )
        .input(&[3, 4, 2], -1.0..1.0)
        .on_line([S0])
        .on_line([SUM])
    };
    let finer = [
        finer(2, Between::Nearest),
        finer(3, Between::Linear),
        finer(2, Between::Linear),
    ];
    let functions = [
        Pointwise::Tanh,
        Pointwise::Silu,
        Pointwise::Gelu,
        Pointwise::Sigmoid,
        Pointwise::Relu,
    ];
    let pointwise = functions.map(|f| {
        Case::new(&format!("Pointwise::{f:?}"), f)
            .input(&[5, 7], -3.0..3.0)
            .on_line([S0])
            .on_line([SAME])
            .on_line([HALO])
    });
    let error = Case::new("SquareError", SquareError)
        .input(&[5, 4], -1.0..1.0)
        .input(&[5, 4], -1.0..1.0)
        .on_line([S0, S0])
        .on_line([S1, S1])
        .on_plane([[S0, S1], [S0, S1]])?;
    let loss = Case::new("MeanSquare", MeanSquare)
        .input(&[5, 7], -1.0..1.0)
        .input(&[5, 7], -1.0..1.0)
        .on_line([S0, S0])
        .on_line([SAME, SAME])
        .on_plane([[S0, SAME], [S0, SAME]])?
        .on_plane([[S1, S0], [S1, S0]])?;
    let mut linears = vec![linear, from_heads, to_heads, table, shifted, unshifted];
    for case in then {
        linears.push(case?);
    }
    Ok(vec![
        entry(&["Mixed"], mixed()),
        entry(&["Linear"], linears),
        entry(&["Residual"], vec![residual]),
        entry(&["Bias"], vec![bias, positions]),
        entry(&["LayerNorm"], vec![norm]),
        entry(&["RmsNorm"], vec![by_square]),
        entry(&["Gated"], gated.to_vec()),
        entry(&["Add"], vec![add]),
        entry(&["Dropout"], vec![dropout]),
        entry(&["Scale"], vec![scale]),
        entry(&["Convolution"], convolutions.to_vec()),
        entry(&["Upsample"], finer.to_vec()),
        entry(&["Pointwise"], pointwise.to_vec()),
        entry(&["MeanSquare"], vec![loss]),
        entry(&["SquareError"], vec![error]),
    ])
}

/// What is in double precision goes through, so that the laws see what is kept and how; rounding has its own
/// tests (`tests/mixed.rs`).
fn mixed() -> Vec<Case> {
    let then = Linear::LAST.shifted().then(Pointwise::Gelu);
    let linear = Case::new("Mixed Linear, shifted, Gelu", Mixed::of(then))
        .input(&[5, 3, 7], -1.0..1.0)
        .input(&[7, 6], -1.0..1.0)
        .input(&[6], -1.0..1.0)
        .on_line([S0, SAME, SAME])
        .on_line([SAME, S1, S0]);
    let norm = Case::new("Mixed LayerNorm", Mixed::of(LayerNorm { epsilon: 1e-5 }))
        .input(&[4, 3, 5], -2.0..2.0)
        .input(&[5], 0.5..1.5)
        .input(&[5], -1.0..1.0)
        .on_line([S0, SAME, SAME]);
    vec![linear, norm]
}

fn language() -> Result<Vec<Entry>> {
    let embedding = Case::new("Embedding", Embedding)
        .integer_input(&[4, 3], 0..7)
        .input(&[7, 5], -1.0..1.0)
        .on_line([S0, SAME])
        .on_line([S1, SAME])
        .on_line([SAME, S0])
        .on_line([SAME, S1])
        .on_line([SAME, SAME])
        .on_plane([[S0, SAME], [SAME, S0]])?
        .on_plane([[S0, S1], [SAME, SAME]])?;
    let vocabulary = Case::new("VocabularyPartial", VocabularyPartial)
        .input(&[4, 3, 7], -2.0..2.0)
        .integer_input(&[4, 3], -1..7)
        .on_line([S0, S0])
        .on_line([S1, S1])
        .on_line([S2, SAME])
        .on_line([SAME, SAME])
        .on_plane([[S0, S2], [S0, SAME]])?;
    let entropy = Case::new("CrossEntropy", CrossEntropy)
        .scaled_input(&[4, 3, 2], 0.5..2.0)
        .input(&[4, 3], -1.0..1.0)
        .integer_input(&[4, 3], -1..7)
        .on_line([S0, S0, S0])
        .on_line([S1, S1, S1])
        .on_line([SAME, SAME, SAME])
        .on_plane([[S0, S1], [S0, S1], [S0, S1]])?;
    let balanced = Case::new("BalancedCrossEntropy", BalancedCrossEntropy)
        .scaled_input(&[4, 3, 2], 0.5..2.0)
        .input(&[4, 3], -1.0..1.0)
        .integer_input(&[4, 3], -1..7)
        .input(&[4], 1.0..9.0)
        .input(&[4], 1.0..9.0)
        .on_line([S0, S0, S0, S0, S0])
        .on_line([S1, S1, S1, SAME, SAME])
        .on_line([SAME, SAME, SAME, SAME, SAME])
        .on_plane([[S0, S1], [S0, S1], [S0, S1], [S0, SAME], [S0, SAME]])?;
    let count_each = Case::new("CountEach", CountEach)
        .integer_input(&[4, 3, 2], -1..3)
        .on_line([S0])
        .on_line([S1])
        .on_line([SAME])
        .on_plane([[S0, S2]])?;
    let count = Case::new("Count", Count)
        .integer_input(&[4, 3], -1..3)
        .on_line([S0])
        .on_line([SAME])
        .on_plane([[S0, S1]])?;
    let hits = Case::new("Hits", Hits)
        .input(&[4, 3, 5], -1.0..1.0)
        .integer_input(&[4, 3], -1..5)
        .on_line([S0, S0])
        .on_line([S1, S1])
        .on_line([SAME, SAME])
        .on_plane([[S0, S1], [S0, S1]])?;
    Ok(vec![
        entry(&["Count"], vec![count]),
        entry(&["CountEach"], vec![count_each]),
        entry(&["BalancedCrossEntropy"], vec![balanced]),
        entry(&["Hits"], vec![hits]),
        entry(&["Embedding"], vec![embedding]),
        entry(&["VocabularyPartial"], vec![vocabulary]),
        entry(&["CrossEntropy"], vec![entropy]),
    ])
}

fn observations() -> Result<Vec<Entry>> {
    let grid = Grid::try_new(30.0, -100.0, 0.5, 5, 6).map_err(refused)?;
    let places = [
        (30.0, -100.0),
        (32.0, -97.5),
        (31.3, -98.8),
        (30.7, -97.9),
        (31.9, -99.9),
    ];
    let points = places.into_iter().filter_map(|(latitude, longitude)| {
        let corners = Corners::around(&grid, latitude, longitude)?;
        Some(Interpolation::new(corners, 120.0 + longitude, 6.5e-3))
    });
    let case = Case::new("Points", Points::new(points.collect(), grid.cells()))
        .input(&[4, grid.cells()], 270.0..300.0)
        .on_line([S0])
        .on_line([S1])
        .on_line([SAME])
        .on_plane([[S0, S1]])?
        .on_plane([[S1, SAME]])?;
    Ok(vec![entry(&["Points"], vec![case])])
}

fn models() -> Result<Vec<Entry>> {
    let lorenz63 = RungeKutta4::try_new(Lorenz63::default(), 0.01).map_err(refused)?;
    let ring = Lorenz96::try_new(8, 8.0).map_err(refused)?;
    let lorenz96 = RungeKutta4::try_new(ring, 0.05).map_err(refused)?;
    let flame = KuramotoSivashinsky::try_new(16, 16.0, 0.1).map_err(refused)?;
    let case = |name: &str, model: Arc<dyn Model>, steps: usize, high: f64| {
        let shape = [5, model.dimension()];
        Case::new(name, Forecast::new(model, steps))
            .input(&shape, -high..high)
            .on_line([S0])
            .on_line([SAME])
            .on_plane([[S0, SAME]])
    };
    let cases = vec![
        case("Forecast of Lorenz-63", Arc::new(lorenz63), 3, 5.0)?,
        case("Forecast of Lorenz-96", Arc::new(lorenz96), 3, 5.0)?,
        case("Forecast of Kuramoto-Sivashinsky", Arc::new(flame), 2, 1.0)?,
    ];
    let types = [
        "Forecast",
        "RungeKutta4",
        "Lorenz63",
        "Lorenz96",
        "KuramotoSivashinsky",
    ];
    Ok(vec![entry(&types, cases)])
}

fn refused(why: OperatorError) -> advect_engine::EngineError {
    advect_engine::EngineError::Operator {
        operator: "catalogue of laws".to_owned(),
        why: why.to_string(),
    }
}

//! Rules of layouts: from the placements of the inputs on one axis to that of the output.

use advect_engine::{DType, EngineError, Layout, Placement, Result, Spec};

/// A refusal of `infer`; the graph adds the name of the operator.
pub(crate) fn refuse<T>(operator: &str, why: impl Into<String>) -> Result<T> {
    Err(EngineError::Operator {
        operator: operator.to_owned(),
        why: why.into(),
    })
}

/// The one real type and the given ranks of the inputs.
pub(crate) fn reals(operator: &str, inputs: &[Spec], ranks: &[usize]) -> Result<DType> {
    if inputs.len() != ranks.len() {
        return refuse(
            operator,
            format!("it takes {} inputs, not {}", ranks.len(), inputs.len()),
        );
    }
    for (spec, &rank) in inputs.iter().zip(ranks) {
        if spec.shape.len() < rank {
            return refuse(operator, format!("{spec} has fewer than {rank} dimensions"));
        }
        let real = matches!(spec.dtype, DType::F32 | DType::F64 | DType::Canonical);
        if !real || spec.dtype != inputs[0].dtype {
            let why = format!(
                "{spec}: all inputs are f32, or all f64, or all canonical; convert them first"
            );
            return refuse(operator, why);
        }
    }
    Ok(inputs[0].dtype)
}

/// The layout of the output, axis by axis; `rule` answers `None` where the operator would need
/// to communicate, and `mend` says what to relayout then.
pub(crate) fn layout(
    operator: &str,
    inputs: &[Spec],
    mend: &str,
    rule: impl Fn(&[Placement]) -> Option<Placement>,
) -> Result<Layout> {
    let axes = inputs.first().map_or(0, |spec| spec.layout.axes.len());
    let placed = (0..axes).map(|axis| {
        let on: Vec<Placement> = inputs.iter().map(|spec| spec.layout.axes[axis]).collect();
        rule(&on).map_or_else(
            || {
                let names: Vec<String> = on.iter().map(Placement::to_string).collect();
                refuse(
                    operator,
                    format!("inputs on axis {axis} are {}; {mend}", names.join(", ")),
                )
            },
            Ok,
        )
    });
    Ok(Layout::new(placed.collect::<Result<Vec<_>>>()?))
}

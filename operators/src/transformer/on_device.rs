//! The operators of a transformer as functions on a device.

use std::collections::BTreeMap;
use std::sync::Arc;

use advect_engine::graph::Chain;
use advect_engine::{DType, Graph, Operator, Result};

use crate::fused::{Fused, OnTape, fit};
use crate::local::{Local, device};
use crate::network::rules::refuse;

/// Operators that have a form on a tape, by their names in the graph.
pub(super) type Forms = BTreeMap<String, Arc<dyn OnTape>>;

/// The graph with what has a form on a tape on the device called `name`.
///
/// # Errors
/// If there is no such device, or it has no numbers of the type that flows.
pub(super) fn placed(graph: &Graph, name: &str, flows: DType, forms: &Forms) -> Result<Graph> {
    let on = match device(name) {
        Ok(on) => on,
        Err(e) => return refuse("Strategy", e.to_string()),
    };
    if flows == DType::Canonical {
        let why = format!(
            "device `{name}`: it has no canonical sums; take F64, F32 or BF16, or leave the device out"
        );
        return refuse("Strategy", why);
    }
    let make = |chain: Chain| -> Result<Arc<dyn Operator>> {
        // what was gathered for it is let go only by what does not keep it
        let again = chain.again.contains(&true);
        let held = chain.held.iter().enumerate();
        let held = held.filter(|(_, held)| **held).map(|(i, _)| i);
        let held: Vec<usize> = held.collect();
        let fused = Fused::try_new(chain, |name| forms.get(name).cloned())?;
        let local = Local::new(fused).on(on.clone()).holding(held);
        Ok(Arc::new(if again { local.remade() } else { local }))
    };
    graph.fused(|name| fit(forms.get(name).cloned()), make)
}

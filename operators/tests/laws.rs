//! Every operator keeps the laws of the engine, and none is forgotten.

use std::collections::BTreeSet;
use std::path::Path;

use advect_engine::laws::{Figures, check, declared};
use advect_operators::laws::catalogue;

/// The adjoint is the transpose of the tangent, the tangent is the limit of differences, the
/// pieces on any mesh stand for the whole, and no order of messages changes a bit.
#[test]
fn every_operator_keeps_the_laws() {
    let mut broken = Vec::new();
    println!(
        "{:40} {:>8} {:>8} {:>8} {:>8}",
        "case", "adjoint", "tangent", "layouts", "placings"
    );
    for case in catalogue()
        .expect("the cases can be built")
        .iter()
        .flat_map(|e| &e.cases)
    {
        match check(case) {
            Ok(Figures {
                adjoint,
                tangent,
                layouts,
                placings,
            }) => {
                println!(
                    "{:40} {adjoint:8.0e} {tangent:8.0e} {layouts:8.0e} {placings:8}",
                    case.name()
                );
            }
            Err(why) => broken.push(why.to_string()),
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// What the sources declare as an operator, a function, a model or an equation is in the catalogue, and the
/// catalogue names nothing that is not there.
#[test]
fn every_operator_is_registered() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut declarations = BTreeSet::new();
    for folder in [here.join("src"), here.join("../engine/src")] {
        for kind in ["Operator", "Function", "Model", "Tendency"] {
            let found = declared(&folder, kind).expect("sources can be read");
            declarations.extend(found.into_keys());
        }
    }
    let entries = catalogue().expect("the cases can be built");
    let registered: BTreeSet<String> = entries
        .iter()
        .flat_map(|e| e.types.iter().map(|t| (*t).to_owned()))
        .collect();
    let missing: Vec<&String> = declarations.difference(&registered).collect();
    let stale: Vec<&String> = registered.difference(&declarations).collect();
    assert!(
        missing.is_empty(),
        "not registered in operators/src/laws.rs: {missing:?}"
    );
    assert!(
        stale.is_empty(),
        "registered but nowhere declared: {stale:?}"
    );
    assert!(
        entries.iter().all(|e| !e.cases.is_empty()),
        "an entry has no case"
    );
}

//! Whether a run fits into the memory of this machine, before it takes any.

use advect_engine::Fabric;

use super::settings::Settings;
use super::train;
use crate::config::Config;
use crate::error::Result;
use crate::plan::bytes;
use crate::planner::memory::Memory;
use crate::planner::{Job, calibrate};

/// Ends a run that does not fit: the workers of this process hold parameters, gradients and the state of the
/// optimizer as they are stored, and what their micro-batches in work keep for the adjoint.
///
/// # Errors
/// The mesh, what it needs here, what there is, and what would take less.
pub(super) fn check(config: &Config, settings: &Settings, fabric: &Fabric) -> Result<()> {
    match calibrate::memory() {
        Some(memory) => within(config, settings, fabric, memory),
        None => Ok(()),
    }
}

fn within(config: &Config, settings: &Settings, fabric: &Fabric, memory: f64) -> Result<()> {
    let (local, all) = (fabric.local(), fabric.workers());
    let copies = 2.0 + settings.recipe.slots().len() as f64;
    let refuse = |needs: f64, of: String| {
        let why = format!(
            "needs {} on {} of this process ({of}), and the machine has {}; cut parameters (zero-3, stage, \
             tensor) over more machines, or take a smaller model, fewer samples.micro, or layout.recompute",
            bytes(needs as u64),
            match local.len() {
                1 => "the one worker".to_owned(),
                n => format!("the {n} workers"),
            },
            bytes(memory as u64),
        );
        config.wrong("layout.mesh", why)
    };
    // however they are cut: a model too large to count its bytes ends here
    let model = &settings.model;
    let [h, f, layers] = [model.width, model.hidden, model.layers].map(|n| n as f64);
    let least = layers * h * (2.0 * h + 2.0 * f) + h * model.vocabulary as f64;
    let least = copies * settings.dtype.size() as f64 * least * local.len() as f64 / all as f64;
    if least > memory {
        return Err(refuse(least, "parameters, gradients, optimizer".to_owned()).into());
    }
    let trainable = train(settings)?;
    let pieces = local.clone().map(|w| trainable.graph.parameter_bytes(w));
    let stored = copies * pieces.sum::<usize>() as f64;
    let stages = Job::read(config, None).map(|mut job| job.memory(&settings.strategy));
    // meshes and sizes that are not planned are held to what the graph is known to keep
    let least = |w| {
        let moments = settings.strategy.in_flight(w, settings.in_flight);
        moments as f64 * trainable.graph.bytes_kept(w) as f64
    };
    let least = local.clone().map(least).sum::<f64>();
    let kept = stages.ok().and_then(std::result::Result::ok);
    let most = |stages: Vec<Memory>| {
        let beside = |s: &Memory| s.peak().saturating_sub(s.fixed()) as f64;
        stages.iter().map(beside).fold(0.0, f64::max) * local.len() as f64
    };
    let kept = kept.map_or(0.0, most).max(least);
    if stored + kept > memory {
        let of = format!(
            "{} of parameters, gradients and optimizer, {} of activations and what works on them",
            bytes(stored as u64),
            bytes(kept as u64)
        );
        return Err(refuse(stored + kept, of).into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, resolve};
    use crate::language::Language;

    fn said(set: &[&str], workers: usize, memory: f64) -> Result<()> {
        let sources = Sources {
            set: set.iter().map(|s| s.to_string()).collect(),
            ..Sources::default()
        };
        let config = resolve(&Language, &sources)?;
        let fabric = Fabric::Threads(workers);
        let settings = Settings::read(&config, &fabric)?;
        within(&config, &settings, &fabric, memory)
    }

    /// The default run fits into what it needs, and not into less; cutting makes room, and a model of
    /// any size is refused with the mend.
    #[test]
    fn refuse_what_does_not_fit() {
        let parameters = 16.0 * 700_000.0;
        said(&[], 1, 8.0 * parameters).expect("it fits");
        let why = said(&[], 1, parameters / 2.0)
            .expect_err("too little")
            .to_string();
        assert!(
            why.contains("layout.mesh") && why.contains("zero-3"),
            "{why}"
        );
        let long = ["model.context=4096", "samples.micro=64"];
        let why = said(&long, 1, 4.0 * parameters)
            .expect_err("activations")
            .to_string();
        assert!(why.contains("of activations"), "{why}");
        let zero = ["layout.mesh=\"zero-3 8\"", "samples.micro=1"];
        let data = ["layout.mesh=\"data 8\"", "samples.micro=1"];
        said(&zero, 8, 6.0 * parameters).expect("it is cut");
        said(&data, 8, 6.0 * parameters).expect_err("eight copies");
        // a mesh and a number of samples that are not planned
        let beside = "layout.mesh=\"data 2, zero-1 2\"";
        for (workers, set) in [
            (4, [beside, "samples.micro=4096", "samples.step=16384"]),
            (
                1,
                [
                    "layout.mesh=\"data 1\"",
                    "samples.micro=70000",
                    "samples.step=70000",
                ],
            ),
        ] {
            let why = said(&set, workers, 1e9).expect_err("activations");
            let why = why.to_string();
            assert!(why.contains("of activations"), "{why}");
        }
        for huge in ["model.width=16000000", "model.hidden=16000000"] {
            let why = said(&[huge, "model.heads=1", "model.groups=1"], 1, 1e11);
            let why = why.expect_err(huge).to_string();
            assert!(why.contains("and the machine has"), "{huge}: {why}");
        }
    }
}

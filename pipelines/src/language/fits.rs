//! Whether a run fits into the memory of this machine, before it takes any.

use advect_engine::{Fabric, Graph};
use advect_operators::transformer::stored;

use super::settings::Settings;
use crate::config::Config;
use crate::error::{PipelineError, Result};
use crate::plan::bytes;
use crate::planner::memory::Memory;
use crate::planner::{Job, calibrate};

/// A run, and the memory that there is for it.
pub(super) struct Fits<'a> {
    config: &'a Config,
    settings: &'a Settings,
    fabric: &'a Fabric,
    memory: f64,
}

impl<'a> Fits<'a> {
    /// On this machine; any amount fits where the system does not say.
    pub(super) fn here(config: &'a Config, settings: &'a Settings, fabric: &'a Fabric) -> Self {
        Fits {
            config,
            settings,
            fabric,
            memory: calibrate::memory().unwrap_or(f64::INFINITY),
        }
    }

    /// Copies of the parameters: themselves, gradients, and the state of the optimizer.
    fn copies(&self) -> f64 {
        2.0 + self.settings.training.recipe.slots().len() as f64
    }

    fn refuse(&self, needs: f64, of: &str) -> PipelineError {
        let why = format!(
            "needs {} on {} of this process ({of}), and the machine has {}; cut parameters (zero-3, stage, \
             tensor) over more machines, or take a smaller model, fewer samples.micro, layout.recompute, or \
             layout.offload",
            bytes(needs as u64),
            match self.fabric.local().len() {
                1 => "the one worker".to_owned(),
                n => format!("the {n} workers"),
            },
            bytes(self.memory as u64),
        );
        self.config.wrong("layout.mesh", why).into()
    }

    /// Ends a run whose parameters do not fit however they are cut, before its graph is made: one too large
    /// to count its bytes is among them.
    ///
    /// # Errors
    /// The mesh, what it needs here, what there is, and what would take less.
    pub(super) fn parameters(&self) -> Result<()> {
        let (local, all) = (self.fabric.local().len(), self.fabric.workers());
        let model = &self.settings.model;
        let [h, f, layers] = [model.width, model.hidden, model.layers].map(|n| n as f64);
        let least = layers * h * (2.0 * h + 2.0 * f) + h * model.vocabulary as f64;
        let size = stored(self.settings.training.dtype).size() as f64;
        let least = self.copies() * size * least * local as f64 / all as f64;
        match least > self.memory {
            true => Err(self.refuse(least, "parameters, gradients, optimizer")),
            false => Ok(()),
        }
    }

    /// Ends a run that does not fit: the workers of this process hold parameters, gradients and the state of
    /// the optimizer as they are stored, and what their micro-batches in work keep for the adjoint.
    ///
    /// # Errors
    /// As [`parameters`](Self::parameters).
    pub(super) fn whole(&self, graph: &Graph) -> Result<()> {
        let (settings, local) = (self.settings, self.fabric.local());
        let pieces = local.clone().map(|w| graph.parameter_bytes(w));
        let stored = self.copies() * pieces.sum::<usize>() as f64;
        let stages =
            Job::read(self.config, None).map(|job| job.memory(&settings.training.strategy));
        // meshes and sizes that are not planned are held to what the graph is known to keep
        let least = |w| {
            let moments = settings
                .training
                .strategy
                .whole_in_flight(w, settings.training.in_flight);
            moments as f64 * graph.bytes_kept(w) as f64
        };
        let least = local.clone().map(least).sum::<f64>();
        // what is planned is memory of this machine: a GPU and files have their own
        let strategy = &settings.training.strategy;
        let here = strategy.device().is_none_or(|name| name == "cpu") && !strategy.offloads();
        let kept = stages.ok().and_then(std::result::Result::ok);
        let kept = kept.filter(|_| here);
        let most = |stages: Vec<Memory>| {
            let beside = |s: &Memory| s.peak().saturating_sub(s.fixed()) as f64;
            stages.iter().map(beside).fold(0.0, f64::max) * local.len() as f64
        };
        let kept = kept.map_or(0.0, most).max(least);
        if stored + kept > self.memory {
            let of = format!(
                "{} of parameters, gradients and optimizer, {} of activations and what works on them",
                bytes(stored as u64),
                bytes(kept as u64)
            );
            return Err(self.refuse(stored + kept, &of));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Sources, resolve};
    use crate::language::{Language, train};

    fn said(set: &[&str], workers: usize, memory: f64) -> Result<()> {
        let sources = Sources {
            set: set.iter().map(|s| s.to_string()).collect(),
            ..Sources::default()
        };
        let config = resolve(&Language, &sources)?;
        let fabric = Fabric::Threads(workers);
        let settings = Settings::read(&config, &fabric)?;
        let fits = Fits {
            memory,
            ..Fits::here(&config, &settings, &fabric)
        };
        fits.parameters()?;
        fits.whole(&train(&settings)?.graph)
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
        let least = |set: &[&str]| {
            let tried = (0..100).map(|k| 1e7 * 1.25_f64.powi(k));
            tried
                .into_iter()
                .find(|memory| said(set, 1, *memory).is_ok())
        };
        let away = [&long[..], &["layout.offload=\"/tmp\""]].concat();
        assert!(least(&away) < least(&long), "blocks keep nothing in memory");
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

//! `twin`: the published scores of assimilation, reproduced.
//!
//! A model makes a truth and its observations, a filter finds the truth again, and the time-mean
//! error of its analysis is held against the published one. Seeds run in parallel over the workers
//! of the fabric; every fabric gives the same scores, bit for bit.

mod job;
mod scores;
mod settings;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, PoisonError};

use advect_engine::Fabric;
use advect_operators::twin::{Experiment, SeedRun};

use self::job::{Event, Shared};
use self::scores::Score;
use crate::config::Config;
use crate::error::Result;
use crate::pipeline::{Choice, Pipeline, Preset, Run};
use crate::plan::Plan;

/// The pipeline.
pub struct Twin;

impl Pipeline for Twin {
    fn name(&self) -> &'static str {
        "twin"
    }

    fn about(&self) -> &'static str {
        "published scores of ensemble filters and baselines on chaotic models, reproduced"
    }

    fn default_config(&self) -> &'static str {
        include_str!("default.toml")
    }

    fn presets(&self) -> &'static [Preset] {
        settings::PRESETS
    }

    fn preset_key(&self) -> &'static str {
        settings::KEY
    }

    fn choices(&self) -> &'static [Choice] {
        &["model", "method"]
    }

    fn check(&self, config: &Config) -> Result<Vec<String>> {
        let line = |e: &Experiment| {
            let run = &e.run;
            let (seeds, total) = (run.seeds.len(), run.burn_in.saturating_add(run.cycles));
            format!("{}: {seeds} seeds of {total} cycles", e.name)
        };
        Ok(settings::experiments(config)?.iter().map(line).collect())
    }

    fn plan(&self, config: &Config, fabric: &Fabric) -> Result<Plan> {
        let experiments = settings::experiments(config)?;
        let (mut state, mut scores) = (0, 0);
        for e in &experiments {
            let (n, d) = (e.method.members(), e.model.build()?.dimension());
            state = state.max(((n + 1) * d * 8) as u64);
            // sums of the block and one count a rank
            scores += block_bytes(n) * SeedRun::blocks(e) * e.run.seeds.len() as u64;
        }
        let tasks: usize = experiments.iter().map(|e| e.run.seeds.len()).sum();
        let title = format!(
            "twin on {fabric}: {} experiments, {tasks} runs",
            experiments.len()
        );
        let sent = if fabric.workers() > 1 {
            scores.div_ceil(fabric.workers() as u64)
        } else {
            0
        };
        Ok(Plan::new(title)
            .node(
                "Runs",
                "truth, forecast and analysis, a seed at a time",
                state,
            )
            .node("Gather", "blocks in their order, scores", scores)
            .edge("Runs", "Gather", "blocks of scores", "to worker 0", sent)
            .note("memory without the covariance of optimal interpolation and 3D-Var"))
    }

    fn run(&self, run: &Run) -> Result<()> {
        let experiments = settings::experiments(&run.config)?;
        run.keep_settings()?;
        let blocks = experiments
            .iter()
            .map(|e| SeedRun::blocks(e) * e.run.seeds.len() as u64);
        let progress = Arc::new(run.progress("twin", blocks.sum()));
        let shared = Arc::new(Shared {
            experiments,
            stop: run.stop.clone(),
        });
        let scores: Arc<Mutex<Vec<Score>>> = Arc::default();
        run.say(scores::heading());
        let (kept, bar, quiet) = (Arc::clone(&scores), Arc::clone(&progress), run.quiet);
        let flow = Arc::clone(&shared);
        run.fabric
            .run_with(&run.observe(), move |worker, context| {
                let (kept, bar, all) = (Arc::clone(&kept), Arc::clone(&bar), Arc::clone(&flow));
                job::run(worker, context, &flow, move |event| match event {
                    Event::Block => bar.step(),
                    Event::Closed(index, outcome) => {
                        let score = Score::new(&all.experiments[index], *outcome);
                        if !quiet {
                            bar.line(&score.row());
                        }
                        kept.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push(score);
                    }
                });
            })?;
        progress.finish();
        if !run.is_first_process() {
            return Ok(());
        }
        let scores = scores.lock().unwrap_or_else(PoisonError::into_inner);
        scores::write(run, &scores)?;
        if run.stop.is_set() {
            let (done, all) = (scores.len(), shared.experiments.len());
            run.say(format!("stopped: {done} of {all} experiments are complete"));
            return Ok(());
        }
        scores::judge(&scores)
    }
}

/// Bytes of a block of scores for ensembles of `members`: sums, counts and a count a rank.
fn block_bytes(members: usize) -> u64 {
    (24 + members as u64 + 1) * 8
}

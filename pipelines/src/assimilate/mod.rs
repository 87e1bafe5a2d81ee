//! `assimilate`: surface reports to verified ensemble analyses, hour by hour.
//!
//! Reports arrive in event time, some late, some wrong and corrected later. Each hour is a cycle: the
//! background ensemble comes from the prior and the last analysis, reports are screened and checked,
//! the analysis is a hybrid-gain LETKF (see [`advect_operators::cycle`]). Withheld stations verify it
//! beside simple baselines. The dataflow is the same on every fabric, and gives the same bits.

mod arrivals;
mod bias;
mod feed;
mod inputs;
mod job;
mod ledger;
mod picture;
mod prior;
mod settings;
mod sink;
mod verify;

use std::path::Path;
use std::sync::{Arc, Mutex};

use advect_engine::Fabric;
use advect_engine::snapshot::Store;

use self::job::Shared;
use self::settings::AssimilateConfig;
use self::sink::Sink;
use crate::config::Config;
use crate::error::{PipelineError, Result};
use crate::pipeline::{Pipeline, Preset, Run, Stop};
use crate::plan::Plan;

/// The pipeline.
pub struct Assimilate;

const PRESETS: &[Preset] = &[
    Preset {
        name: "sao-1995",
        about: "surface aviation observations of 18 March 1995 over North America (embedded)",
        text: "",
    },
    Preset {
        name: "ncep-isd",
        about: "15 stations of 2014 by a reanalysis of 2013, each verified by the others (ADVECT_DATA)",
        text: include_str!("ncep_isd.toml"),
    },
];

impl Pipeline for Assimilate {
    fn name(&self) -> &'static str {
        "assimilate"
    }

    fn about(&self) -> &'static str {
        "surface reports to verified hourly ensemble analyses (hybrid-gain LETKF)"
    }

    fn default_config(&self) -> &'static str {
        include_str!("default.toml")
    }

    fn presets(&self) -> &'static [Preset] {
        PRESETS
    }

    fn resumes(&self) -> bool {
        true
    }

    fn check(&self, config: &Config) -> Result<Vec<String>> {
        let folder = std::env::temp_dir().join(format!("advect-{}", std::process::id()));
        let loaded = shared(config, &folder, Stop::default()).and_then(|(shared, names)| {
            let settings = shared.settings()?;
            let l = &shared.loaded;
            Ok(vec![
                format!(
                    "{} records, {} readable and in the period",
                    l.read,
                    l.reports.len()
                ),
                format!(
                    "{} stations withheld, {} verify",
                    l.withheld.len(),
                    names.len()
                ),
                format!(
                    "{} cells, {} members",
                    settings.grid.cells(),
                    settings.members
                ),
            ])
        });
        // what was unpacked only to be checked
        let _ = std::fs::remove_dir_all(&folder);
        loaded
    }

    fn plan(&self, config: &Config, fabric: &Fabric) -> Result<Plan> {
        let config = AssimilateConfig::read(config)?;
        let (grid, n, workers) = (config.grid()?, config.members(), fabric.workers());
        let rows = grid.rows().div_ceil(workers);
        let band = (rows * grid.columns() * n * 8) as u64;
        let halo = if workers > 1 {
            (grid.columns() * n * 8) as u64
        } else {
            0
        };
        let sums = (rows * grid.columns() * (n * (n + 3) / 2) * 16) as u64;
        let all = (grid.cells() * 16) as u64;
        let sent = all / workers as u64 * (workers as u64 - 1);
        let title = format!(
            "assimilate on {fabric}: {} x {} cells, {n} members, {} cycles",
            grid.rows(),
            grid.columns(),
            config.period.cycles
        );
        Ok(Plan::new(title)
            .node("Reports", "the archive as a stream", 0)
            .node(
                "Screen",
                "checks on the report, duplicates, late, withheld",
                0,
            )
            .node("Background", "ensemble of the cycle", band)
            .node("Observe", "departures, gross errors", band + halo)
            .node("Contribute", "buddy check, exact rows", 0)
            .node("LocalSums", "partials by (cycle, cell)", sums)
            .node("Analyse", "local ensemble transform", 2 * band)
            .node("Hybrid", "static gain in the mean", band)
            .node("Forecast", "to the next cycle", band)
            .node("Gather", "mean and spread of every cell", all)
            .edge("Reports", "Screen", "updates of reports", "by station", 0)
            .edge("Screen", "Observe", "updates of reports", "by row", 0)
            .edge(
                "Background",
                "Observe",
                "Split(0) -> Halo(0, 1)",
                "relayout",
                halo,
            )
            .edge(
                "Observe",
                "Contribute",
                "departures",
                "by row and neighbour",
                0,
            )
            .edge("Contribute", "LocalSums", "i128 sums", "by cell", 0)
            .edge("LocalSums", "Analyse", "arrangement", "pipeline", 0)
            .edge("Background", "Analyse", "ensemble", "pipeline", 0)
            .edge("Contribute", "Hybrid", "verdicts", "to all", 0)
            .edge("Analyse", "Hybrid", "ensemble", "pipeline", 0)
            .edge("Hybrid", "Forecast", "ensemble", "pipeline", 0)
            .edge("Forecast", "Background", "feedback (1, 0)", "pipeline", 0)
            .edge("Hybrid", "Gather", "Split(0) -> Same", "relayout", sent)
            .note("edges of records are not counted before the run: they depend on the data"))
    }

    fn run(&self, run: &Run) -> Result<()> {
        let (shared, names) = shared(&run.config, &run.out, run.stop.clone())?;
        let shared = Arc::new(shared);
        shared.settings()?;
        run.keep_settings()?;
        let sink = if run.is_first_process() {
            Some(Sink::create(run, &shared, names)?)
        } else {
            None
        };
        let sink = Arc::new(Mutex::new((sink, Ok::<(), PipelineError>(()))));
        let (mine, theirs, resume) = (Arc::clone(&sink), Arc::clone(&shared), run.resume);
        let outcome = run.fabric.run_with(&run.observe(), move |worker, context| {
            let (mine, stop) = (Arc::clone(&mine), theirs.stop.clone());
            job::run(worker, context, &theirs, resume, move |closed| {
                let mut held = mine
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                let (sink, written) = &mut *held;
                let (Some(sink), Ok(())) = (sink, &written) else {
                    return;
                };
                if let Err(e) = closed.and_then(|cycle| sink.cycle(cycle)) {
                    // end in order, then say why
                    *written = Err(e);
                    stop.set();
                }
            })
        });
        let mut held = sink
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let (sink, written) = (held.0.take(), std::mem::replace(&mut held.1, Ok(())));
        written?;
        let done = outcome?.into_iter().collect::<Result<Vec<_>>>()?;
        let analysed: u64 = done.iter().map(|d| d.analysed).sum();
        tracing::info!(analysed, "points analysed on this process");
        match sink {
            Some(sink) => sink.finish(),
            None => Ok(()),
        }
    }
}

/// Reads configuration and inputs; also the names of the stations that verify, by site.
fn shared(config: &Config, out: &Path, stop: Stop) -> Result<(Shared, Vec<String>)> {
    let text = config.to_toml();
    let config = AssimilateConfig::read(config)?;
    let loaded = inputs::load(&config, &out.join("inputs"))?;
    // what must be the same for a run to go on where another was
    let mut same = crc32fast::Hasher::new();
    same.update(text.as_bytes());
    same.update(&loaded.checksum.to_le_bytes());
    let store = Store::new(
        out.join("snapshots"),
        "assimilate",
        &format!("{:08x}", same.finalize()),
    );
    let sites = verify::sites(&config, &loaded.reports, &loaded.withheld);
    let (names, sites) = sites.into_iter().unzip();
    let arrivals = arrivals::arrivals(&loaded.reports, &config.arrival, &config.period);
    Ok((
        Shared {
            store,
            config,
            loaded,
            sites,
            arrivals,
            stop,
        },
        names,
    ))
}

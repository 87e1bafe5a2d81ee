//! Results of `assimilate`, written cycle by cycle as they close.

use std::path::PathBuf;
use std::sync::Arc;

use advect_connectors::netcdf::{Length, NetcdfWriter, NumberType, Slab, VariableSpec};
use advect_connectors::time::HOUR;
use advect_connectors::{Observation, Reason, Rejected, RejectedSink};
use advect_operators::observations::{Fault, Report};

use super::job::Shared;
use super::ledger::Closed;
use super::picture;
use super::verify::{Records, Score, Scores};
use crate::error::{PipelineError, Result};
use crate::pipeline::Run;
use crate::progress::Progress;

/// Lines of the table of cycles, about.
const LINES: u64 = 100;

/// Writers of all results, on the first process.
pub(crate) struct Sink {
    run: Run,
    shared: Arc<Shared>,
    names: Vec<String>,
    analyses: NetcdfWriter,
    rejected: RejectedSink,
    progress: Progress,
    score: Score,
    cycles: u64,
    turned_away: u64,
    last: Option<Closed>,
}

impl Sink {
    /// Opens the files of the run.
    pub(crate) fn create(run: &Run, shared: &Arc<Shared>, names: Vec<String>) -> Result<Self> {
        let mut rejected = RejectedSink::create(run.result("rejected.parquet"))?;
        rejected.write(&shared.loaded.rejected)?;
        let sink = Sink {
            run: run.clone(),
            shared: Arc::clone(shared),
            names,
            analyses: declare(run.result("analyses.nc"), shared)?,
            turned_away: shared.loaded.rejected.len() as u64,
            rejected,
            progress: run.progress("assimilate", shared.config.period.cycles),
            score: Score::default(),
            cycles: 0,
            last: None,
        };
        sink.line(&format!(
            "{:>17}  {:>6} {:>6} {:>6}  {:>6} {:>6}  {:>6} {:>6} {:>6}",
            "cycle", "used", "reject", "verify", "O-B K", "bias", "backgr", "analys", "expect"
        ));
        Ok(sink)
    }

    fn line(&self, text: &str) {
        if !self.run.quiet {
            self.progress.line(text);
        }
    }

    /// Writes a cycle.
    pub(crate) fn cycle(&mut self, closed: &Closed) -> Result<()> {
        let config = &self.shared.config;
        let grid = config.grid()?;
        let (rows, columns) = (grid.rows(), grid.columns());
        let place = closed.valid as usize;
        let hours = (config.time_of(closed.valid) - config.time_of(0)) / HOUR;
        let one = Slab::new(&[place], &[1]);
        let map = Slab::new(&[place, 0, 0], &[1, rows, columns]);
        let narrow = |values: &[f64]| values.iter().map(|&v| v as f32).collect::<Vec<f32>>();
        self.analyses.put("time", &one, vec![hours])?;
        self.analyses
            .put("air_temperature", &map, narrow(&closed.mean))?;
        self.analyses
            .put("air_temperature_spread", &map, narrow(&closed.spread))?;
        let rejected: Vec<Rejected> = closed
            .verdicts
            .iter()
            .filter_map(|(report, fault, departure)| self.reject(report, (*fault)?, *departure))
            .collect();
        self.turned_away += rejected.len() as u64;
        self.rejected.write(&rejected)?;
        let score = Score::of(closed, config, &self.names);
        let time = jiff::Timestamp::from_nanosecond(i128::from(config.time_of(closed.valid)));
        let time = time.map_or_else(
            |_| closed.valid.to_string(),
            |t| t.strftime("%Y-%m-%dT%H:%MZ").to_string(),
        );
        let line = format!(
            "{time:>17}  {:>6} {:>6} {:>6}  {:>6.2} {:>6.2}  {:>6.2} {:>6.2} {:>6.2}",
            score.assimilated,
            score.rejected,
            score.analysis.count(),
            score.departures.rmse(),
            score.departures.bias(),
            score.background.rmse(),
            score.analysis.rmse(),
            score.spread(),
        );
        // of a long run a part is enough to see how it goes
        let few = self.shared.config.period.cycles.div_ceil(LINES);
        if closed.valid.is_multiple_of(few) {
            self.line(&line);
        }
        tracing::debug!(
            cycle = closed.valid,
            assimilated = score.assimilated,
            rejected = score.rejected,
            withheld_rmse = score.analysis.rmse(),
            "cycle closed"
        );
        self.score.merge(&score);
        self.cycles += 1;
        self.last = Some(closed.clone());
        self.progress.step();
        Ok(())
    }

    fn reject(&self, report: &Report, fault: Fault, departure: f64) -> Option<Rejected> {
        let reason = match fault {
            Fault::Withheld => return None,
            Fault::BlockList => Reason::BlockList,
            Fault::Range => Reason::Range,
            Fault::Domain | Fault::Elevation => Reason::Position,
            Fault::Duplicate => Reason::Duplicate,
            Fault::Late => Reason::Late,
            Fault::GrossError => Reason::GrossError,
            _ => Reason::Buddy,
        };
        let detail = match fault {
            Fault::GrossError | Fault::Buddy => {
                format!("{fault}: {departure:+.2} K from the background")
            }
            _ => fault.to_string(),
        };
        let held = self.shared.loaded.observations.get(report.order as usize);
        let observation = held.cloned().unwrap_or_else(|| Observation {
            time: report.time.saturating_mul(1_000_000_000),
            latitude: report.latitude(),
            longitude: report.longitude(),
            elevation: report.elevation(),
            variable: "air_temperature".to_owned(),
            value: report.value(),
            error: None,
            station: report.station.clone(),
            source: "arrival".to_owned(),
        });
        let place = format!("{}:{}", observation.source, report.order + 1);
        Some(Rejected::observation(observation, reason, detail, place))
    }

    /// Finishes all files, prints the score table and draws the last analysis.
    pub(crate) fn finish(self) -> Result<()> {
        self.progress.finish();
        let stations = self.names.len();
        let Sink {
            run,
            shared,
            analyses,
            rejected,
            score,
            turned_away,
            last,
            ..
        } = self;
        analyses.finish()?;
        rejected.finish()?;
        let records = Records {
            read: shared.loaded.read as u64,
            assimilated: score.assimilated,
            withheld: score.withheld,
            rejected: turned_away,
        };
        let scores = Scores::of(&score, stations, records);
        let text = serde_json::to_string_pretty(&scores).map_err(|e| PipelineError::Failed {
            pipeline: "assimilate".to_owned(),
            why: format!("scores.json: {e}"),
        })?;
        let path = run.result("scores.json");
        let mend = "free some space or choose another directory with --out";
        std::fs::write(&path, text + "\n").map_err(PipelineError::file("write", &path, mend))?;
        if let Some(last) = &last {
            picture::draw(&shared, last)?.save(&run.result("analysis.png"))?;
        }
        table(&run, &scores, shared.config.verify.leave_one_out);
        Ok(())
    }
}

fn table(run: &Run, scores: &Scores, leave_one_out: bool) {
    run.say("");
    let how = match leave_one_out {
        true => "each by the reports of the others",
        false => "withheld",
    };
    run.say(format!(
        "temperature at {} reports of {} stations, {how}",
        scores.verifying_reports, scores.verifying_stations
    ));
    let b = &scores.baselines;
    for (name, rmse) in [
        ("network mean", b.network_mean),
        ("nearest station", b.nearest_station),
        ("inverse distance", b.inverse_distance),
        ("kriging with lapse rate", b.kriging_with_lapse_rate),
        ("background", scores.background_rmse),
        ("analysis", scores.withheld_rmse),
    ] {
        run.say(format!("  {name:<24} RMSE {rmse:>6.2} K"));
    }
    run.say(format!(
        "  expected over actual error    {:>6.2}",
        scores.spread_skill
    ));
    let r = &scores.records;
    run.say(format!(
        "records: {} read = {} assimilated + {} withheld + {} rejected",
        r.read, r.assimilated, r.withheld, r.rejected
    ));
    run.say(format!("results in {}", run.out.display()));
}

/// Declares the file of analyses.
fn declare(path: PathBuf, shared: &Shared) -> Result<NetcdfWriter> {
    let config = &shared.config;
    let grid = config.grid()?;
    let mut file = NetcdfWriter::create(path, "Hourly analyses of surface air temperature")?;
    file.attribute(
        "source",
        "advect assimilate: hybrid-gain LETKF of surface reports",
    )?;
    file.dimension("time", Length::Unlimited)?;
    file.dimension("latitude", Length::Fixed(grid.rows()))?;
    file.dimension("longitude", Length::Fixed(grid.columns()))?;
    let start = jiff::Timestamp::from_nanosecond(i128::from(config.time_of(0))).map_or_else(
        |_| String::new(),
        |t| t.strftime("%Y-%m-%d %H:%M:%S").to_string(),
    );
    file.variable(
        VariableSpec::new("time", &["time"], NumberType::I64)
            .standard_name("time")
            .units(&format!("hours since {start}"))
            .attribute("calendar", "proleptic_gregorian"),
    )?;
    for (name, units) in [("latitude", "degrees_north"), ("longitude", "degrees_east")] {
        file.variable(
            VariableSpec::new(name, &[name], NumberType::F64)
                .standard_name(name)
                .units(units),
        )?;
    }
    let cube = ["time", "latitude", "longitude"];
    let chunk = [1, grid.rows(), grid.columns()];
    for (name, long) in [
        ("air_temperature", "analysis mean at the height of the cell"),
        (
            "air_temperature_spread",
            "analysis standard deviation over the ensemble",
        ),
    ] {
        let spec = VariableSpec::new(name, &cube, NumberType::F32)
            .long_name(long)
            .units("K")
            .chunk(&chunk)
            .deflate(4);
        let spec = if name == "air_temperature" {
            spec.standard_name(name)
        } else {
            spec
        };
        file.variable(spec)?;
    }
    file.variable(
        VariableSpec::new(
            "surface_altitude",
            &["latitude", "longitude"],
            NumberType::F32,
        )
        .standard_name("surface_altitude")
        .units("m"),
    )?;
    let all = |n: usize| Slab::new(&[0], &[n]);
    file.put("latitude", &all(grid.rows()), grid.latitudes())?;
    file.put("longitude", &all(grid.columns()), grid.longitudes())?;
    let heights: Vec<f32> = shared.loaded.heights.iter().map(|&z| z as f32).collect();
    file.put(
        "surface_altitude",
        &Slab::new(&[0, 0], &[grid.rows(), grid.columns()]),
        heights,
    )?;
    Ok(file)
}

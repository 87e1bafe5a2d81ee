//! The configuration of `assimilate`, typed.

use advect_connectors::time::{HOUR, parse_iso};
use advect_operators::assimilation::Inflation;
use advect_operators::cycle::{Hybrid, Taper};
use advect_operators::observations::{Buddy, Grid};
use serde::Deserialize;

use crate::config::Config;
use crate::error::Result;

/// All of it; keys as in the documented default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AssimilateConfig {
    #[serde(rename = "data")]
    _data: String,
    pub(crate) inputs: Inputs,
    pub(crate) period: Period,
    pub(crate) arrival: Arrival,
    pub(crate) grid: GridConfig,
    pub(crate) prior: PriorConfig,
    pub(crate) filter: Filter,
    pub(crate) hybrid: Hybrid,
    pub(crate) quality: QualityConfig,
    pub(crate) verify: Verify,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Inputs {
    pub(crate) reports: String,
    pub(crate) format: Format,
    pub(crate) unbias: bool,
    pub(crate) prior: String,
    pub(crate) relief: String,
}

/// What a file of reports is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// Surface aviation observations.
    Sao,
    /// Hourly temperatures of the Integrated Surface Database.
    Isd,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Period {
    start: String,
    pub(crate) step: u64,
    pub(crate) cycles: u64,
    pub(crate) window: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Arrival {
    pub(crate) seed: u64,
    pub(crate) late: f64,
    pub(crate) corrected: f64,
    pub(crate) extra: u64,
    pub(crate) shuffle: u64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct GridConfig {
    south: f64,
    west: f64,
    step: f64,
    rows: usize,
    columns: usize,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PriorConfig {
    pub(crate) until: String,
    pub(crate) season: usize,
    pub(crate) eofs: usize,
    pub(crate) waves: usize,
    pub(crate) period: f64,
    pub(crate) variance: f64,
    pub(crate) length: f64,
    pub(crate) level: f64,
    pub(crate) climatology: f64,
    pub(crate) persistence: f64,
    pub(crate) refresh: f64,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    pub(crate) observation_error: f64,
    pub(crate) lapse_rate: f64,
    pub(crate) taper: Taper,
    pub(crate) inflation: Inflation,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct QualityConfig {
    pub(crate) range: (f64, f64),
    pub(crate) heights: (f64, f64),
    pub(crate) block_list: Vec<String>,
    pub(crate) gross_limit: f64,
    pub(crate) buddy: Buddy,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Verify {
    pub(crate) leave_one_out: bool,
    pub(crate) one_in: u32,
    pub(crate) south: f64,
    pub(crate) north: f64,
    pub(crate) west: f64,
    pub(crate) east: f64,
}

impl AssimilateConfig {
    /// Reads and checks the configuration.
    ///
    /// # Errors
    /// [`ConfigError`](crate::ConfigError) with the key, its value and where it came from.
    pub(crate) fn read(config: &Config) -> Result<Self> {
        let read: Self = config.read()?;
        let positive = "must be positive";
        let share = "must lie between 0 and 1";
        let unit = 0.0..=1.0;
        let f = &read.filter;
        config.require(
            "period.start",
            read.start().is_some(),
            "must be a time such as 1995-03-18T00:00:00Z",
        )?;
        config.require(
            "period.cycles",
            (1..=1_000_000).contains(&read.period.cycles),
            "must be 1 to 1000000",
        )?;
        config.require(
            "period.window",
            read.period.window <= 1000,
            "must be at most 1000 cycles",
        )?;
        config.require(
            "period.step",
            (1..=24).contains(&read.period.step) && 24 % read.period.step == 0,
            "must divide a day into whole hours",
        )?;
        let until = &read.prior.until;
        config.require(
            "prior.until",
            until.is_empty() || parse_iso(until).is_some(),
            "must be empty or a time such as 2014-01-01T00:00:00Z",
        )?;
        config.require("prior.season", read.prior.season <= 6, "must be at most 6")?;
        let forgets = read.prior.persistence == 0.0 && read.prior.refresh == 1.0;
        config.require(
            "verify.leave_one_out",
            !read.verify.leave_one_out || (forgets && read.hybrid.weight == 0.0),
            "needs prior.persistence = 0, prior.refresh = 1 and hybrid.weight = 0: the background \
             must not have heard the station that is left out",
        )?;
        config.require("arrival.late", unit.contains(&read.arrival.late), share)?;
        config.require(
            "arrival.corrected",
            unit.contains(&read.arrival.corrected),
            share,
        )?;
        config.require(
            "arrival.extra",
            read.arrival.extra <= 10_000_000,
            "must be at most 10000000",
        )?;
        let delays =
            read.arrival.late > 0.0 || read.arrival.corrected > 0.0 || read.arrival.extra > 0;
        config.require(
            "period.window",
            read.period.window > 0 || !delays,
            "must be at least 1 while arrival.late, arrival.corrected or arrival.extra are not 0",
        )?;
        let cells = read.grid.rows.saturating_mul(read.grid.columns);
        config.require(
            "grid.rows",
            (2..=10_000).contains(&read.grid.rows),
            "must be 2 to 10000",
        )?;
        config.require(
            "grid.columns",
            cells <= 10_000_000,
            "must give at most 10000000 cells",
        )?;
        config.require("prior.eofs", read.prior.eofs <= 100, "must be at most 100")?;
        config.require(
            "prior.waves",
            read.prior.waves <= 100,
            "must be at most 100",
        )?;
        for (key, value) in [
            ("prior.period", read.prior.period),
            ("prior.length", read.prior.length),
            ("filter.observation_error", f.observation_error),
            ("filter.taper.near", f.taper.near),
            ("filter.taper.far", f.taper.far),
            ("hybrid.static.length", read.hybrid.krige.length),
            ("hybrid.static.nugget", read.hybrid.krige.nugget),
            ("hybrid.static.radius", read.hybrid.krige.radius),
            ("quality.gross_limit", read.quality.gross_limit),
            ("quality.buddy.radius", read.quality.buddy.radius),
            ("quality.buddy.limit", read.quality.buddy.limit),
        ] {
            config.require(key, value > 0.0 && value.is_finite(), positive)?;
        }
        for (key, value) in [
            ("prior.variance", read.prior.variance),
            ("prior.level", read.prior.level),
            ("hybrid.static.variance", read.hybrid.krige.variance),
            ("hybrid.static.level", read.hybrid.krige.level),
            ("hybrid.static.per_height", read.hybrid.krige.per_height),
            ("hybrid.static.per_land", read.hybrid.krige.per_land),
        ] {
            let why = "must not be negative";
            config.require(key, value >= 0.0 && value.is_finite(), why)?;
        }
        for (key, value) in [
            ("prior.climatology", read.prior.climatology),
            ("prior.persistence", read.prior.persistence),
            ("prior.refresh", read.prior.refresh),
            ("filter.taper.share", f.taper.share),
            ("hybrid.weight", read.hybrid.weight),
        ] {
            config.require(key, unit.contains(&value), share)?;
        }
        let near = (1..=500).contains(&read.hybrid.krige.neighbours);
        config.require("hybrid.static.neighbours", near, "must be 1 to 500")?;
        config.require("verify.one_in", read.verify.one_in > 0, positive)?;
        f.inflation.validated()?;
        read.grid()?;
        Ok(read)
    }

    /// Start of the first cycle, nanoseconds since 1970.
    pub(crate) fn start(&self) -> Option<i64> {
        parse_iso(&self.period.start)
    }

    /// The time of a cycle, nanoseconds since 1970.
    pub(crate) fn time_of(&self, cycle: u64) -> i64 {
        self.start()
            .unwrap_or(0)
            .saturating_add((cycle as i64).saturating_mul(self.step()))
    }

    /// From one cycle to the next, nanoseconds.
    fn step(&self) -> i64 {
        self.period.step as i64 * HOUR
    }

    /// The cycle of a time, `None` outside the period: the cycle that it is within half an hour of.
    pub(crate) fn cycle_of(&self, time: i64) -> Option<u64> {
        let since = time.checked_sub(self.start()?)?.checked_add(HOUR / 2)?;
        let cycle = u64::try_from(since.div_euclid(self.step())).ok()?;
        let near = since.rem_euclid(self.step()) < HOUR;
        (near && cycle < self.period.cycles).then_some(cycle)
    }

    /// The time from which on fields are no longer part of the prior.
    pub(crate) fn prior_until(&self) -> Option<i64> {
        parse_iso(&self.prior.until)
    }

    /// The analysis grid.
    pub(crate) fn grid(&self) -> Result<Grid> {
        let g = &self.grid;
        Ok(Grid::try_new(g.south, g.west, g.step, g.rows, g.columns)?)
    }

    /// Members of the ensemble: one more than the patterns that span it.
    pub(crate) fn members(&self) -> usize {
        self.prior.eofs + 2 * self.prior.waves + 2
    }
}

//! Verification at withheld stations, and the baselines that an analysis has to beat.

use std::collections::BTreeMap;

use advect_operators::cycle::Site;
use advect_operators::observations::grid::distance;
use advect_operators::observations::{Fault, Krige, Place, Report};
use serde::Serialize;

use super::ledger::Closed;
use super::settings::{AssimilateConfig, Verify};

/// Lapse rate of the standard atmosphere, K/m: baselines know no better.
const STANDARD_LAPSE: f64 = 0.0065;

/// Whether a report verifies: inside the box of verification.
fn verifies(verify: &Verify, latitude: f64, longitude: f64) -> bool {
    (verify.south..=verify.north).contains(&latitude)
        && (verify.west..=verify.east).contains(&longitude)
}

/// The places of withheld stations that verify, by name: those of their first usable report.
pub(crate) fn sites(
    config: &AssimilateConfig,
    reports: &[Report],
    withheld: &std::collections::BTreeSet<String>,
) -> BTreeMap<String, Site> {
    let (low, high) = config.quality.range;
    let mut sites = BTreeMap::new();
    let usable = |r: &&Report| {
        (config.verify.leave_one_out || withheld.contains(&r.station))
            && (low..=high).contains(&r.value())
            && verifies(&config.verify, r.latitude(), r.longitude())
    };
    for r in reports.iter().filter(usable) {
        sites.entry(r.station.clone()).or_insert_with(|| Site {
            without: config.verify.leave_one_out.then(|| r.station.clone()),
            latitude: r.latitude(),
            longitude: r.longitude(),
            height: r.elevation().unwrap_or(0.0),
        });
    }
    sites
}

/// Squares and counts of errors.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Errors {
    count: u64,
    sum: f64,
    squares: f64,
}

impl Errors {
    pub(crate) fn add(&mut self, error: f64) {
        self.count += 1;
        self.sum += error;
        self.squares += error * error;
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn rmse(&self) -> f64 {
        (self.squares / self.count as f64).sqrt()
    }

    pub(crate) fn bias(&self) -> f64 {
        self.sum / self.count as f64
    }
}

/// Scores of one cycle, or of several together.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Score {
    pub(crate) analysis: Errors,
    pub(crate) background: Errors,
    pub(crate) departures: Errors,
    pub(crate) network_mean: Errors,
    pub(crate) nearest: Errors,
    pub(crate) inverse_distance: Errors,
    pub(crate) kriging: Errors,
    variance: f64,
    pub(crate) assimilated: u64,
    pub(crate) rejected: u64,
    pub(crate) withheld: u64,
}

impl Score {
    /// The scores of a closed cycle. `names` are the stations of the sites, in order.
    pub(crate) fn of(closed: &Closed, config: &AssimilateConfig, names: &[String]) -> Self {
        let mut score = Score::default();
        let mut heard: Vec<(&str, Place, f64)> = Vec::new();
        let mut truth: BTreeMap<&str, &Report> = BTreeMap::new();
        for (report, fault, departure) in &closed.verdicts {
            match fault {
                None => {
                    score.assimilated += 1;
                    score.departures.add(*departure);
                    heard.push((&report.station, place(report), report.value()));
                    if config.verify.leave_one_out {
                        truth.insert(&report.station, report);
                    }
                }
                Some(Fault::Withheld) => {
                    score.withheld += 1;
                    truth.insert(&report.station, report);
                }
                Some(_) => score.rejected += 1,
            }
        }
        let error = config.filter.observation_error.powi(2);
        let members = config.members() as f64;
        for site in &closed.sites {
            let name = names.get(site.site as usize).map_or("", String::as_str);
            let Some(report) = truth.get(name) else {
                continue;
            };
            if !verifies(&config.verify, report.latitude(), report.longitude()) {
                continue;
            }
            score.analysis.add(site.mean - report.value());
            score.background.add(site.background - report.value());
            // the variance of a departure from an ensemble of N members
            score.variance += (1.0 + 1.0 / members) * site.spread.powi(2) + error;
            let others = heard
                .iter()
                .filter(|(station, ..)| *station != report.station);
            let others: Vec<(Place, f64)> =
                others.map(|(_, place, value)| (*place, *value)).collect();
            score.baselines(report, &others);
        }
        score
    }

    /// Adds another cycle.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.analysis, &other.analysis),
            (&mut self.background, &other.background),
            (&mut self.departures, &other.departures),
            (&mut self.network_mean, &other.network_mean),
            (&mut self.nearest, &other.nearest),
            (&mut self.inverse_distance, &other.inverse_distance),
            (&mut self.kriging, &other.kriging),
        ] {
            mine.merge(theirs);
        }
        self.variance += other.variance;
        self.assimilated += other.assimilated;
        self.rejected += other.rejected;
        self.withheld += other.withheld;
    }

    /// Expected standard deviation of a verifying departure, K.
    pub(crate) fn spread(&self) -> f64 {
        (self.variance / self.analysis.count as f64).sqrt()
    }

    /// What the reports around say without any assimilation.
    fn baselines(&mut self, truth: &Report, heard: &[(Place, f64)]) {
        if heard.is_empty() {
            return;
        }
        let at = place(truth);
        let (mut near, mut weights, mut sum) = ((f64::INFINITY, 0.0), 0.0, 0.0);
        for (p, value) in heard {
            let km = distance(at.latitude, at.longitude, p.latitude, p.longitude);
            if km < near.0 {
                near = (km, *value);
            }
            let w = 1.0 / (km * km).max(1.0);
            weights += w;
            sum += w * value;
        }
        let mean = heard.iter().map(|h| h.1).sum::<f64>() / heard.len() as f64;
        let level = |p: &Place, t: f64| t + STANDARD_LAPSE * p.height;
        let reduced = heard.iter().map(|(p, t)| level(p, *t)).sum::<f64>() / heard.len() as f64;
        let departures: Vec<(Place, f64)> = heard
            .iter()
            .map(|(p, t)| (*p, level(p, *t) - reduced))
            .collect();
        self.network_mean.add(mean - truth.value());
        self.nearest.add(near.1 - truth.value());
        self.inverse_distance.add(sum / weights - truth.value());
        if let Ok(estimate) = ORDINARY.estimate(&at, &departures) {
            let t = reduced + estimate - STANDARD_LAPSE * at.height;
            self.kriging.add(t - truth.value());
        }
    }
}

/// Kriging in distance alone.
const ORDINARY: Krige = Krige {
    variance: 49.0,
    length: 800.0,
    level: 100.0,
    nugget: 1.0,
    per_height: 0.0,
    per_land: 0.0,
    neighbours: 60,
    radius: 1500.0,
};

fn place(r: &Report) -> Place {
    let height = r.elevation().unwrap_or(0.0);
    Place {
        latitude: r.latitude(),
        longitude: r.longitude(),
        height,
        land: 1.0,
    }
}

/// The scores of a run, as written to `scores.json`. Temperatures in kelvin.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Scores {
    /// Root mean square of analysis minus a report that it has not heard.
    pub(crate) withheld_rmse: f64,
    /// Mean of the same.
    pub(crate) withheld_bias: f64,
    /// Expected over actual root mean square.
    pub(crate) spread_skill: f64,
    /// Reports that verify.
    pub(crate) verifying_reports: u64,
    /// Stations that verify.
    pub(crate) verifying_stations: usize,
    /// The background at the same reports.
    pub(crate) background_rmse: f64,
    /// Root mean square of report minus background, assimilated reports.
    pub(crate) o_minus_b: f64,
    /// What the same reports say without assimilation.
    pub(crate) baselines: Baselines,
    /// What became of the records.
    pub(crate) records: Records,
}

/// Root mean square errors of the baselines, K.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Baselines {
    pub(crate) network_mean: f64,
    pub(crate) nearest_station: f64,
    pub(crate) inverse_distance: f64,
    pub(crate) kriging_with_lapse_rate: f64,
}

/// Records by what became of them; the parts add up to `read` if the run was not stopped.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Records {
    pub(crate) read: u64,
    pub(crate) assimilated: u64,
    pub(crate) withheld: u64,
    pub(crate) rejected: u64,
}

impl Scores {
    /// The scores of all cycles together.
    pub(crate) fn of(score: &Score, stations: usize, records: Records) -> Self {
        Scores {
            withheld_rmse: score.analysis.rmse(),
            withheld_bias: score.analysis.bias(),
            spread_skill: score.spread() / score.analysis.rmse(),
            verifying_reports: score.analysis.count(),
            verifying_stations: stations,
            background_rmse: score.background.rmse(),
            o_minus_b: score.departures.rmse(),
            baselines: Baselines {
                network_mean: score.network_mean.rmse(),
                nearest_station: score.nearest.rmse(),
                inverse_distance: score.inverse_distance.rmse(),
                kriging_with_lapse_rate: score.kriging.rmse(),
            },
            records,
        }
    }
}

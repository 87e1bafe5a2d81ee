//! What `assimilate` reads: reports, and the prior with relief and land.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use advect_connectors::netcdf::NetcdfFile;
use advect_connectors::{Observation, Reason, Rejected, read_isd, read_sao};
use advect_operators::observations::{Field, Grid, Report};
use tempfile::NamedTempFile;

use super::bias;
use super::prior::{Prior, Sample};
use super::settings::{AssimilateConfig, Format};
use crate::data;
use crate::error::{PipelineError, Result};

const REPORTS: (&str, &[u8]) = (
    "sao_1995-03-18.parquet",
    include_bytes!("../../data/sao_1995-03-18.parquet"),
);
const PRIOR: (&str, &[u8]) = (
    "prior_north_america.nc",
    include_bytes!("../../data/prior_north_america.nc"),
);

/// Everything that is read before the first cycle.
#[derive(Debug, Clone)]
pub(crate) struct Loaded {
    /// Records in the file of reports.
    pub(crate) read: usize,
    /// Readable records, in event time.
    pub(crate) observations: Vec<Observation>,
    /// Records that belong to a cycle; `order` is the index of their observation.
    pub(crate) reports: Vec<Report>,
    /// Records that could not be read or belong to no cycle.
    pub(crate) rejected: Vec<Rejected>,
    /// Stations that are kept for verification.
    pub(crate) withheld: BTreeSet<String>,
    /// Relief in m, the sea below 0, as fine as it was read.
    pub(crate) relief: Field,
    /// Fraction of land, as fine as it was read.
    pub(crate) land: Field,
    /// Height of every cell, m.
    pub(crate) heights: Vec<f64>,
    /// The prior on the analysis grid.
    pub(crate) prior: Prior,
    /// CRC-32 of the bytes of all files.
    pub(crate) checksum: u32,
}

/// Reads everything; embedded inputs are first written below `folder`, where Python can open them.
pub(crate) fn load(config: &AssimilateConfig, folder: &Path) -> Result<Loaded> {
    let reports = locate(&config.inputs.reports, REPORTS, folder)?;
    let prior = locate(&config.inputs.prior, PRIOR, folder)?;
    let relief = locate(&config.inputs.relief, PRIOR, folder)?;
    let checksum = checksum(&[&reports, &prior, &relief])?;
    let decoded = match config.inputs.format {
        Format::Sao => read_sao(&reports)?,
        Format::Isd => read_isd(&reports)?,
    };
    let read = decoded.observations.len() + decoded.rejected.len();
    let mut loaded = Vec::new();
    let mut rejected = decoded.rejected;
    let mut withheld = BTreeSet::new();
    for (order, o) in decoded.observations.iter().enumerate() {
        let Some(cycle) = config.cycle_of(o.time) else {
            let (detail, place) = ("at no cycle of the period", format!("{}:time", o.source));
            rejected.push(Rejected::observation(
                o.clone(),
                Reason::Late,
                detail,
                place,
            ));
            continue;
        };
        let drawn = crc32fast::hash(o.station.as_bytes()).is_multiple_of(config.verify.one_in);
        if drawn && !config.verify.leave_one_out {
            withheld.insert(o.station.clone());
        }
        loaded.push(report(o, cycle, order as u64));
    }
    let sample = temperatures(&NetcdfFile::open(&prior)?, config.prior_until())?;
    if config.inputs.unbias {
        bias::remove(&mut loaded, &decoded.observations, &sample, config);
    }
    let file = NetcdfFile::open(&relief)?;
    let relief = field(&file, "relief")?;
    let dry = relief.values().iter().map(|z| z.max(0.0)).collect();
    let dry = Field::try_new(*relief.grid(), dry)?;
    let land = field(&file, "land")?;
    let grid = config.grid()?;
    let smooth = dry.smoothed(1);
    let heights: Vec<f64> = (0..grid.cells())
        .map(|c| {
            let (row, column) = grid.place(c);
            smooth.at(grid.latitude(row), grid.longitude(column))
        })
        .collect();
    let clock = (config.time_of(0), config.time_of(1) - config.time_of(0));
    let lapse_rate = config.filter.lapse_rate;
    let prior = Prior::try_new(&config.prior, &sample, &grid, &heights, lapse_rate, clock)?;
    Ok(Loaded {
        read,
        observations: decoded.observations,
        reports: loaded,
        rejected,
        withheld,
        relief,
        land: land.smoothed(1),
        heights,
        prior,
        checksum,
    })
}

/// A report as exact integers.
fn report(o: &Observation, cycle: u64, order: u64) -> Report {
    Report {
        cycle,
        station: o.station.clone(),
        order,
        time: o.time.div_euclid(1_000_000_000),
        latitude: Report::encode_degrees(o.latitude),
        longitude: Report::encode_degrees(o.longitude),
        elevation: o.elevation.map(Report::encode_metres),
        value: Report::encode_value(o.value),
    }
}

/// The path of an input: the file that was named, or the embedded one written below `folder`.
fn locate(name: &str, embedded: (&str, &[u8]), folder: &Path) -> Result<PathBuf> {
    if name != "embedded" {
        return data::locate(name);
    }
    let mend = "choose another directory with --out";
    std::fs::create_dir_all(folder).map_err(PipelineError::file("create", folder, mend))?;
    let path = folder.join(embedded.0);
    // several processes may do this at once: each renames a file of its own
    let written = NamedTempFile::new_in(folder).and_then(|mut part| {
        part.write_all(embedded.1)?;
        Ok(part.persist(&path)?)
    });
    written.map_err(PipelineError::file("write", &path, mend))?;
    Ok(path)
}

/// CRC-32 of the bytes of `files`, one after the other.
fn checksum(files: &[&Path]) -> Result<u32> {
    let mut hasher = crc32fast::Hasher::new();
    for path in files {
        let mut read = || {
            let mut file = std::fs::File::open(path)?;
            let mut buffer = vec![0; 1 << 16];
            loop {
                match file.read(&mut buffer)? {
                    0 => return Ok(()),
                    n => hasher.update(&buffer[..n]),
                }
            }
        };
        read().map_err(PipelineError::file(
            "read",
            path,
            "name a file that can be read",
        ))?;
    }
    Ok(hasher.finalize())
}

/// Latitudes and longitudes of a variable's last two dimensions, as a grid from the south-west.
fn grid_of(file: &NetcdfFile, name: &str) -> Result<(Grid, bool)> {
    let variable = file.variable(name)?;
    let wrong = |why: &str| PipelineError::Data {
        name: file.place().to_owned(),
        why: format!("variable `{name}`: {why}"),
        mend: "give a regular latitude-longitude grid in degrees".to_owned(),
    };
    let rank = variable.dimensions.len();
    let [y, x] = variable
        .dimensions
        .get(rank.saturating_sub(2)..)
        .unwrap_or(&[])
    else {
        return Err(wrong("has fewer than two dimensions"));
    };
    let (mut lats, mut lons) = (file.read_all_f64(y)?, file.read_all_f64(x)?);
    let flipped = lats.first() > lats.last();
    if flipped {
        lats.reverse();
    }
    // reports count degrees east from -180
    if lons.first().is_some_and(|&west| west >= 180.0) {
        lons.iter_mut().for_each(|lon| *lon -= 360.0);
    }
    let step = |axis: &[f64]| (axis[axis.len() - 1] - axis[0]) / (axis.len() - 1) as f64;
    if lats.len() < 2 || lons.len() < 2 {
        return Err(wrong("has fewer than 2 x 2 places"));
    }
    let (dy, dx) = (step(&lats), step(&lons));
    let regular = |axis: &[f64], d: f64| {
        axis.windows(2)
            .all(|w| (w[1] - w[0] - d).abs() <= 1e-3 * d.abs())
    };
    // axes stored in single precision are off by their rounding
    if !(regular(&lats, dy) && regular(&lons, dx) && (dy - dx).abs() <= 1e-3 * dy) {
        return Err(wrong(
            "is not on a regular grid with one step in both directions",
        ));
    }
    Ok((
        Grid::try_new(lats[0], lons[0], dy, lats.len(), lons.len())?,
        flipped,
    ))
}

/// A two-dimensional variable.
fn field(file: &NetcdfFile, name: &str) -> Result<Field> {
    let (grid, flipped) = grid_of(file, name)?;
    let mut values = file.read_all_f64(name)?;
    if flipped {
        values = from_south(&values, grid.columns());
    }
    finite(file, name, &values)?;
    Ok(Field::try_new(grid, values)?)
}

fn from_south(values: &[f64], columns: usize) -> Vec<f64> {
    values
        .chunks_exact(columns)
        .rev()
        .flatten()
        .copied()
        .collect()
}

fn finite(file: &NetcdfFile, name: &str, values: &[f64]) -> Result<()> {
    match values.iter().position(|v| !v.is_finite()) {
        None => Ok(()),
        Some(at) => Err(PipelineError::Data {
            name: file.place().to_owned(),
            why: format!("variable `{name}` is missing or not finite at value {at}"),
            mend: "fill missing values first".to_owned(),
        }),
    }
}

/// The temperatures of the prior before `until`, in kelvin.
fn temperatures(file: &NetcdfFile, until: Option<i64>) -> Result<Sample> {
    let name = if file.variable("t2m").is_ok() {
        "t2m"
    } else {
        "air"
    };
    let (grid, flipped) = grid_of(file, name)?;
    let variable = file.variable(name)?;
    let celsius = variable
        .text("units")
        .is_some_and(|u| u.contains("elsius") || u == "degC");
    let times = file.read_times(variable.dimensions.first().map_or("time", String::as_str))?;
    let values = file.read_all_f64(name)?;
    finite(file, name, &values)?;
    let zero = if celsius { 273.15 } else { 0.0 };
    let mut sample = Sample {
        fields: Vec::new(),
        times: Vec::new(),
    };
    let before = |time: &i64| until.is_none_or(|until| *time < until);
    for (one, time) in values.chunks_exact(grid.cells()).zip(times) {
        if before(&time) {
            let one = if flipped {
                from_south(one, grid.columns())
            } else {
                one.to_vec()
            };
            let kelvin = one.into_iter().map(|t| t + zero).collect();
            sample.fields.push(Field::try_new(grid, kelvin)?);
            sample.times.push(time);
        }
    }
    Ok(sample)
}

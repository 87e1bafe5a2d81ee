//! Reading a variable of a netCDF-4 file: chunked and deflated, and contiguous, beside h5py.
//!
//! Both sides open the file, then read the whole variable; the reading is timed. Rounds of both
//! alternate on the same files, which the first, untimed round brings into the page cache.

use std::path::Path;
use std::time::Instant;

use advect_connectors::netcdf::{Length, NetcdfFile, NetcdfWriter, NumberType, Slab, VariableSpec};

use super::{BenchError, Figure, Options, Report, median, peer};

const NAME: &str = "netcdf";
/// Lengths of latitude and longitude: one degree.
const GRID: [usize; 2] = [181, 360];
/// Steps of time in a chunk.
const STEPS: usize = 8;
const UNIT: &str = "MB/s";

/// Measures and gives the figures.
pub(super) fn run(options: &Options, report: &mut Report) -> Result<(), BenchError> {
    let (times, rounds, repeats) = if options.quick {
        (48, 1, 3)
    } else {
        (480, 5, 5)
    };
    let path = std::env::temp_dir().join(format!("advect-netcdf-{}.nc", std::process::id()));
    let figures = measure(&path, times, rounds, repeats, options, report);
    // what stays behind is in the folder of temporary files
    let _ = std::fs::remove_file(&path);
    figures?.into_iter().for_each(|figure| report.give(figure));
    Ok(())
}

fn measure(
    path: &Path,
    times: usize,
    rounds: usize,
    repeats: usize,
    options: &Options,
    report: &Report,
) -> Result<Vec<Figure>, BenchError> {
    write(path, times).map_err(|e| BenchError::failed(NAME, e))?;
    let megabytes = (times * GRID[0] * GRID[1] * size_of::<f32>()) as f64 / 1e6;
    let variables = ["deflated", "contiguous"];
    let (mut ours, mut theirs) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    let (file, count) = (path.display().to_string(), repeats.to_string());
    for round in 0..=rounds {
        for (k, variable) in variables.iter().enumerate() {
            let mut seconds = Vec::new();
            for _ in 0..repeats {
                seconds.push(read(path, variable, times).map_err(|e| BenchError::failed(NAME, e))?);
            }
            let arguments = [file.as_str(), variable, &count];
            let answer = peer("netcdf_h5py", &arguments, options, report).unwrap_or_default();
            if round > 0 {
                ours[k].push(megabytes / median(&seconds));
                theirs[k].extend(answer.first().map(|f| megabytes / f.value));
            }
        }
    }
    let cases = [
        "chunked, deflated and shuffled f32, 2 cores",
        "contiguous f32",
    ];
    let figure = |k: usize| {
        let alone = Figure::new(NAME, cases[k], median(&ours[k]), UNIT);
        if theirs[k].is_empty() {
            return alone;
        }
        let case = format!("{}, beside h5py", cases[k]);
        Figure { case, ..alone }.beside(median(&theirs[k]))
    };
    Ok((0..2).map(figure).collect())
}

/// The seconds that reading a variable takes, its file being open.
fn read(path: &Path, variable: &str, times: usize) -> advect_connectors::Result<f64> {
    let file = NetcdfFile::open(path)?;
    let slab = Slab::new(&[0, 0, 0], &[times, GRID[0], GRID[1]]);
    let begin = Instant::now();
    let values = file.read(variable, &slab)?;
    let seconds = begin.elapsed().as_secs_f64();
    std::hint::black_box(values);
    Ok(seconds)
}

/// A field that compresses like analyses do: smooth in space and time, rounded to 1/64 K.
fn field(time: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_u32 ^ (time as u32) << 8;
    let mut out = Vec::with_capacity(GRID[0] * GRID[1]);
    for y in 0..GRID[0] {
        for x in 0..GRID[1] {
            // xorshift (Marsaglia 2003)
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let noise = (state >> 28) as f32 / 64.0;
            let (lat, lon) = (y as f32 * 0.0175, x as f32 * 0.0175);
            let wave = (3.0 * lon + 0.1 * time as f32).sin() * lat.sin();
            out.push(((250.0 + 40.0 * lat.sin() + 8.0 * wave) * 64.0).round() / 64.0 + noise);
        }
    }
    out
}

fn write(path: &Path, times: usize) -> advect_connectors::Result<()> {
    let mut w = NetcdfWriter::create(path, "fields for a benchmark")?;
    w.dimension("time", Length::Fixed(times))?;
    w.dimension("latitude", Length::Fixed(GRID[0]))?;
    w.dimension("longitude", Length::Fixed(GRID[1]))?;
    let dimensions = ["time", "latitude", "longitude"];
    let plain = |name| VariableSpec::new(name, &dimensions, NumberType::F32).units("K");
    w.variable(plain("contiguous"))?;
    w.variable(
        plain("deflated")
            .deflate(4)
            .chunk(&[STEPS, GRID[0], GRID[1]]),
    )?;
    for first in (0..times).step_by(STEPS) {
        let count = STEPS.min(times - first);
        let slab = Slab::new(&[first, 0, 0], &[count, GRID[0], GRID[1]]);
        let numbers: Vec<f32> = (first..first + count).flat_map(field).collect();
        w.put("contiguous", &slab, numbers.clone())?;
        w.put("deflated", &slab, numbers)?;
    }
    w.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without the reference our side is shown alone, for both storages.
    #[test]
    fn our_side_alone() {
        let options = Options {
            quick: true,
            peers: false,
            ..Options::default()
        };
        let mut report = Report::keeping();
        run(&options, &mut report).expect("runs");
        let figures = report.figures();
        assert_eq!(figures.len(), 2);
        assert!(
            figures
                .iter()
                .all(|f| f.value > 0.0 && f.reference.is_none())
        );
    }
}

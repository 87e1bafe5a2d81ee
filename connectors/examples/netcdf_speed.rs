//! How fast a variable is read past the library and through it, as a ratio in one run.
//!
//! `cargo run --release -p advect-connectors --example netcdf_speed -- FILE VARIABLE`

use std::time::Instant;

use advect_connectors::netcdf::{NetcdfFile, ReadPath, Slab};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(path), Some(name)) = (args.next(), args.next()) else {
        return Err("usage: netcdf_speed FILE VARIABLE".into());
    };
    let mut seconds = [f64::INFINITY; 2];
    let mut bytes = 0.0;
    for _ in 0..3 {
        for (k, by) in [ReadPath::Library, ReadPath::Fastest]
            .into_iter()
            .enumerate()
        {
            let file = NetcdfFile::open(&path)?;
            let variable = file.variable(&name)?;
            let slab = Slab::all(variable);
            let begin = Instant::now();
            let values = file.read_by(&name, &slab, by)?;
            seconds[k] = seconds[k].min(begin.elapsed().as_secs_f64());
            bytes = (values.len() * variable.number_type.size()) as f64;
        }
    }
    let rate = seconds.map(|s| bytes / s / 1e9);
    println!(
        "library {:.2} GB/s, direct {:.2} GB/s: {:.1} times",
        rate[0],
        rate[1],
        rate[1] / rate[0]
    );
    Ok(())
}

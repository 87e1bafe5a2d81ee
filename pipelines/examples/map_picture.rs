//! Draws 2 m temperature over relief into the file named by the first argument.
//!
//! ```text
//! cargo run --release -p advect-pipelines --example map_picture -- map.png
//! ```
//!
//! The field is the first of the prior that the main job carries in `pipelines/data`.

use std::error::Error;
use std::path::Path;

use advect_connectors::netcdf::{NetcdfFile, Slab};
use advect_pipelines::plot::{Grid, Map};

/// The first field of a variable over (latitude, longitude), both ascending.
fn field(file: &NetcdfFile, name: &str) -> Result<Grid, Box<dyn Error>> {
    let variable = file.variable(name)?;
    let first = variable.shape.len() - 2;
    let latitudes = file.read_all_f64(&variable.dimensions[first])?;
    let longitudes = file.read_all_f64(&variable.dimensions[first + 1])?;
    let mut slab = Slab::all(variable);
    for leading in 0..first {
        slab.count[leading] = 1;
    }
    let values = file.read_f32(name, &slab)?;
    let step = |axis: &[f64]| (axis[axis.len() - 1] - axis[0]) / (axis.len() - 1) as f64;
    Ok(Grid::try_new(
        (latitudes[0], longitudes[0]),
        (step(&latitudes), step(&longitudes)),
        (latitudes.len(), longitudes.len()),
        values,
    )?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let out = std::env::args().nth(1).unwrap_or_else(|| "map.png".into());
    let prior = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/prior_north_america.nc");
    let file = NetcdfFile::open(prior)?;
    let title = "2 m temperature over North America";
    let mut map = Map::new(title, "2 m temperature (°C)", field(&file, "t2m")?);
    map.subtitle = "ERA5, 2026-03-25 00 UTC; relief ETOPO20".to_owned();
    map.contour = Some(10.0);
    map.relief = Some(field(&file, "relief")?);
    map.land = Some(field(&file, "land")?);
    map.draw().save(Path::new(&out))?;
    println!("{out}");
    Ok(())
}

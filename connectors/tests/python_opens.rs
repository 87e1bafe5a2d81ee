//! Files written here open in Python: netCDF4, h5py and, where installed, xarray.
//!
//! Skipped with a message where there is no `python3` with netCDF4.

use std::process::Command;

use advect_connectors::netcdf::{Length, NetcdfWriter, NumberType, Slab, VariableSpec};

const CHECK: &str = r#"
import sys
try:
    import netCDF4, h5py, numpy as np
except ImportError as e:
    print("skipped:", e); sys.exit(0)
d = netCDF4.Dataset(sys.argv[1])
assert d.Conventions == "CF-1.10", d.Conventions
assert d.data_model == "NETCDF4"
assert list(d.dimensions) == ["time", "latitude", "member"], list(d.dimensions)
assert d.dimensions["time"].isunlimited() and len(d.dimensions["time"]) == 3
assert list(d.variables) == ["time", "latitude", "t", "count"], list(d.variables)
t = d["t"]
assert t.dimensions == ("time", "latitude", "member"), t.dimensions
assert t.units == "K" and t.standard_name == "air_temperature" and t.long_name == "Wärme"
assert t.filters()["zlib"] and t.filters()["shuffle"]
assert np.isnan(t._FillValue)
assert np.ma.getdata(t[1]).tolist() == [[6., 7.], [8., 9.], [10., 11.]]
assert d["count"].dimensions == () and int(d["count"][...]) == 7
times = netCDF4.num2date(d["time"][:], d["time"].units)
assert [str(x) for x in times] == ["2013-01-01 00:00:00", "2013-01-01 06:00:00", "2013-01-01 12:00:00"]
d.close()
h = h5py.File(sys.argv[1])
assert [x[0].name for x in map(lambda dim: dim.values(), h["t"].dims)] == ["/time", "/latitude", "/member"]
assert len(h["time"].attrs["REFERENCE_LIST"]) == 1
h.close()
netCDF4.Dataset(sys.argv[1], "a").close()
try:
    import xarray
except ImportError:
    print("opened; xarray is not installed"); sys.exit(0)
for engine in ["netcdf4", "h5netcdf"]:
    try:
        x = xarray.open_dataset(sys.argv[1], engine=engine)
    except ValueError as e:
        print("skipped engine", e); continue
    assert dict(x.sizes) == {"time": 3, "latitude": 3, "member": 2}, x.sizes
    assert str(x.time.values[2]) == "2013-01-01T12:00:00.000000000"
    assert float(x.t.sel(latitude=30.0).isel(time=2, member=1)) == 17.0
print("opened")
"#;

/// Python sees the dimensions, attributes and numbers that were written.
#[test]
fn python_opens_what_is_written() -> Result<(), Box<dyn std::error::Error>> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("written.nc");
    let mut w = NetcdfWriter::create(&path, "a file for Python")?;
    w.dimension("time", Length::Unlimited)?;
    w.dimension("latitude", Length::Fixed(3))?;
    w.dimension("member", Length::Fixed(2))?;
    let time = VariableSpec::new("time", &["time"], NumberType::I64)
        .units("hours since 2013-01-01 00:00:00")
        .standard_name("time")
        .attribute("calendar", "proleptic_gregorian");
    w.variable(time)?;
    let latitude = VariableSpec::new("latitude", &["latitude"], NumberType::F64);
    w.variable(latitude.units("degrees_north").standard_name("latitude"))?;
    let t = VariableSpec::new("t", &["time", "latitude", "member"], NumberType::F32);
    w.variable(
        t.units("K")
            .standard_name("air_temperature")
            .long_name("Wärme")
            .fill(f64::NAN)
            .deflate(4),
    )?;
    w.variable(VariableSpec::new("count", &[], NumberType::I32))?;
    w.put("latitude", &Slab::new(&[0], &[3]), vec![10.0, 20.0, 30.0])?;
    w.put("count", &Slab::new(&[], &[]), vec![7_i32])?;
    for k in 0..3_usize {
        w.put("time", &Slab::new(&[k], &[1]), vec![6 * k as i64])?;
        let t: Vec<f32> = (0..6).map(|i| (6 * k + i) as f32).collect();
        w.put("t", &Slab::new(&[k, 0, 0], &[1, 3, 2]), t)?;
    }
    w.finish()?;
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let Ok(done) = Command::new(python)
        .arg("-c")
        .arg(CHECK)
        .arg(&path)
        .output()
    else {
        eprintln!("skipped: no python3");
        return Ok(());
    };
    let (out, err) = (
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(done.status.success(), "{out}{err}");
    eprintln!("{}", out.trim());
    Ok(())
}

//! Files read with the HDF5 library in a child process give the same as with it in this one.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, too, fail by panicking"
)]

use advect_connectors::netcdf::{
    Attribute, Length, NetcdfFile, NetcdfWriter, NumberType, ReadPath, Slab, VariableSpec, isolate,
};

/// Starts children of this test at [`child`].
fn apart() {
    isolate(&["child", "--exact", "--nocapture"]).unwrap();
}

/// In a child process: serves the parent. Elsewhere it does nothing.
#[test]
fn child() {
    apart();
}

/// Attributes (also NaN), shapes and numbers come through, also a box of several pieces.
#[test]
fn what_is_written_is_read_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.nc");
    // 3 × 4,000 × 2,000 numbers of 4 bytes are 96 MB, more than one answer carries
    let (n, rows, columns) = (3, 4_000, 2_000);
    let mut w = NetcdfWriter::create(&path, "a file to be read by a child").unwrap();
    w.dimension("time", Length::Unlimited).unwrap();
    w.dimension("y", Length::Fixed(rows)).unwrap();
    w.dimension("x", Length::Fixed(columns)).unwrap();
    let t = VariableSpec::new("t", &["time", "y", "x"], NumberType::F32);
    w.variable(t.units("K").fill(f64::NAN).chunk(&[1, 1000, 2000]))
        .unwrap();
    w.variable(VariableSpec::new("count", &[], NumberType::I32))
        .unwrap();
    w.put("count", &Slab::new(&[], &[]), vec![7_i32]).unwrap();
    let number = |i: usize| (i % 65_537) as f32;
    for k in 0..n {
        let one: Vec<f32> = (0..rows * columns).map(|i| number(k + i)).collect();
        w.put("t", &Slab::new(&[k, 0, 0], &[1, rows, columns]), one)
            .unwrap();
    }
    w.finish().unwrap();
    apart();
    let f = NetcdfFile::open(&path).unwrap();
    assert_eq!(f.dimensions()["time"], n);
    let t = f.variable("t").unwrap();
    assert_eq!(t.text("units"), Some("K"));
    assert!(matches!(&t.attributes["_FillValue"], Attribute::Reals(v) if v[0].is_nan()));
    assert_eq!(f.read_all_f64("count").unwrap(), [7.0]);
    for by in [ReadPath::Library, ReadPath::Fastest] {
        let got = f.read_by("t", &Slab::all(t), by).unwrap().into_f32();
        let wanted = (0..n).flat_map(|k| (0..rows * columns).map(move |i| number(k + i)));
        assert!(got.into_iter().eq(wanted), "{by:?}");
    }
    std::fs::write(&path, b"no such format").unwrap();
    let unknown = NetcdfFile::open(&path).unwrap_err().to_string();
    assert!(unknown.contains("netCDF or HDF5"), "{unknown}");
}

//! Reading is the inverse of writing, both paths agree, and damage is an error.

use super::*;
use proptest::prelude::*;
use std::path::{Path, PathBuf};

fn data(name: &str) -> Option<PathBuf> {
    let root = std::env::var_os("ADVECT_DATA");
    if root.is_none() {
        eprintln!("skipped: ADVECT_DATA is not set");
    }
    Some(Path::new(&root?).join("weather").join(name))
}

fn field(n: usize) -> Vec<f32> {
    (0..n)
        .map(|i| 273.0 + ((i * 37) % 101) as f32 * 0.25)
        .collect()
}

/// Writes `t(time, y, x)` of shape 5×7×11 with this storage, plus coordinates.
fn write(path: &Path, deflate: Option<u8>, chunk: Option<[usize; 3]>) {
    let mut w = NetcdfWriter::create(path, "test").unwrap();
    w.attribute("history", "written by a test").unwrap();
    w.dimension("time", Length::Unlimited).unwrap();
    w.dimension("y", Length::Fixed(7)).unwrap();
    w.dimension("x", Length::Fixed(11)).unwrap();
    let time = VariableSpec::new("time", &["time"], NumberType::I64);
    w.variable(
        time.units("hours since 2013-01-01 00:00:00")
            .standard_name("time"),
    )
    .unwrap();
    w.variable(VariableSpec::new("y", &["y"], NumberType::F64).units("degrees_north"))
        .unwrap();
    let dims = if chunk.is_some() {
        ["time", "y", "x"]
    } else {
        ["five", "y", "x"]
    };
    if chunk.is_none() {
        w.dimension("five", Length::Fixed(5)).unwrap();
    }
    let mut t = VariableSpec::new("t", &dims, NumberType::F32);
    t = t
        .units("K")
        .standard_name("air_temperature")
        .long_name("Temperatur ü")
        .fill(f64::NAN);
    if let Some(level) = deflate {
        t = t.deflate(level);
    }
    if let Some(chunk) = chunk {
        t = t.chunk(&chunk);
    }
    w.variable(t).unwrap();
    w.variable(
        VariableSpec::new("packed", &["x"], NumberType::I16)
            .attribute("scale_factor", 0.5)
            .attribute("add_offset", 100.0)
            .fill(-999.0),
    )
    .unwrap();
    w.put(
        "y",
        &Slab::new(&[0], &[7]),
        (0..7).map(f64::from).collect::<Vec<f64>>(),
    )
    .unwrap();
    w.put(
        "packed",
        &Slab::new(&[1], &[10]),
        (0..10).collect::<Vec<i16>>(),
    )
    .unwrap();
    let t = field(5 * 77);
    for k in 0..5 {
        w.put("time", &Slab::new(&[k], &[1]), vec![6 * k as i64])
            .unwrap();
        w.put(
            "t",
            &Slab::new(&[k, 0, 0], &[1, 7, 11]),
            t[k * 77..][..77].to_vec(),
        )
        .unwrap();
    }
    w.finish().unwrap();
}

/// Names, attributes, coordinates, packing and times survive a file.
#[test]
fn round_trip_of_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.nc");
    write(&path, Some(4), Some([2, 3, 4]));
    let f = NetcdfFile::open(&path).unwrap();
    assert_eq!(f.attributes()["Conventions"], "CF-1.10".into());
    let t = f.variable("t").unwrap();
    assert_eq!(
        (&t.dimensions[..], &t.shape[..]),
        (&["time", "y", "x"].map(String::from)[..], &[5, 7, 11][..])
    );
    assert_eq!(t.text("units"), Some("K"));
    assert_eq!(t.text("long_name"), Some("Temperatur ü"));
    assert!(t.attributes["_FillValue"].number().unwrap().is_nan());
    assert_eq!(
        f.dimensions()["x"],
        11,
        "a dimension without variable has its length"
    );
    assert!(f.variable("x").is_err(), "and is no variable");
    let midnight = crate::time::parse_iso("2013-01-01").unwrap();
    let times = f.read_times("time").unwrap();
    assert_eq!(
        times,
        [0, 6, 12, 18, 24].map(|h| midnight + h * crate::time::HOUR)
    );
    let packed = f.read_all_f64("packed").unwrap();
    assert!(packed[0].is_nan(), "never written");
    assert_eq!(
        packed[1..],
        (0..10)
            .map(|i| 100.0 + 0.5 * f64::from(i))
            .collect::<Vec<_>>()
    );
    let unknown = f.variable("T").unwrap_err().to_string();
    assert!(
        unknown.contains("`T`") && unknown.contains("packed"),
        "{unknown}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]
    /// Any box of any storage is the same by both paths and equals the box of the array.
    #[test]
    fn paths_agree(
        storage in 0..5_usize,
        chunk in (1..4_usize, 1..8_usize, 1..12_usize),
        a in (0..5_usize, 0..7_usize, 0..11_usize),
        b in (0..6_usize, 0..8_usize, 0..12_usize),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.nc");
        let chunk = [chunk.0, chunk.1, chunk.2];
        write(&path, [None, None, Some(1), Some(6), Some(9)][storage], (storage > 0).then_some(chunk));
        let start = [a.0, a.1, a.2];
        let count = [b.0.min(5 - a.0), b.1.min(7 - a.1), b.2.min(11 - a.2)];
        let slab = Slab::new(&start, &count);
        let f = NetcdfFile::open(&path).unwrap();
        let fast = f.read("t", &slab).unwrap();
        prop_assert_eq!(&fast, &f.read("t", &slab).unwrap(), "again, from the kept chunk");
        prop_assert_eq!(&fast, &f.read_by("t", &slab, ReadPath::Library).unwrap());
        let all = field(5 * 77);
        let mut want = Vec::new();
        for i in 0..count[0] { for j in 0..count[1] { for k in 0..count[2] {
            want.push(all[(start[0] + i) * 77 + (start[1] + j) * 11 + start[2] + k]);
        }}}
        prop_assert_eq!(fast, Values::F32(want));
    }

    /// A truncated file is an error or gives the numbers that were written.
    #[test]
    fn truncation_is_an_error(cut in 0.0..1.0_f64) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.nc");
        write(&path, Some(1), Some([1, 7, 11]));
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..(cut * bytes.len() as f64) as usize]).unwrap();
        if let Ok(f) = NetcdfFile::open(&path)
            && let Ok(t) = f.variable("t")
            && let Ok(values) = f.read("t", &Slab::all(t))
        {
            prop_assert_eq!(values, Values::F32(field(5 * 77)));
        }
    }

    /// A classic file with any bytes changed gives numbers or an error, without a panic.
    #[test]
    fn classic_damage_is_an_error(
        at in prop::collection::vec((0..400_usize, any::<u8>()), 0..6), cut in 0..800_usize
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.cdf");
        let mut bytes = classic();
        for (i, b) in at {
            let n = bytes.len();
            bytes[i % n] = b;
        }
        bytes.truncate(cut);
        std::fs::write(&path, bytes).unwrap();
        if let Ok(f) = NetcdfFile::open(&path) {
            for (name, v) in f.variables() {
                let _ = f.read(name, &Slab::all(v));
                let _ = f.read_times(name);
            }
        }
    }
}

/// A CDF-1 file: fixed `v(y=2, x=3)` f64, records `r(time=2)` i16 and `s(time=2, x=3)` f32.
fn classic() -> Vec<u8> {
    fn name(out: &mut Vec<u8>, s: &str) {
        word(out, s.len() as u32);
        out.extend(s.as_bytes());
        out.resize(out.len().next_multiple_of(4), 0);
    }
    fn word(out: &mut Vec<u8>, x: u32) {
        out.extend(x.to_be_bytes());
    }
    let header = |begin: [u32; 3]| {
        let mut o = b"CDF\x01".to_vec();
        [2, 10, 3].into_iter().for_each(|x| word(&mut o, x));
        for (dim, n) in [("time", 0), ("y", 2), ("x", 3)] {
            name(&mut o, dim);
            word(&mut o, n);
        }
        [12, 1].into_iter().for_each(|x| word(&mut o, x));
        name(&mut o, "title");
        word(&mut o, 2);
        name(&mut o, "classic");
        [11, 3].into_iter().for_each(|x| word(&mut o, x));
        let vars = [
            ("v", &[1, 2][..], 6, 48),
            ("r", &[0], 3, 4),
            ("s", &[0, 2], 5, 12),
        ];
        for ((var, dims, kind, size), begin) in vars.into_iter().zip(begin) {
            name(&mut o, var);
            word(&mut o, dims.len() as u32);
            dims.iter().for_each(|&d| word(&mut o, d));
            [0, 0, kind, size, begin]
                .into_iter()
                .for_each(|x| word(&mut o, x));
        }
        o
    };
    let n = header([0; 3]).len() as u32;
    let mut o = header([n, n + 48, n + 52]);
    (0..6).for_each(|i| o.extend(f64::from(i).to_be_bytes()));
    for record in 0..2_i16 {
        o.extend((10 + record).to_be_bytes());
        o.extend([0, 0]);
        (0..3).for_each(|i| o.extend((f32::from(record) + i as f32 / 4.0).to_be_bytes()));
    }
    o
}

/// Fixed and interleaved record variables of the classic format come out right.
#[test]
fn classic_records_are_strided() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.cdf");
    std::fs::write(&path, classic()).unwrap();
    let f = NetcdfFile::open(&path).unwrap();
    assert_eq!(f.attributes()["title"], "classic".into());
    assert_eq!(f.read_all_f64("v").unwrap(), [0., 1., 2., 3., 4., 5.]);
    assert_eq!(
        f.read("v", &Slab::new(&[0, 1], &[2, 2]))
            .unwrap()
            .into_f64(),
        [1., 2., 4., 5.]
    );
    let r = f.variable("r").unwrap();
    assert_eq!(
        f.read("r", &Slab::all(r)).unwrap(),
        Values::I16(vec![10, 11])
    );
    let s = f.read("s", &Slab::new(&[0, 1], &[2, 2])).unwrap();
    assert_eq!(s, Values::F32(vec![0.25, 0.5, 1.25, 1.5]));
}

/// Numbers of damaged chunks never come out: inflation fails in words.
#[test]
fn damaged_chunk_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.nc");
    write(&path, Some(9), Some([1, 7, 11]));
    let mut bytes = std::fs::read(&path).unwrap();
    // zlib streams of level 9 begin with 78 da; break each one behind its head.
    let heads: Vec<usize> = bytes
        .windows(2)
        .enumerate()
        .filter(|(_, w)| w == &[0x78, 0xda])
        .map(|x| x.0)
        .collect();
    assert!(heads.len() >= 5);
    heads.iter().for_each(|&h| bytes[h + 2..h + 12].fill(0xff));
    std::fs::write(&path, bytes).unwrap();
    let f = NetcdfFile::open(&path).unwrap();
    let error = f
        .read("t", &Slab::all(f.variable("t").unwrap()))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`t`") && error.contains("inflate"),
        "{error}"
    );
}

/// A box outside the array, or above the limit, is refused with both shapes.
#[test]
fn boxes_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.nc");
    write(&path, None, None);
    let f = NetcdfFile::open(&path).unwrap();
    let error = f
        .read("t", &Slab::new(&[0, 0, 5], &[1, 1, usize::MAX]))
        .unwrap_err();
    assert!(error.to_string().contains("[5, 7, 11]"), "{error}");
    let f = f.with_limit(100);
    let error = f
        .read("t", &Slab::all(f.variable("t").unwrap()))
        .unwrap_err();
    assert!(error.to_string().contains("1540"), "{error}");
}

/// The real files of the project are read, and both paths agree on them.
#[test]
fn real_files() {
    for (file, variable, shape) in [
        ("era5_week_2026-03.nc", "t2m", vec![24, 181, 360]),
        ("ncep_air_na_2013_2014.nc", "air", vec![2920, 25, 53]),
        ("static/etopo20.cdf", "ROSE", vec![540, 1081]),
        ("static/landmask_0.25_0.25.nc", "land", vec![721, 1440]),
        ("static/orography_T682.nc", "orog", vec![1024, 2048]),
    ] {
        let Some(path) = data(file) else { return };
        let f = NetcdfFile::open(path).unwrap();
        let v = f.variable(variable).unwrap();
        assert_eq!(v.shape, shape);
        assert!(
            v.dimensions.iter().all(|d| f.dimensions().contains_key(d)),
            "{v:?}"
        );
        let fast = f.read(variable, &Slab::all(v)).unwrap();
        let slow = f
            .read_by(variable, &Slab::all(v), ReadPath::Library)
            .unwrap();
        assert!(bits(&fast) == bits(&slow), "{file}");
        assert!(
            fast.into_f64().iter().any(|x| x.is_finite() && *x != 0.0),
            "{file}"
        );
    }
    let Some(path) = data("ncep_air_na_2013_2014.nc") else {
        return;
    };
    let f = NetcdfFile::open(path).unwrap();
    let times = f.read_times("time").unwrap();
    assert_eq!(times[0], crate::time::parse_iso("2013-01-01").unwrap());
    assert_eq!(times[1] - times[0], 6 * crate::time::HOUR);
}

fn bits(values: &Values) -> Vec<u64> {
    values
        .clone()
        .into_f64()
        .into_iter()
        .map(f64::to_bits)
        .collect()
}

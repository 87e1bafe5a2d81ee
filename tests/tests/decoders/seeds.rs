//! Small whole files of every format.

use std::path::Path;
use std::sync::Arc;

use advect_connectors::ipc::write_ipc_stream;
use advect_connectors::netcdf::{Length, NetcdfWriter, NumberType, Slab, VariableSpec};
use advect_connectors::parquet::ParquetSink;
use advect_connectors::{Observation, observation_schema, to_batch};
use arrow_array::{ArrayRef, Float32Array, RecordBatch, StringArray};

/// Observations of eleven stations.
pub(crate) fn observations(n: usize) -> Vec<Observation> {
    let one = |k: usize| Observation {
        time: 1_700_000_000_000_000_000 + k as i64 * 600_000_000_000,
        latitude: -60.0 + k as f64,
        longitude: 3.5 * k as f64 - 120.0,
        elevation: (!k.is_multiple_of(3)).then_some(12.5 * k as f64),
        variable: "air_temperature".into(),
        value: 270.0 + 0.25 * k as f64,
        error: (k.is_multiple_of(2)).then_some(0.5),
        station: format!("S{:03}", k % 11),
        source: "seed".into(),
    };
    (0..n).map(one).collect()
}

/// An alignment of `n` rows with gaps, insertions, and rows of two lines.
pub(crate) fn alignment(n: usize) -> Vec<u8> {
    let row = |k: usize| match k % 4 {
        _ if k == 0 => ">query\nMKVLACDEFGHI\nKLMN\n".to_owned(),
        1 => format!(">row {k}\n-KVlaLACD--GHI\nKLMN\n"),
        2 => format!(">row {k}\r\nMKV.LACDEXGHIKLM-\r\n"),
        _ => format!(">row {k}\nMRVLSCDEFGHIKLMNqq\n"),
    };
    (0..n).map(row).collect::<String>().into_bytes()
}

/// A structure of `n` residues in two chains, with other atoms, alternative positions, a modified residue and a second
/// model.
pub(crate) fn structure(n: usize) -> Vec<u8> {
    let atom = |k: usize, name: &str, alternative: char| {
        let (kind, residue) = match k % 5 {
            3 => ("HETATM", "MSE"),
            at => ("ATOM  ", ["ALA", "LEU", "UNK", "", "TRP"][at]),
        };
        let chain = if 2 * k < n { 'A' } else { 'B' };
        let x = 1.5 * k as f64 - 20.0;
        format!(
            "{kind}{k:>5} {name}{alternative}{residue} {chain}{k:>4}    {x:>8.3}{:>8.3}{:>8.3}  1.00  0.00\n",
            -x, 0.25
        )
    };
    let residue = |k: usize| match k % 3 {
        0 => atom(k, " N  ", ' ') + &atom(k, " CA ", ' '),
        1 => atom(k, " CA ", 'A') + &atom(k, " CA ", 'B'),
        _ => atom(k, " CA ", ' ') + "TER\n",
    };
    let model: String = (0..n).map(residue).collect();
    format!("HEADER    SEED\n{model}ENDMDL\n{model}END\n").into_bytes()
}

/// A batch of `n` observations.
pub(crate) fn batch(n: usize) -> RecordBatch {
    to_batch(&observations(n)).unwrap()
}

/// A batch as the bytes of a Parquet file.
pub(crate) fn parquet(path: &Path, batch: &RecordBatch) -> Vec<u8> {
    let mut sink = ParquetSink::create(path, batch.schema()).unwrap();
    sink.write(batch).unwrap();
    sink.finish().unwrap();
    std::fs::read(path).unwrap()
}

/// Newline-delimited JSON.
pub(crate) fn lines(n: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for o in observations(n) {
        serde_json::to_writer(&mut text, &o).unwrap();
        text.push(b'\n');
    }
    text
}

/// An Arrow stream of two batches.
pub(crate) fn stream(n: usize) -> Vec<u8> {
    let (mut bytes, batch) = (Vec::new(), batch(n));
    write_ipc_stream(&mut bytes, "seed", &observation_schema(), [&batch, &batch]).unwrap();
    bytes
}

/// A CSV table.
pub(crate) fn table(n: usize) -> Vec<u8> {
    let mut text = "time,latitude,longitude,elevation,variable,value,error,station\n".to_string();
    for (k, o) in observations(n).iter().enumerate() {
        let clock = format!("2024-03-{:02}T{:02}:00:00Z", 1 + k % 28, k % 24);
        let (lat, lon, x) = (o.latitude, o.longitude, o.value);
        text += &format!(
            "{clock},{lat},{lon},{k},\"air_temperature\",{x},,{}\r\n",
            o.station
        );
    }
    text.into_bytes()
}

/// A table of station reports as the archives have it.
pub(crate) fn reports(time: (&str, ArrayRef), value: &str, n: usize) -> RecordBatch {
    let number = |scale: f32, first: f32| -> ArrayRef {
        let one = |k: usize| (k % 7 != 6).then_some(first + scale * k as f32);
        Arc::new((0..n).map(one).collect::<Float32Array>())
    };
    let station: StringArray = (0..n).map(|k| Some(format!("K{k:03}"))).collect();
    let columns = [
        ("station", Arc::new(station) as ArrayRef, true),
        ("latitude", number(0.5, 24.0), true),
        ("longitude", number(-0.75, -70.0), true),
        ("elevation", number(10.0, 0.0), true),
        (time.0, time.1, true),
        (value, number(0.25, 2.0), true),
    ];
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// netCDF-4 files: contiguous, in chunks, and in deflated chunks.
pub(crate) fn netcdf4() -> [Vec<u8>; 3] {
    let dir = tempfile::tempdir().unwrap();
    [None, Some(0), Some(5)].map(|deflate| {
        let path = dir.path().join("seed.nc");
        let mut w = NetcdfWriter::create(&path, "seed").unwrap();
        let time = if deflate.is_some() {
            Length::Unlimited
        } else {
            Length::Fixed(4)
        };
        w.dimension("time", time).unwrap();
        w.dimension("x", Length::Fixed(30)).unwrap();
        let time = VariableSpec::new("time", &["time"], NumberType::I64);
        w.variable(time.units("hours since 2013-01-01 00:00:00"))
            .unwrap();
        let mut t = VariableSpec::new("t", &["time", "x"], NumberType::F32).units("K");
        t = t.fill(f64::NAN);
        if let Some(level) = deflate {
            t = t.chunk(&[2, 10]);
            t = if level > 0 { t.deflate(level) } else { t };
        }
        w.variable(t).unwrap();
        w.put("time", &Slab::new(&[0], &[4]), vec![0_i64, 6, 12, 18])
            .unwrap();
        let numbers: Vec<f32> = (0..120).map(|k| 270.0 + 0.5 * k as f32).collect();
        w.put("t", &Slab::new(&[0, 0], &[4, 30]), numbers).unwrap();
        w.finish().unwrap();
        std::fs::read(&path).unwrap()
    })
}

/// A classic file of two variables, written by hand after its specification.
pub(crate) fn classic(records: bool) -> Vec<u8> {
    let word = |n: u32| n.to_be_bytes();
    let name = |text: &str| {
        let mut bytes = word(text.len() as u32).to_vec();
        bytes.extend(text.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    };
    let units = [
        &word(12)[..],
        &word(1),
        &name("units"),
        &word(2),
        &name("hours since 2013-01-01"),
    ]
    .concat();
    let header = |begin: [u32; 2]| {
        let n = if records { 0 } else { 5 };
        let dims = [
            &word(10)[..],
            &word(2),
            &name("time"),
            &word(n),
            &name("x"),
            &word(6),
        ]
        .concat();
        let time = [
            &name("time")[..],
            &word(1),
            &word(0),
            &units,
            &word(6),
            &word(8),
            &word(begin[0]),
        ];
        let t = [
            &name("t")[..],
            &word(2),
            &word(0),
            &word(1),
            &units,
            &word(5),
            &word(24),
            &word(begin[1]),
        ];
        [
            b"CDF\x01",
            &word(5)[..],
            &dims,
            &word(0),
            &word(0),
            &word(11),
            &word(2),
            &time.concat(),
            &t.concat(),
        ]
        .concat()
    };
    let first = header([0, 0]).len() as u32;
    let second = first + if records { 8 } else { 40 };
    let mut bytes = header([first, second]);
    bytes.extend((0..160_u8).flat_map(|k| [0x43, 0x80, k, 0]).take(5 * 32));
    bytes
}

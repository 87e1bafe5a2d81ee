//! Every record of a CSV table comes out, as an observation or rejected.

use super::*;
use proptest::prelude::*;

const HEADER: &str = "time,latitude,longitude,elevation,variable,value,error,station\n";

fn rows(text: &[u8]) -> Vec<Row> {
    CsvRows::new(text, "t.csv", CsvLayout::canonical())
        .unwrap()
        .map(|r| r.unwrap())
        .collect()
}

/// Each kind of bad row has its reason and its line; the good rows around it survive.
#[test]
fn bad_rows_are_rejected_with_reason() {
    let text = format!(
        "{HEADER}\
         2024-01-01T00:00:00Z,10,20,,air_temperature,280.5,0.5,A\r\n\
         2024-01-01T00:00:00Z,,20,,air_temperature,280.5,,A\n\
         2024-01-01T00:00:00Z,95,20,,air_temperature,280.5,,A\n\
         2024-01-01T00:00:00Z,10,20,,air_temperature,,,A\n\
         yesterday,10,20,,air_temperature,280.5,,A\n\
         a,b\n\
         2024-01-01T00:00:00Z,10,20,7,air_temperature,1,,\"B \"\"x\"\",\ny\"\n\
         2024-01-01T00:00:00Z,10,20,7,air_temperature,1,,\"open\n"
    );
    let got = rows(text.as_bytes());
    let reasons: Vec<_> = got
        .iter()
        .map(|r| r.as_ref().map_or_else(|r| Some(r.reason), |_| None))
        .collect();
    use Reason::*;
    let want = [
        None,
        Some(Position),
        Some(Position),
        Some(MissingValue),
        Some(Malformed),
        Some(Schema),
        None,
        Some(Malformed),
    ];
    assert_eq!(reasons, want);
    assert_eq!(got[5].as_ref().unwrap_err().place, "t.csv:7");
    assert_eq!(got[6].as_ref().unwrap().station, "B \"x\",\ny");
    assert_eq!(got[7].as_ref().unwrap_err().place, "t.csv:10");
}

/// A record beyond the limit is rejected without being held, and the next one is read.
#[test]
fn oversized_records_are_skipped() {
    let mut text = HEADER.as_bytes().to_vec();
    text.extend(std::iter::repeat_n(b'x', 1 << 20));
    text.extend(b"\n2024-01-01,1,2,,v,3,,S\n");
    let got = rows(&text);
    assert_eq!(got.len(), 2);
    assert!(got[0].as_ref().unwrap_err().detail.contains("longer"));
    assert!(got[1].is_ok());
}

/// A header without a declared column is an error that names it.
#[test]
fn header_is_checked() {
    let error = CsvRows::new(&b"time,lat\n"[..], "t.csv", CsvLayout::canonical()).unwrap_err();
    assert!(error.to_string().contains("`latitude`"), "{error}");
}

/// The real table of one hour is accounted for to the row.
#[test]
fn metar_hour_adds_up() {
    let Some(data) = std::env::var_os("ADVECT_DATA") else {
        eprintln!("skipped: ADVECT_DATA is not set");
        return;
    };
    let path = Path::new(&data).join("weather/ingest/2020100106_metars.csv");
    let (mut good, mut bad) = (0, 0);
    for row in open_csv(path, CsvLayout::metar_temperature()).unwrap() {
        match row.unwrap() {
            Ok(o) => {
                assert!((180.0..340.0).contains(&o.value), "{o:?}");
                good += 1;
            }
            Err(_) => bad += 1,
        }
    }
    assert_eq!(good + bad, 8361);
    assert!(good > 7000, "{good}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    /// Mutated tables lose no line: rows out = lines in, as long as no quote joins lines.
    #[test]
    fn nothing_is_lost(at in prop::collection::vec((0.0..1.0_f64, any::<u8>()), 0..8)) {
        let mut body = "2024-01-01T00:00:00Z,10,20,5,air_temperature,280.5,0.5,ABC\n".repeat(8).into_bytes();
        for (x, b) in at {
            if !matches!(b, b'"' | b'\n') {
                let i = (x * body.len() as f64) as usize;
                body[i] = b;
            }
        }
        let lines = body.split(|&b| b == b'\n').filter(|l| !matches!(l, [] | [b'\r'])).count();
        let text = [HEADER.as_bytes(), &body].concat();
        prop_assert_eq!(rows(&text).len(), lines);
    }
}

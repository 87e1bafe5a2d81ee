//! Files of observations in any of the table formats, told apart by the end of their names.

use std::path::Path;

use arrow_array::RecordBatch;

use crate::csv::{CsvLayout, open_csv};
use crate::decoded::file_name;
use crate::error::{ConnectorError, Result};
use crate::ipc::read_ipc;
use crate::live::Delivery;
use crate::ndjson::read_ndjson;
use crate::parquet::ParquetSource;
use crate::schema::{from_batch, to_batch};

/// Reads a file of observations in any format known here, told by the end of its name:
/// `.parquet`, `.arrow`, `.arrows`, `.ipc`, `.csv`, `.ndjson`, `.jsonl`.
///
/// Errors if the file is damaged or of an unknown kind; what came before was handed out.
/// `each` returns `false` to stop early.
pub fn decode_file(path: &Path, rows: usize, each: &mut dyn FnMut(Delivery) -> bool) -> Result<()> {
    let origin = file_name(path);
    let mut first = 0;
    let mut deliver = |batch: &RecordBatch| -> Result<bool> {
        let (good, rejected) = from_batch(batch, &origin, first)?;
        first += batch.num_rows() as u64;
        let batch = to_batch(&good)?;
        Ok(each(Delivery {
            origin: origin.clone(),
            batch,
            rejected,
            finished: false,
        }))
    };
    match path.extension().and_then(|e| e.to_str()).unwrap_or("") {
        "parquet" => {
            for batch in ParquetSource::open(path)?.batch_rows(rows).read()? {
                if !deliver(&batch?)? {
                    break;
                }
            }
            Ok(())
        }
        "arrow" | "arrows" | "ipc" => {
            let mut state = Ok(true);
            read_ipc(path, |batch| {
                let step = rows.max(1);
                for at in (0..batch.num_rows()).step_by(step) {
                    if matches!(state, Ok(true)) {
                        state = deliver(&batch.slice(at, step.min(batch.num_rows() - at)));
                    }
                }
            })?;
            state.map(drop)
        }
        "csv" => read_csv(path, rows, each),
        "ndjson" | "jsonl" => read_ndjson(path, rows, 1 << 16, each),
        other => {
            let want = "parquet, arrow, arrows, ipc, csv, ndjson or jsonl";
            Err(ConnectorError::invalid(
                path.display().to_string(),
                "kind of file",
                other,
                want,
            ))
        }
    }
}

fn read_csv(path: &Path, rows: usize, each: &mut dyn FnMut(Delivery) -> bool) -> Result<()> {
    let origin = file_name(path);
    let (mut good, mut rejected) = (Vec::new(), Vec::new());
    let mut table = open_csv(path, CsvLayout::canonical())?.peekable();
    while let Some(row) = table.next() {
        match row? {
            Ok(observation) => good.push(observation),
            Err(bad) => rejected.push(*bad),
        }
        if good.len() + rejected.len() >= rows.max(1) || table.peek().is_none() {
            let (batch, rejected) = (to_batch(&good)?, std::mem::take(&mut rejected));
            good.clear();
            if !each(Delivery {
                origin: origin.clone(),
                batch,
                rejected,
                finished: false,
            }) {
                break;
            }
        }
    }
    Ok(())
}

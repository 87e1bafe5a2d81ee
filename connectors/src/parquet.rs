//! Parquet files as a stream of record batches, and back.
//!
//! Columns and row groups are selected before a byte of data is read. Reading is lazy: one batch
//! is in memory at a time.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use arrow_array::RecordBatch;
use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader,
    ParquetRecordBatchReaderBuilder,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::error::{ConnectorError, Result};
use crate::schema::names;

const MEND: &str = "write it again or fetch it anew";

/// Runs a decoder on bytes nobody vouches for; a panic inside it is an error of the file.
pub(crate) fn guarded<T>(
    place: &str,
    format: &'static str,
    decode: impl FnOnce() -> Result<T, String>,
) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(decode)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(detail)) => Err(ConnectorError::format(place, format, detail, MEND)),
        Err(_) => Err(ConnectorError::format(
            place,
            format,
            "the decoder broke off",
            MEND,
        )),
    }
}

/// A Parquet file that is open, with what to read of it.
#[derive(Debug)]
pub struct ParquetSource {
    path: PathBuf,
    file: File,
    metadata: ArrowReaderMetadata,
    columns: Option<Vec<String>>,
    row_groups: Option<Vec<usize>>,
    batch_rows: usize,
}

impl ParquetSource {
    /// Opens a file and reads its footer. Errors if there is none or it is damaged.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let file = File::open(&path).map_err(ConnectorError::io(
            "open",
            &path,
            "check the path and its permissions",
        ))?;
        let metadata = guarded(&path.display().to_string(), "Parquet", || {
            ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|e| e.to_string())
        })?;
        Ok(Self {
            path,
            file,
            metadata,
            columns: None,
            row_groups: None,
            batch_rows: 8192,
        })
    }

    /// The schema of the whole file, before selection.
    pub fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// Rows of the whole file, as its footer says.
    pub fn rows(&self) -> u64 {
        u64::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Number of row groups.
    pub fn row_group_count(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// Errors unless `column` exists and `fits` its type; `expected` says the types in words.
    pub fn require(
        &self,
        column: &str,
        expected: &str,
        fits: impl Fn(&DataType) -> bool,
    ) -> Result<()> {
        let place = self.path.display().to_string();
        let Ok(field) = self.schema().field_with_name(column) else {
            let (column, found) = (column.to_string(), names(self.schema()));
            return Err(ConnectorError::MissingColumn {
                place,
                column,
                found,
            });
        };
        if !fits(field.data_type()) {
            return Err(ConnectorError::ColumnType {
                place,
                column: column.to_string(),
                found: field.data_type().to_string(),
                expected: expected.to_string(),
            });
        }
        Ok(())
    }

    /// Reads only these top-level columns; batches hold them in the order of the file.
    /// Errors if one is missing.
    pub fn columns(mut self, columns: &[&str]) -> Result<Self> {
        for column in columns {
            self.require(column, "any type", |_| true)?;
        }
        self.columns = Some(columns.iter().map(|c| c.to_string()).collect());
        Ok(self)
    }

    /// Reads only these row groups, in this order. Errors if one is beyond the end.
    pub fn row_groups(mut self, groups: &[usize]) -> Result<Self> {
        let count = self.row_group_count();
        if let Some(&index) = groups.iter().find(|&&g| g >= count) {
            let place = self.path.display().to_string();
            return Err(ConnectorError::RowGroup {
                place,
                index,
                count,
            });
        }
        self.row_groups = Some(groups.to_vec());
        Ok(self)
    }

    /// Sets the rows of a batch (default 8192, at least 1).
    pub fn batch_rows(mut self, rows: usize) -> Self {
        self.batch_rows = rows.max(1);
        self
    }

    /// Starts reading.
    pub fn read(self) -> Result<ParquetBatches> {
        let Self {
            path,
            file,
            metadata,
            columns,
            row_groups,
            batch_rows,
        } = self;
        let place = path.display().to_string();
        let reader = guarded(&place, "Parquet", || {
            let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
                .with_batch_size(batch_rows);
            if let Some(columns) = columns {
                let schema = builder.schema();
                let roots: Vec<usize> = columns
                    .iter()
                    .filter_map(|c| schema.index_of(c).ok())
                    .collect();
                let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
                builder = builder.with_projection(mask);
            }
            if let Some(groups) = row_groups {
                builder = builder.with_row_groups(groups);
            }
            builder.build().map_err(|e| e.to_string())
        })?;
        Ok(ParquetBatches {
            place,
            reader: Some(reader),
        })
    }
}

/// The batches of a Parquet file. After an error there are no more.
pub struct ParquetBatches {
    place: String,
    reader: Option<ParquetRecordBatchReader>,
}

impl std::fmt::Debug for ParquetBatches {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetBatches")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Iterator for ParquetBatches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let reader = self.reader.as_mut()?;
        let next = guarded(&self.place, "Parquet", || {
            reader.next().transpose().map_err(|e| e.to_string())
        });
        if !matches!(next, Ok(Some(_))) {
            self.reader = None;
        }
        next.transpose()
    }
}

/// Rows of a group: several workers can share a file of some hundred thousand rows.
const GROUP_ROWS: usize = 1 << 16;

/// Writes record batches to a Parquet file (zstd level 3, groups of 65,536 rows).
///
/// The file appears under its name only when [`ParquetSink::finish`] is called; until then it is
/// `<name>.part`, so that a reader never meets half of it.
pub struct ParquetSink {
    path: PathBuf,
    part: PathBuf,
    writer: ArrowWriter<File>,
    rows: u64,
}

impl std::fmt::Debug for ParquetSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetSink")
            .field("path", &self.path)
            .field("rows", &self.rows)
            .finish_non_exhaustive()
    }
}

/// The name under which a file is written before it is whole: `<name>.part`.
pub(crate) fn part_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    PathBuf::from(name)
}

impl ParquetSink {
    /// Creates the file for batches of `schema`. Errors if the directory cannot be written.
    pub fn create(path: impl AsRef<Path>, schema: SchemaRef) -> Result<Self> {
        let path = path.as_ref().to_path_buf();
        let part = part_name(&path);
        let file = File::create(&part).map_err(ConnectorError::io(
            "create",
            &part,
            "check that its directory exists and is writable",
        ))?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).unwrap_or_default()))
            .set_max_row_group_row_count(Some(GROUP_ROWS))
            .build();
        let writer = ArrowWriter::try_new(file, schema, Some(properties)).map_err(|e| {
            ConnectorError::format(
                path.display().to_string(),
                "Parquet",
                e,
                "choose column types that Parquet can hold",
            )
        })?;
        Ok(Self {
            path,
            part,
            writer,
            rows: 0,
        })
    }

    /// Appends a batch. Errors if its schema differs or the disk refuses it.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let place = self.path.display().to_string();
        self.writer.write(batch).map_err(|e| {
            ConnectorError::format(place, "Parquet", e, "check the schema and the free space")
        })?;
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Writes the footer, gives the file its name and returns the number of rows.
    pub fn finish(self) -> Result<u64> {
        let place = self.path.display().to_string();
        self.writer
            .close()
            .map_err(|e| ConnectorError::format(place, "Parquet", e, "check the free space"))?;
        std::fs::rename(&self.part, &self.path).map_err(ConnectorError::io(
            "rename",
            &self.part,
            "check the permissions of its directory",
        ))?;
        Ok(self.rows)
    }
}

#[cfg(test)]
mod tests;

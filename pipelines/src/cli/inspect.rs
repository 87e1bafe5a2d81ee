//! `advect inspect`: what a file holds, without reading more of it than is shown.

use std::io::Read;
use std::path::Path;

use advect_connectors::ipc::read_ipc;
use advect_connectors::netcdf::{Attribute, NetcdfFile, Slab, Variable};
use advect_connectors::parquet::ParquetSource;
use arrow_array::RecordBatch;
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::Schema;

use super::print_line;
use super::table::Table;
use crate::error::{PipelineError, Result};

/// First bytes of a file by which its format is told.
const HEAD: usize = 8;

/// Prints format, sizes, schema and first rows or values.
pub(crate) fn inspect(path: &Path, rows: usize) -> Result<()> {
    let mend = "check the path and its permissions";
    let read = PipelineError::file("read", path, mend);
    let mut head = Vec::with_capacity(HEAD);
    let file = std::fs::File::open(path);
    let size = file.and_then(|f| {
        let size = f.metadata()?.len();
        f.take(HEAD as u64).read_to_end(&mut head)?;
        Ok(size)
    });
    let size = crate::plan::bytes(size.map_err(read)?);
    let extension = path.extension().and_then(|e| e.to_str()).unwrap_or("");
    let describe = |format: &str| print_line(&format!("{}: {format}, {size}", path.display()));
    if head.starts_with(b"PAR1") {
        describe("Parquet");
        parquet(path, rows)
    } else if head.starts_with(b"\x89HDF") || head.starts_with(b"CDF") {
        describe(if head.starts_with(b"CDF") {
            "classic netCDF"
        } else {
            "netCDF-4 or HDF5"
        });
        arrays(path, rows)
    } else if head.starts_with(b"ARROW1") || matches!(extension, "arrow" | "arrows" | "ipc") {
        describe("Arrow IPC");
        ipc(path, rows)
    } else if matches!(extension, "csv" | "tsv") {
        describe("CSV");
        csv(path, rows, if extension == "tsv" { '\t' } else { ',' })
    } else {
        Err(PipelineError::Usage {
            what: path.display().to_string(),
            why: "of no format that is known here".to_owned(),
            mend: "give Parquet, Arrow IPC, netCDF or HDF5, or a name that ends in .csv or .tsv"
                .to_owned(),
        })
    }
}

fn parquet(path: &Path, rows: usize) -> Result<()> {
    let source = ParquetSource::open(path)?;
    print_line(&format!(
        "{} rows in {} row groups",
        source.rows(),
        source.row_group_count()
    ));
    schema(source.schema());
    if let Some(batch) = source.batch_rows(rows.max(1)).read()?.next() {
        first_rows(&batch?, rows);
    }
    Ok(())
}

fn ipc(path: &Path, rows: usize) -> Result<()> {
    let (mut count, mut batches) = (0, 0);
    let mut first: Option<RecordBatch> = None;
    read_ipc(path, |batch| {
        count += batch.num_rows();
        batches += 1;
        if first.as_ref().is_none_or(|f| f.num_rows() == 0) {
            first = Some(batch.slice(0, rows.min(batch.num_rows())));
        }
    })?;
    print_line(&format!("{count} rows in {batches} batches"));
    if let Some(batch) = first {
        schema(&batch.schema());
        first_rows(&batch, rows);
    }
    Ok(())
}

fn schema(schema: &Schema) {
    let mut table = Table::new(&["column", "type", "null"]);
    for field in schema.fields() {
        let null = if field.is_nullable() { "yes" } else { "no" };
        table.row([
            field.name().clone(),
            field.data_type().to_string(),
            null.to_owned(),
        ]);
    }
    table.print();
}

fn first_rows(batch: &RecordBatch, rows: usize) {
    let options = FormatOptions::default()
        .with_null("-")
        .with_display_error(true);
    let schema = batch.schema();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).collect();
    let mut table = Table::new(&names);
    let columns: Vec<_> = batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column.as_ref(), &options).ok())
        .collect();
    for row in 0..rows.min(batch.num_rows()) {
        let cell = |c: &Option<ArrayFormatter<'_>>| {
            c.as_ref()
                .map_or_else(|| "?".to_owned(), |c| c.value(row).to_string())
        };
        table.row(columns.iter().map(cell));
    }
    print_line("");
    table.print();
}

fn arrays(path: &Path, values: usize) -> Result<()> {
    let file = NetcdfFile::open(path)?;
    let lengths = file
        .dimensions()
        .iter()
        .map(|(name, n)| format!("{name} = {n}"));
    print_line(&format!(
        "dimensions: {}",
        lengths.collect::<Vec<_>>().join(", ")
    ));
    for (name, value) in file.attributes() {
        print_line(&format!("  :{name} = {}", attribute(value)));
    }
    for (name, variable) in file.variables() {
        let of = variable.dimensions.join(", ");
        let chunk = variable
            .chunk
            .as_ref()
            .map_or(String::new(), |c| format!(", chunks {c:?}"));
        print_line(&format!(
            "{} {name}({of}) {:?}{chunk}",
            variable.number_type.name(),
            variable.shape
        ));
        for (name, value) in &variable.attributes {
            print_line(&format!("  {name} = {}", attribute(value)));
        }
        // texts and damaged variables have no numbers to show, and the rest is worth showing
        if let Ok(numbers) = file.read_f64(name, &first_values(variable, values)) {
            let shown: Vec<String> = numbers.iter().map(|x| format!("{x}")).collect();
            print_line(&format!("  first: {}", shown.join(" ")));
        }
    }
    Ok(())
}

/// The first values along the fastest dimension.
fn first_values(variable: &Variable, values: usize) -> Slab {
    let mut slab = Slab::all(variable);
    for count in &mut slab.count {
        *count = (*count).min(1);
    }
    if let (Some(count), Some(length)) = (slab.count.last_mut(), variable.shape.last()) {
        *count = values.min(*length);
    }
    slab
}

fn attribute(value: &Attribute) -> String {
    match value {
        Attribute::Text(text) => format!("\"{}\"", text.replace(char::is_control, " ")),
        Attribute::Integers(v) => v
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
        Attribute::Reals(v) => v
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn csv(path: &Path, rows: usize, separator: char) -> Result<()> {
    use std::io::BufRead;

    let mend = "give a text file in UTF-8";
    let file = std::fs::File::open(path).map_err(PipelineError::file("read", path, mend))?;
    let mut shown = Vec::new();
    let mut records = 0u64;
    let mut reader = std::io::BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        // a line without end must not fill the memory
        let limit = Read::by_ref(&mut reader)
            .take(1 << 20)
            .read_until(b'\n', &mut line);
        if limit.map_err(PipelineError::file("read", path, mend))? == 0 {
            break;
        }
        if shown.len() <= rows {
            let text = String::from_utf8_lossy(&line);
            shown.push(cells(text.trim_end_matches(['\n', '\r']), separator));
        }
        records += 1;
    }
    print_line(&format!(
        "{} lines below the header",
        records.saturating_sub(1)
    ));
    if let Some((header, body)) = shown.split_first() {
        let names: Vec<&str> = header.iter().map(String::as_str).collect();
        let mut table = Table::new(&names);
        for row in body {
            table.row(row.clone());
        }
        table.print();
    }
    Ok(())
}

/// Cells of a line; a separator between double quotes is part of its cell.
fn cells(line: &str, separator: char) -> Vec<String> {
    let mut quoted = false;
    let split = line.split(|c: char| {
        quoted ^= c == '"';
        c == separator && !quoted
    });
    split
        .map(|cell| cell.trim().trim_matches('"').replace("\"\"", "\""))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::cells;

    #[test]
    fn a_quoted_separator_does_not_split() {
        assert_eq!(cells(r#"a,"b, ""c""",,d"#, ','), ["a", r#"b, "c"#, "", "d"]);
    }
}

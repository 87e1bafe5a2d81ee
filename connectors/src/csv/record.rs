//! Records and fields of RFC 4180.

use std::io::BufRead;

/// Reads one record without its line end; `false` at the end of the input. A record longer than
/// `limit` is cut to `limit + 1` bytes and skipped to the end of its line.
pub(super) fn read_record(
    reader: &mut impl BufRead,
    record: &mut Vec<u8>,
    limit: usize,
    line: &mut u64,
) -> std::io::Result<bool> {
    record.clear();
    let mut quoted = false;
    let mut any = false;
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            *line += u64::from(any);
            return Ok(any);
        }
        any = true;
        let end = buffer.iter().position(|&b| b == b'\n');
        let piece = &buffer[..end.unwrap_or(buffer.len())];
        for &b in piece {
            quoted ^= b == b'"';
        }
        let room = (limit + 1).saturating_sub(record.len());
        record.extend_from_slice(&piece[..piece.len().min(room)]);
        let used = piece.len() + usize::from(end.is_some());
        reader.consume(used);
        if end.is_some() {
            *line += 1;
            // A quoted field may hold line ends, but an oversized record ends at its line.
            if quoted && record.len() <= limit {
                record.push(b'\n');
                continue;
            }
            if record.last() == Some(&b'\r') {
                record.pop();
            }
            return Ok(true);
        }
    }
}

/// Splits a record into fields; `None` if it is not UTF-8 or a quote is open.
pub(super) fn split(record: &[u8], separator: u8) -> Option<Vec<String>> {
    let text = std::str::from_utf8(record).ok()?;
    let mut fields = Vec::new();
    let mut field = String::new();
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            c if c == char::from(separator) && !quoted => fields.push(std::mem::take(&mut field)),
            c => field.push(c),
        }
    }
    fields.push(field);
    (!quoted).then_some(fields)
}

//! The rows of a JSON-lines file, read line by line in bounded memory.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use cotangent_models::quoting::quoted_path;

use super::error::LineFault;
use super::json::JsonFault;
use super::{DataError, Json, Row, damage};

/// The longest line that is read if nothing else is asked for: 8 MiB.
pub const DEFAULT_MAX_LINE_BYTES: usize = 8 << 20;

/// Reads the rows of the file at `path` and passes each, with its line counted from 1, to `take`, which may refuse it
/// with a reason. Blank lines are skipped; lines may end in CR LF; a byte order mark at the start is skipped.
///
/// # Errors
/// If the file cannot be read, is no text, or has no row; or names the bad lines, those that `take` refuses among them.
pub fn read_rows(
    path: &Path,
    max_line_bytes: usize,
    take: &mut dyn FnMut(usize, Row) -> Result<(), String>,
) -> Result<(), DataError> {
    let mut lines = Lines::open(path, max_line_bytes)?;
    let mut faults = Vec::new();
    let (mut bad, mut good) = (0, 0);
    // These say whether the first line opens something that it does not close, and whether that is a list.
    let (mut opens, mut opens_list) = (false, false);
    while let Some(line) = lines.next()? {
        let outcome = match parse(&line) {
            Ok(None) => continue,
            Ok(Some(json)) => match Row::from_json(&json) {
                Ok(row) => take(line.number, row).map_err(|reason| LineFault::new(line.number, reason)),
                Err(error) => Err(LineFault::new(line.number, error.to_string())),
            },
            Err((fault, is_open_end)) => {
                if is_open_end && bad + good == 0 {
                    opens = true;
                    opens_list = line.begins_with_bracket();
                }
                Err(fault)
            }
        };
        match outcome {
            Ok(()) => good += 1,
            Err(fault) => {
                bad += 1;
                if faults.len() < DataError::MOST_FAULTS {
                    faults.push(fault);
                }
            }
        }
    }
    if bad > 1 && (opens_list || opens && good == 0) {
        return Err(DataError::file(
            path,
            "one JSON value over many lines, expected one object on each line\n\
             help: write each object on a line of its own, as with `jq -c .`, or `jq -c '.[]'` for a list",
        ));
    }
    if bad > 0 {
        return Err(DataError::lines(path, faults, bad));
    }
    if good == 0 {
        return Err(DataError::file(path, "found no line, expected at least one conversation"));
    }
    Ok(())
}

/// The value on a line; none if it is blank. A fault comes with whether it is that the line ends too early.
fn parse(line: &Line) -> Result<Option<Json>, (LineFault, bool)> {
    let fault = |column: Option<usize>, reason: String| LineFault { line: line.number, column, reason };
    let Contents::Bytes(bytes) = &line.contents else {
        return Err((fault(None, line.contents.too_long()), false));
    };
    if bytes.trim_ascii().is_empty() {
        return Ok(None);
    }
    let text = damage::text_of(bytes, line.number).map_err(|(column, reason)| (fault(column, reason), false))?;
    match Json::parse(text) {
        Ok(json) => Ok(Some(json)),
        Err(error) => {
            let reason = damage::cause(text, &error);
            Err((fault(Some(error.at + 1), reason), error.fault == JsonFault::Unfinished))
        }
    }
}

struct Lines {
    reader: BufReader<File>,
    path: PathBuf,
    number: usize,
    max_bytes: usize,
}

struct Line {
    number: usize,
    contents: Contents,
}

impl Line {
    fn begins_with_bracket(&self) -> bool {
        matches!(&self.contents, Contents::Bytes(bytes) if bytes.trim_ascii_start().starts_with(b"["))
    }
}

enum Contents {
    /// The line, without its line break.
    Bytes(Vec<u8>),
    /// The number found, which is more than the limit.
    TooLong { length: usize, limit: usize },
}

impl Contents {
    fn too_long(&self) -> String {
        match self {
            Contents::TooLong { length, limit } => format!(
                "a line of {length} bytes, expected at most {limit}\n\
                 help: split what it holds into several rows, or raise `--max-line-bytes`"
            ),
            Contents::Bytes(_) => String::new(),
        }
    }
}

/// The help for a folder in the place of a file: to give one in it, if there is one.
fn file_to_give(folder: &Path) -> String {
    let usual = ["valid.jsonl", "test.jsonl", "train.jsonl"].map(|name| folder.join(name));
    let in_folder = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut others: Vec<PathBuf> =
        in_folder.filter(|path| path.extension().is_some_and(|end| end == "jsonl")).collect();
    others.sort();
    match usual.into_iter().chain(others).find(|path| path.is_file()) {
        Some(file) => format!("\nhelp: give a file in it, such as `{}`", quoted_path(&file)),
        None => String::new(),
    }
}

impl Lines {
    fn open(path: &Path, max_bytes: usize) -> Result<Self, DataError> {
        let io_error = |error: io::Error| DataError::file(path, error.to_string());
        let metadata = fs::metadata(path).map_err(io_error)?;
        if !metadata.is_file() {
            let found = match metadata.is_dir() {
                true => {
                    format!("found a folder, expected a file with one JSON object on each line{}", file_to_give(path))
                }
                false => "found a pipe or a device, expected a file with one JSON object on each line".to_owned(),
            };
            return Err(DataError::file(path, found));
        }
        let mut reader = BufReader::new(File::open(path).map_err(io_error)?);
        if let Some(reason) = damage::found_in(reader.fill_buf().map_err(io_error)?) {
            return Err(DataError::file(path, reason));
        }
        Ok(Self { reader, path: path.to_owned(), number: 0, max_bytes })
    }

    fn next(&mut self) -> Result<Option<Line>, DataError> {
        let read = self.read_line();
        let contents = read.map_err(|error| DataError::file(&self.path, error.to_string()))?;
        Ok(contents.map(|contents| Line { number: self.number, contents }))
    }

    fn read_line(&mut self) -> io::Result<Option<Contents>> {
        let mut bytes = Vec::new();
        // The line break takes up to two more bytes.
        let most = self.max_bytes.saturating_add(2) as u64;
        if self.reader.by_ref().take(most).read_until(b'\n', &mut bytes)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let ends = bytes.ends_with(b"\n");
        if !ends && bytes.len() as u64 == most {
            let length = bytes.len() + self.skip_line()?;
            return Ok(Some(Contents::TooLong { length, limit: self.max_bytes }));
        }
        let length =
            bytes.strip_suffix(b"\n").map_or(bytes.len(), |line| line.strip_suffix(b"\r").unwrap_or(line).len());
        bytes.truncate(length);
        if length > self.max_bytes {
            return Ok(Some(Contents::TooLong { length, limit: self.max_bytes }));
        }
        Ok(Some(Contents::Bytes(bytes)))
    }

    /// Passes over the rest of a line, however long, and returns its length.
    fn skip_line(&mut self) -> io::Result<usize> {
        let mut length = 0;
        loop {
            let buffer = self.reader.fill_buf()?;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let passed = end.map_or(buffer.len(), |end| end + 1);
            length += end.unwrap_or(buffer.len());
            let is_last = end.is_some() || buffer.is_empty();
            self.reader.consume(passed);
            if is_last {
                return Ok(length);
            }
        }
    }
}

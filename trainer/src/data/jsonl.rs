//! JSON-lines files of conversations.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;

use super::{Conversation, DataError};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads all conversations of the file at `path`, each with its line number, counted from 1. Blank lines are skipped;
/// lines may end in CR LF; a byte order mark at the start is skipped.
///
/// # Errors
/// If the file cannot be read or has no conversation; or at the first bad line, naming it and what is wrong with it.
pub fn read_conversations(path: &Path) -> Result<Vec<(usize, Conversation)>, DataError> {
    let io_error = |error: std::io::Error| DataError::file(path, error.to_string());
    if !fs::metadata(path).map_err(io_error)?.is_file() {
        return Err(DataError::file(path, "found no file, expected a file with one JSON object on each line"));
    }
    let mut reader = BufReader::new(File::open(path).map_err(io_error)?);
    let mut conversations = Vec::new();
    let mut bytes = Vec::new();
    for number in 1.. {
        bytes.clear();
        if reader.read_until(b'\n', &mut bytes).map_err(io_error)? == 0 {
            break;
        }
        let line = match number {
            1 => bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes),
            _ => &bytes,
        };
        if let Some(conversation) = read_line(path, number, line.trim_ascii_end())? {
            conversations.push((number, conversation));
        }
    }
    if conversations.is_empty() {
        return Err(DataError::file(path, "found no line, expected at least one conversation"));
    }
    Ok(conversations)
}

fn read_line(path: &Path, number: usize, line: &[u8]) -> Result<Option<Conversation>, DataError> {
    if line.trim_ascii().is_empty() {
        return Ok(None);
    }
    let text = std::str::from_utf8(line).map_err(|error| {
        DataError::line(path, number, Some(error.valid_up_to() + 1), "not UTF-8\nhelp: save the file as UTF-8")
    })?;
    let json = serde_json::from_str(text).map_err(|error| {
        let help = match (error.is_eof(), text.trim_start().starts_with('[')) {
            (true, _) | (_, true) => "\nhelp: write each conversation as one JSON object on a line of its own",
            _ => "",
        };
        // serde_json appends the position within what it was given; we name the line of the file.
        let message = error.to_string();
        let message = message.split(" at line ").next().unwrap_or(&message);
        DataError::line(path, number, Some(error.column()), format!("not valid JSON: {message}{help}"))
    })?;
    let conversation = Conversation::from_json(&json);
    conversation.map(Some).map_err(|error| DataError::line(path, number, None, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;

    fn read(contents: &[u8]) -> Result<Vec<(usize, Conversation)>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("train.jsonl");
        fs::write(&path, contents).unwrap();
        read_conversations(&path).map_err(|error| error.to_string().replace(&format!("{}/", dir.path().display()), ""))
    }

    #[test]
    fn blank_lines_crlf_and_a_byte_order_mark_do_not_matter() {
        let plain = read(format!("{GOOD}\n{GOOD}\n").as_bytes()).unwrap();
        for (contents, lines) in [
            (format!("{GOOD}\n{GOOD}"), [1, 2]),
            (format!("{GOOD}\r\n{GOOD}\r\n"), [1, 2]),
            (format!("\u{feff}{GOOD}\n\n  \n{GOOD}\n\n"), [1, 4]),
        ] {
            let read = read(contents.as_bytes()).unwrap();
            assert_eq!(read.iter().map(|(line, _)| *line).collect::<Vec<_>>(), lines);
            assert!(read.iter().zip(&plain).all(|((_, a), (_, b))| a == b));
        }
    }

    #[test]
    fn a_bad_line_is_named_with_what_is_wrong() {
        let table: &[(&[u8], &str)] = &[
            (b"", "`train.jsonl`: found no line, expected at least one conversation"),
            (b"\n \r\n", "`train.jsonl`: found no line, expected at least one conversation"),
            (b"\n{\"messages\" []}", "`train.jsonl`, line 2, column 13: not valid JSON: expected `:`"),
            (
                b"{\n",
                "`train.jsonl`, line 1, column 1: not valid JSON: EOF while parsing an object\n\
                 help: write each conversation as one JSON object on a line of its own",
            ),
            (
                b"[{}",
                "`train.jsonl`, line 1, column 3: not valid JSON: EOF while parsing a list\n\
                 help: write each conversation as one JSON object on a line of its own",
            ),
            (b"{\"messages\": \"\xff\"}", "`train.jsonl`, line 1, column 15: not UTF-8\nhelp: save the file as UTF-8"),
            (b"[]", "`train.jsonl`, line 1: `the line`: found a list, expected an object"),
        ];
        for (contents, expected) in table {
            assert_eq!(read(contents).unwrap_err(), *expected);
        }
    }

    #[test]
    fn what_is_not_a_file_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let error = |path: &Path| read_conversations(path).unwrap_err().to_string();
        assert!(error(dir.path()).ends_with("found no file, expected a file with one JSON object on each line"));
        assert!(error(&dir.path().join("absent.jsonl")).contains("No such file"));
    }
}

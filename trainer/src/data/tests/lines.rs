//! Tests of reading a JSON-lines file.

use std::fs;

use super::*;
use crate::data::lines::read_rows;

const GOOD: &str = r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;

/// The lines on which rows were found, or the error without the folder's name.
fn read_with(contents: &[u8], max_line_bytes: usize) -> Result<Vec<usize>, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("train.jsonl");
    fs::write(&path, contents).unwrap();
    let mut lines = Vec::new();
    let outcome = read_rows(&path, max_line_bytes, &mut |line, _| {
        lines.push(line);
        Ok(())
    });
    let error = |error: DataError| error.to_string().replace(&format!("{}/", dir.path().display()), "");
    outcome.map(|()| lines).map_err(error)
}

fn read(contents: &[u8]) -> Result<Vec<usize>, String> {
    read_with(contents, 1000)
}

#[test]
fn blank_lines_crlf_and_a_byte_order_mark_do_not_matter() {
    for (contents, lines) in [
        (format!("{GOOD}\n{GOOD}\n"), [1, 2]),
        (format!("{GOOD}\n{GOOD}"), [1, 2]),
        (format!("{GOOD}\r\n{GOOD}\r\n"), [1, 2]),
        (format!("\u{feff}{GOOD}\n\n  \n{GOOD}\n\n"), [1, 4]),
    ] {
        assert_eq!(read(contents.as_bytes()), Ok(lines.to_vec()), "{contents:?}");
    }
}

#[test]
fn a_bad_line_is_named_with_the_cause() {
    let after_a_good_line = |line: &str| format!("{GOOD}\n{line}\n").into_bytes();
    let quoted = |bytes: &[u8]| [b"{\"messages\": \"", bytes, b"\"}"].concat();
    let half_a_pair = after_a_good_line(&GOOD.replace("\"a\"", r#""\ude42""#));
    for (contents, expected) in [
        (b"".to_vec(), "`train.jsonl`: found no line, expected at least one conversation"),
        (b"\n \r\n".to_vec(), "`train.jsonl`: found no line, expected at least one conversation"),
        (b"\n{\"messages\" []}".to_vec(), "line 2, column 13: not valid JSON: found `[`, expected `:` after a key"),
        (
            after_a_good_line("{\"messages\":"),
            "line 2, column 13: not valid JSON: the text ends, expected a value\nhelp: write each",
        ),
        (
            after_a_good_line(&format!("\u{feff}{GOOD}")),
            "line 2, column 1: found a byte order mark, which belongs at the start",
        ),
        (format!("\u{feff}\u{feff}{GOOD}").into_bytes(), "line 1, column 1: found a byte order mark"),
        (format!("{GOOD}\r{GOOD}\r").into_bytes(), "line 1, column 89: found a CR alone where a line ends"),
        (format!("{GOOD} {GOOD}").into_bytes(), "line 1, column 89: found a second value on the line"),
        (format!("{GOOD},\n{GOOD}\n").into_bytes(), "line 1, column 88: found a comma after the object"),
        (after_a_good_line("\0\0\0"), "line 2: found nothing but 3 NUL bytes, as a crash leaves them"),
        (format!("{GOOD}\0\0").into_bytes(), "line 1, column 88: found at its end 2 NUL bytes"),
        (half_a_pair, "line 2, column 44: not valid JSON: `\\ude42` is half of a surrogate pair"),
        (quoted(b"\xed\xa0\xbd"), "line 1, column 15: half of a surrogate pair"),
        (quoted(b"caf\xe9"), "line 1, column 18: the byte 0xe9 is not UTF-8\nhelp: save the file as UTF-8"),
        (b"{\"messages\": \"\xf0\x9f".to_vec(), "line 1, column 15: the line ends within a character"),
        (
            after_a_good_line("{\"messages\": 1, \"messages\": 2}"),
            "line 2, column 17: not valid JSON: the key `messages` stands twice",
        ),
        (
            after_a_good_line(&format!("[{GOOD}, {GOOD}]")),
            "line 2: `the line`: found a list of 2 items, expected one object: a JSON file",
        ),
        (
            b"prompt,completion\na,b\n".to_vec(),
            "`train.jsonl`: 2 bad lines\nline 1, column 1: not valid JSON: found `prompt`",
        ),
        (b"\x1f\x8b\x08\0".to_vec(), "`train.jsonl`: found a gzip archive\nhelp: unpack it, as with `gunzip`"),
        (b"PAR1\x15".to_vec(), "`train.jsonl`: found a Parquet file"),
        (b"\xff\xfe{\0".to_vec(), "`train.jsonl`: found text in UTF-16"),
        (b"\xff\xfe\0\0{\0\0\0".to_vec(), "`train.jsonl`: found text in UTF-32"),
        ([&[b'a'; 257][..], b"ustar\0"].concat(), "`train.jsonl`: found a tar archive\nhelp: unpack it"),
        (b"{\0\"\0a\0".to_vec(), "`train.jsonl`: found text in UTF-16"),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "`train.jsonl`: found a pointer of Git LFS"),
        (b"<!DOCTYPE html>".to_vec(), "`train.jsonl`: found a web page or XML"),
        (
            b"{\n  \"messages\": []\n}\n".to_vec(),
            "`train.jsonl`: one JSON value over many lines, expected one object on each",
        ),
        (format!("[\n{GOOD},\n{GOOD}\n]\n").into_bytes(), "`train.jsonl`: one JSON value over many lines"),
    ] {
        let error = read(&contents).unwrap_err();
        assert!(error.contains(expected), "{:?}: {error}", String::from_utf8_lossy(&contents));
    }
}

#[test]
fn all_bad_lines_are_reported_at_once_the_first_ten_in_words() {
    let bad = "{\"prompt\": \"a\"}\n";
    let error = read(format!("{GOOD}\n{bad}\n{bad}").as_bytes()).unwrap_err();
    assert_eq!(
        error,
        "`train.jsonl`: 2 bad lines\nline 2: `prompt`: found without `completion`\n\
         line 4: `prompt`: found without `completion`\nhelp: write `messages`, or `prompt` and `completion`, or `text`"
    );
    let error = read(bad.repeat(13).as_bytes()).unwrap_err();
    assert!(error.starts_with("`train.jsonl`: 13 bad lines\nline 1: "), "{error}");
    assert!(error.contains("\nline 10: ") && !error.contains("\nline 11: "), "{error}");
    assert!(error.contains("\nand 3 more\nhelp: "), "{error}");
}

#[test]
fn a_line_beyond_the_limit_is_refused_with_its_length() {
    let limit = GOOD.len();
    assert_eq!(read_with(format!("{GOOD}\r\n{GOOD}\n").as_bytes(), limit), Ok(vec![1, 2]));
    for long in [format!("{GOOD} "), format!("{GOOD}  "), format!("{GOOD}{}", "x".repeat(100_000))] {
        let expected = format!(
            "`train.jsonl`, line 2: a line of {} bytes, expected at most {limit}\n\
             help: split what it holds into several rows, or raise `--max-line-bytes`",
            long.len()
        );
        for end in ["", "\n", &format!("\n{GOOD}")] {
            assert_eq!(read_with(format!("{GOOD}\n{long}{end}").as_bytes(), limit), Err(expected.clone()));
        }
    }
}

#[test]
fn what_is_not_a_file_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = |path: &Path| read_rows(path, 1000, &mut |_, _| Ok(())).unwrap_err().to_string();
    let of_folder = "found a folder, expected a file with one JSON object on each line";
    assert!(error(dir.path()).ends_with(of_folder));
    for name in ["b.jsonl", "a.jsonl", "train.jsonl"] {
        std::fs::write(dir.path().join(name), "").unwrap();
        let help = format!("{of_folder}\nhelp: give a file in it, such as `{}`", dir.path().join(name).display());
        assert!(error(dir.path()).ends_with(&help), "{}", error(dir.path()));
    }
    let device = error(Path::new("/dev/null"));
    assert!(
        device.ends_with("found a pipe or a device, expected a file with one JSON object on each line"),
        "{device}"
    );
    assert!(error(&dir.path().join("absent.jsonl")).contains("No such file"));
}

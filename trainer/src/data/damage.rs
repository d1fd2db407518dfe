//! The cause, not the symptom, of a fault in a file or a line that is not the JSON that it should be.

use crate::numbers::counted;

use super::json::{JsonError, JsonFault};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// First bytes of files that are no lines of JSON, and what such a file is.
const SIGNATURES: [(&[u8], &str); 14] = [
    (b"\x1f\x8b", "a gzip archive\nhelp: unpack it, as with `gunzip`"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive\nhelp: unpack it, as with `unzstd`"),
    (b"\xfd7zXZ\0", "an xz archive\nhelp: unpack it, as with `unxz`"),
    (b"BZh", "a bzip2 archive\nhelp: unpack it, as with `bunzip2`"),
    (b"PK\x03\x04", "a zip archive\nhelp: unpack it, as with `unzip`"),
    (b"PAR1", "a Parquet file\nhelp: convert it, as with `datasets` and its `to_json`"),
    (b"ARROW1", "an Arrow file\nhelp: convert it, as with `datasets` and its `to_json`"),
    (b"\xff\xff\xff\xff", "an Arrow stream\nhelp: convert it, as with `datasets` and its `to_json`"),
    (b"SQLite format 3\0", "a SQLite database\nhelp: write its rows as JSON lines"),
    (b"\xff\xfe\0\0", "text in UTF-32\nhelp: save it as UTF-8, as with `iconv -f UTF-32 -t UTF-8`"),
    (b"\xff\xfe", "text in UTF-16\nhelp: save it as UTF-8, as with `iconv -f UTF-16 -t UTF-8`"),
    (b"\xfe\xff", "text in UTF-16\nhelp: save it as UTF-8, as with `iconv -f UTF-16 -t UTF-8`"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the file itself\nhelp: fetch it with `git lfs pull`"),
    (b"<", "a web page or XML\nhelp: fetch the file itself, not the page that shows it"),
];

/// Returns why a file that begins with `bytes` holds no lines of JSON, if that shows at once.
pub(super) fn found_in(bytes: &[u8]) -> Option<String> {
    let found = SIGNATURES.iter().find(|(signature, _)| bytes.starts_with(signature)).map(|(_, what)| *what);
    // In UTF-16 one of every two bytes is zero in most texts.
    let wide = match bytes {
        [0, second, 0, fourth, ..] => *second != 0 && *fourth != 0,
        [first, 0, third, 0, ..] => *first != 0 && *third != 0,
        _ => false,
    };
    // In a tar archive the name of the first member comes before the signature.
    let tar = bytes.get(257..).is_some_and(|rest| rest.starts_with(b"ustar"));
    let found = found.or(tar.then_some("a tar archive\nhelp: unpack it, as with `tar -x`"));
    let found = found.or(wide.then_some("text in UTF-16\nhelp: save it as UTF-8, as with `iconv -f UTF-16 -t UTF-8`"));
    found.map(|what| format!("found {what}"))
}

/// The text of a line that is not blank, without a byte order mark at the start of the file.
///
/// # Errors
/// The column and the reason.
pub(super) fn text_of(line: &[u8], number: usize) -> Result<&str, (Option<usize>, String)> {
    let marked = line.strip_prefix(BYTE_ORDER_MARK);
    if number > 1 && marked.is_some() {
        return Err((Some(1), byte_order_mark()));
    }
    let line = marked.unwrap_or(line).trim_ascii_end();
    let nuls = line.iter().rev().take_while(|byte| **byte == 0).count();
    if nuls > 0 {
        let rest = line.len() - nuls;
        let (column, place) = match line[..rest].trim_ascii().is_empty() {
            true => (None, "nothing but"),
            false => (Some(rest + 1), "at its end"),
        };
        let reason = format!(
            "found {place} {}, as a crash leaves them where text was to be written\n\
             help: remove them, and see whether rows are lost",
            counted(nuls, "NUL byte")
        );
        return Err((column, reason));
    }
    std::str::from_utf8(line).map_err(|error| {
        let at = error.valid_up_to();
        let reason = match (&line[at..], error.error_len()) {
            ([0xed, 0xa0..=0xbf, ..], _) => "half of a surrogate pair, which alone is no character, is not UTF-8\n\
                                             help: remove it"
                .to_owned(),
            (_, None) => "the line ends within a character: the file seems cut off".to_owned(),
            ([byte, ..], _) => format!(
                "the byte {byte:#04x} is not UTF-8\nhelp: save the file as UTF-8, as with `iconv -f WINDOWS-1252 -t UTF-8`"
            ),
            _ => "not UTF-8".to_owned(),
        };
        (Some(at + 1), reason)
    })
}

/// Returns why `text`, a line that is not blank, is no JSON.
pub(super) fn cause(text: &str, error: &JsonError) -> String {
    let (before, rest) = text.split_at(error.at);
    if rest.starts_with('\u{feff}') {
        return byte_order_mark();
    }
    let blanks = &before[before.trim_end().len()..];
    match error.fault {
        JsonFault::Trailing if blanks.contains('\r') => "found a CR alone where a line ends, expected LF or CR LF\n\
             help: convert it, as with `tr '\\r' '\\n'`"
            .to_owned(),
        JsonFault::Trailing if rest.starts_with(['{', '[']) => {
            "found a second value on the line\nhelp: write each object on a line of its own".to_owned()
        }
        JsonFault::Trailing if rest.starts_with(',') => {
            "found a comma after the object, as between the items of a list\n\
             help: write each object on a line of its own, with nothing between them"
                .to_owned()
        }
        JsonFault::Unfinished => format!(
            "not valid JSON: {error}\nhelp: write each object on one line, whole; the last line of a file may be cut off"
        ),
        _ => format!("not valid JSON: {error}"),
    }
}

fn byte_order_mark() -> String {
    "found a byte order mark, which belongs at the start of a file or nowhere: files were joined\nhelp: remove it"
        .to_owned()
}

//! The kind of a file, by its first bytes.

/// The kinds that are decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Png,
    Jpeg,
    Gif,
    WebP,
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Format::Png => "PNG",
            Format::Jpeg => "JPEG",
            Format::Gif => "GIF",
            Format::WebP => "WebP",
        }
    }
}

const CONVERT: &str = "expected a PNG, JPEG, GIF or WebP file\nhelp: convert it";
const FRAMES: &str = "expected a picture\nhelp: write the frames of the video as pictures";

/// The beginnings of other files, their kinds, and the remedies.
const OTHERS: [(&[u8], &str, &str); 12] = [
    (b"BM", "a BMP picture", CONVERT),
    (b"II*\0", "a TIFF picture", CONVERT),
    (b"MM\0*", "a TIFF picture", CONVERT),
    (b"\0\0\x01\0", "an icon", CONVERT),
    (b"\xff\x0a", "a JPEG XL picture", CONVERT),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture", CONVERT),
    (b"%PDF", "a PDF document", CONVERT),
    (b"\x1a\x45\xdf\xa3", "a Matroska or WebM video", FRAMES),
    (b"\0\0\x01\xba", "an MPEG video", FRAMES),
    (b"OggS", "an Ogg file", FRAMES),
    (b"PK\x03\x04", "a zip archive", "expected a picture\nhelp: unpack it"),
    (b"<", "a web page, SVG or XML", "expected a PNG, JPEG, GIF or WebP file\nhelp: fetch or draw the picture itself"),
];

/// The kind of picture that `bytes` are.
///
/// # Errors
/// What they are instead.
pub(super) fn format_of(bytes: &[u8]) -> Result<Format, String> {
    let inner = bytes.get(8..12).unwrap_or_default();
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") {
        return Ok(Format::Png);
    } else if bytes.starts_with(b"\xff\xd8\xff") {
        return Ok(Format::Jpeg);
    } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        return Ok(Format::Gif);
    } else if bytes.starts_with(b"RIFF") && inner == b"WEBP" {
        return Ok(Format::WebP);
    }
    let (found, advice) = match bytes {
        [] => ("an empty file", "expected a picture\nhelp: fetch the file again"),
        _ if bytes.starts_with(b"RIFF") && inner == b"AVI " => ("an AVI video", FRAMES),
        _ if bytes.get(4..8) == Some(b"ftyp") => match inner {
            b"avif" | b"avis" => ("an AVIF picture", CONVERT),
            b"heic" | b"heix" | b"hevc" | b"mif1" | b"msf1" => ("a HEIC picture", CONVERT),
            _ => ("an MP4 or QuickTime video", FRAMES),
        },
        _ => match OTHERS.iter().find(|(start, ..)| bytes.starts_with(start)) {
            Some((_, found, advice)) => (*found, *advice),
            None if is_text(bytes) => ("text", "expected a picture\nhelp: give the file itself"),
            None => ("a file of an unknown kind", "expected a PNG, JPEG, GIF or WebP file"),
        },
    };
    Err(format!("found {found}, {advice}"))
}

fn is_text(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(256)];
    start.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b'\r' | b' '..=b'~' | 0x80..))
}

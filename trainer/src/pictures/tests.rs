//! Files as Pillow wrote them, and the pixels that transformers' `load_image` makes of them.

use std::path::PathBuf;

use safetensors::SafeTensors;

use super::*;

/// The most levels by which a JPEG may differ from libjpeg.
const JPEG_LEVELS: u8 = 4;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/vision")
}

fn file(name: &str) -> Vec<u8> {
    std::fs::read(folder().join(name)).unwrap()
}

fn refusal(bytes: &[u8]) -> String {
    decode(bytes).unwrap_err().to_string()
}

#[test]
fn each_file_has_the_pixels_that_transformers_reads() {
    let bytes = file("golden.safetensors");
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut kinds = Vec::new();
    for (name, expected) in tensors.tensors() {
        let Some(name) = name.strip_prefix("file.") else { continue };
        let picture = decode(&file(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!([picture.height(), picture.width(), 3], *expected.shape(), "{name}");
        let levels = picture.values().iter().zip(expected.data()).map(|(found, expected)| found.abs_diff(*expected));
        let kind = name.rsplit('.').next().unwrap().to_owned();
        let allowed = if kind == "jpg" { JPEG_LEVELS } else { 0 };
        let most = levels.max().unwrap();
        assert!(most <= allowed, "{name}: {most} levels from transformers' pixels");
        kinds.push(kind);
    }
    kinds.sort();
    kinds.dedup();
    assert_eq!(kinds, ["gif", "jpg", "png", "webp"]);
}

#[test]
fn a_torn_file_is_refused() {
    for (name, expected) in [
        ("rgb.png", "found a damaged PNG file: "),
        ("q75.jpg", "found a damaged JPEG file: "),
        ("progressive.jpg", "found a damaged JPEG file: "),
        ("palette.gif", "found a damaged GIF file: "),
        ("lossless.webp", "found a damaged WebP file: "),
        ("lossy.webp", "found a damaged WebP file: "),
    ] {
        let whole = file(name);
        for kept in [4 * whole.len() / 5, whole.len() / 2, whole.len() / 4] {
            let message = refusal(&whole[..kept]);
            assert!(message.starts_with(expected), "{name}, {kept} of {} bytes: {message}", whole.len());
        }
    }
}

#[test]
fn a_file_of_another_kind_is_named() {
    for (bytes, expected) in [
        (&b""[..], "found an empty file, expected a picture\nhelp: fetch the file again"),
        (
            b"<!doctype html>",
            "found a web page, SVG or XML, expected a PNG, JPEG, GIF or WebP file\n\
             help: fetch or draw the picture itself",
        ),
        (b"a cat on a mat", "found text, expected a picture\nhelp: give the file itself"),
        (
            b"\0\0\0\x20ftypisom\0\0\x02\0",
            "found an MP4 or QuickTime video, expected a picture\nhelp: write the frames of the video as pictures",
        ),
        (b"BM\x36\0\0\0", "found a BMP picture, expected a PNG, JPEG, GIF or WebP file\nhelp: convert it"),
        (b"\x01\x02\x03", "found a file of an unknown kind, expected a PNG, JPEG, GIF or WebP file"),
    ] {
        assert_eq!(refusal(bytes), expected);
    }
}

#[test]
fn a_file_that_claims_a_huge_area_is_refused_before_it_is_decoded() {
    let expected = "found 60000 by 50000 pixels, expected at most 178956970 in all\n\
                    help: shrink the picture: a model sees far fewer";
    let mut png = file("rgb.png");
    png[16..20].copy_from_slice(&60_000u32.to_be_bytes());
    png[20..24].copy_from_slice(&50_000u32.to_be_bytes());
    let checksum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&checksum.to_be_bytes());
    assert_eq!(refusal(&png), expected);

    let mut gif = file("palette.gif");
    gif[6..8].copy_from_slice(&60_000u16.to_le_bytes());
    gif[8..10].copy_from_slice(&50_000u16.to_le_bytes());
    assert_eq!(refusal(&gif), expected);

    let mut jpeg = file("q75.jpg");
    let header = jpeg.windows(2).position(|marker| marker == [0xff, 0xc0]).unwrap();
    jpeg[header + 5..header + 7].copy_from_slice(&50_000u16.to_be_bytes());
    jpeg[header + 7..header + 9].copy_from_slice(&60_000u16.to_be_bytes());
    assert_eq!(refusal(&jpeg), expected);
}

/// The checksum of a PNG chunk.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    })
}

#[test]
fn damage_is_an_error_or_other_pixels_and_never_a_panic() {
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|kind| kind != "safetensors" && kind != "json"));
    names.sort();
    assert!(names.len() > 30);
    let mut state = 1u32;
    for path in names {
        let whole = std::fs::read(path).unwrap();
        for _ in 0..8 {
            let mut bytes = whole.clone();
            for _ in 0..3 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let at = state as usize >> 8;
                let length = bytes.len();
                bytes[12 + at % (length - 12)] = state as u8;
            }
            let _ = decode(&bytes);
        }
    }
}

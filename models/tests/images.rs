//! Pictures and videos become the patches that transformers' fast processors make of them, bit for bit.
//!
//! `COTANGENT_IMAGE_GOLDENS` names another folder that `tests/reference/make_golden.py` made.

use std::path::PathBuf;

use cotangent_models::images::{Grid, ImageSettings, Patches, Picture, PixelLimits, SizeError};
use safetensors::SafeTensors;
use serde_json::Value;

struct Goldens {
    bytes: Vec<u8>,
    record: Value,
}

impl Goldens {
    fn load() -> Self {
        let stored = || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/vision");
        let dir = std::env::var_os("COTANGENT_IMAGE_GOLDENS").map_or_else(stored, PathBuf::from);
        let record = std::fs::read_to_string(dir.join("golden.json")).unwrap();
        let bytes = std::fs::read(dir.join("golden.safetensors")).unwrap();
        Goldens { bytes, record: serde_json::from_str(&record).unwrap() }
    }

    fn tensors(&self) -> SafeTensors<'_> {
        SafeTensors::deserialize(&self.bytes).unwrap()
    }

    /// The rows of a table whose last two columns are a height and a width, or null where there is none.
    fn table(&self, name: &str) -> Vec<(Vec<usize>, Option<[usize; 2]>)> {
        let number = |value: &Value| value.as_u64().map(|value| value as usize);
        let rows = self.record[name].as_array().unwrap().iter().map(|row| {
            let (given, sides) = row.as_array().unwrap().split_at(row.as_array().unwrap().len() - 2);
            let sides = number(&sides[0]).zip(number(&sides[1])).map(|(height, width)| [height, width]);
            (given.iter().map(|value| number(value).unwrap()).collect(), sides)
        });
        rows.collect()
    }
}

fn settings(least: usize, most: usize) -> ImageSettings {
    let limits = PixelLimits { least, most };
    let (mean, deviation) = ([0.5; 3], [0.5; 3]);
    ImageSettings { limits, patch: 16, merge: 2, frames: 2, rescale: 1.0 / 255.0, mean, deviation }
}

/// The sides of a grid in pixels.
fn sides(grid: Grid) -> [usize; 2] {
    [grid.height * 16, grid.width * 16]
}

#[test]
fn sizes_are_those_of_smart_resize() {
    let goldens = Goldens::load();
    for (given, expected) in goldens.table("smart_resize") {
        let [height, width, least, most] = given[..] else { panic!("{given:?}") };
        let found = settings(least, most).grid(height, width).ok().map(sides);
        assert_eq!(found, expected, "{height} by {width} within {least} to {most}");
    }
    for (given, expected) in goldens.table("smart_resize_video") {
        let [frames, height, width, least, most] = given[..] else { panic!("{given:?}") };
        let found = settings(least, most).video_grid(frames, height, width).ok().map(sides);
        assert_eq!(found, expected, "{frames} frames of {height} by {width} within {least} to {most}");
    }
}

#[test]
fn patches_are_those_of_the_fast_processors() {
    let goldens = Goldens::load();
    let tensors = goldens.tensors();
    let cases = goldens.record["cases"].as_object().unwrap();
    assert!(!cases.is_empty());
    let mut values_compared = 0;
    for (name, case) in cases {
        let tensor = |part: &str| tensors.tensor(&format!("{name}.{part}"));
        let limit = |key: &str| case[key].as_u64().unwrap() as usize;
        let settings = settings(limit("shortest_edge"), limit("longest_edge"));

        let frames = tensor("frames").unwrap();
        let [count, height, width, 3] = *frames.shape() else { panic!("{name}: {:?}", frames.shape()) };
        let pictures: Vec<Picture> = frames
            .data()
            .chunks_exact(height * width * 3)
            .map(|pixels| Picture::new(height, width, pixels.to_vec()).unwrap())
            .collect();
        let Patches { values, grid } = match count {
            1 => settings.patches(&pictures[0]).unwrap(),
            _ => settings.video_patches(count, |frame| Ok::<_, SizeError>(pictures[frame].clone())).unwrap(),
        };

        let expected = tensor("grid").unwrap();
        let expected: Vec<usize> = expected
            .data()
            .chunks_exact(8)
            .map(|bytes| i64::from_le_bytes(bytes.try_into().unwrap()) as usize)
            .collect();
        assert_eq!([grid.frames, grid.height, grid.width], expected[..], "{name}");
        assert_eq!(values.len(), grid.patches() * settings.patch_length());
        let pixels: Vec<u8> = values.iter().map(|value| (value * 127.5 + 127.5).round() as u8).collect();
        let expected = tensor("patches").unwrap();
        let wrong = pixels.iter().zip(expected.data()).filter(|(found, expected)| found != expected).count();
        assert_eq!((wrong, pixels.len()), (0, expected.data().len()), "{name}");
        if let Ok(expected) = tensor("pixel_values") {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert!(bytes == expected.data(), "{name}: the same pixels, normalised to other bits");
            values_compared += 1;
        }
    }
    assert!(values_compared > 0);
}

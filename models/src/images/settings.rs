//! The settings of a checkpoint's images, from the files to which its processor was saved.
//!
//! There are no defaults: libraries use different values where the files lack one, and a model would then silently see
//! other pixels than in its training.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::config::{ConfigError, Fields};
use crate::reading;

/// Bicubic, in Pillow's numbers.
const BICUBIC: usize = 3;

/// The way in which pictures, or videos, become patches.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageSettings {
    /// The pixels, of all frames, that a picture or video may have after it is resized.
    pub limits: PixelLimits,
    /// Pixels on each side of a patch.
    pub patch: usize,
    /// Patches on each side of the group that becomes one token.
    pub merge: usize,
    /// Frames of a patch.
    pub frames: usize,
    /// The factor of values from 0 to 255.
    pub rescale: f64,
    /// Subtracted from each channel after that.
    pub mean: [f32; 3],
    /// The divisor of each channel.
    pub deviation: [f32; 3],
}

/// An area from `least` to `most` pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PixelLimits {
    /// Smaller ones are enlarged.
    pub least: usize,
    /// Larger ones are shrunk.
    pub most: usize,
}

/// The reason why a checkpoint's images cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// A file is damaged, or asks for what is not done here.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No file says it.
    #[error(
        "`{folder}`: found neither `{own}` nor `processor_config.json` with `{nested}`, expected one of them\n\
         help: fetch it from where the checkpoint is from: without it nothing says how large its images are",
        folder = crate::quoting::quoted_path(folder)
    )]
    Absent {
        /// The checkpoint.
        folder: PathBuf,
        /// The file that was looked for.
        own: &'static str,
        /// The object in the other file.
        nested: &'static str,
    },
}

impl ImageSettings {
    /// Loads the settings of pictures from `preprocessor_config.json` in the checkpoint folder `dir`, else from
    /// `image_processor` in `processor_config.json`.
    ///
    /// # Errors
    /// If there is neither, one is damaged, the two disagree, or they ask for what is not done here.
    pub fn load(dir: &Path) -> Result<Self, SettingsError> {
        Self::find(dir, "preprocessor_config.json", "image_processor")
    }

    /// Loads the settings of videos from `video_preprocessor_config.json` in the checkpoint folder `dir`, else from
    /// `video_processor` in `processor_config.json`.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_for_videos(dir: &Path) -> Result<Self, SettingsError> {
        Self::find(dir, "video_preprocessor_config.json", "video_processor")
    }

    fn find(dir: &Path, own: &'static str, nested: &'static str) -> Result<Self, SettingsError> {
        let own_file = dir.join(own);
        let own_settings = match read(&own_file)? {
            None => None,
            Some(json) => Some(Self::read(&Fields::root(&own_file, &json)?)?),
        };
        let shared_file = dir.join("processor_config.json");
        let shared = read(&shared_file)?;
        let nested_settings = match &shared {
            None => None,
            Some(json) => {
                Fields::root(&shared_file, json)?.object(nested)?.map(|fields| Self::read(&fields)).transpose()?
            }
        };
        match (own_settings, nested_settings) {
            (Some(one), Some(other)) if one != other => Err(ConfigError::Field {
                file: shared_file,
                field: nested.into(),
                found: "other values".into(),
                expected: format!("those of `{own}`, or one of the two files only"),
            }
            .into()),
            (Some(settings), _) | (None, Some(settings)) => Ok(settings),
            (None, None) => Err(SettingsError::Absent { folder: dir.to_owned(), own, nested }),
        }
    }

    fn read(fields: &Fields) -> Result<Self, ConfigError> {
        for field in ["do_resize", "do_rescale", "do_normalize"] {
            if fields.boolean(field)? == Some(false) {
                return Err(fields.unsupported(field, "`false`: images that are not prepared"));
            }
        }
        match fields.optional_count("resample")? {
            None | Some(BICUBIC) => {}
            Some(other) => return Err(fields.unsupported("resample", format!("{other} instead of bicubic (3)"))),
        }
        let limits = limits(fields)?;
        Ok(Self {
            limits,
            patch: fields.size("patch_size")?,
            merge: fields.size("merge_size")?,
            frames: fields.size("temporal_patch_size")?,
            rescale: fields.positive_number("rescale_factor")?.unwrap_or(1.0 / 255.0),
            mean: channels(fields, "image_mean", |value| value.is_finite())?,
            deviation: channels(fields, "image_std", |value| value.is_finite() && value > 0.0)?,
        })
    }
}

/// Returns the limits from `size`, whose edges are areas, or from the older `min_pixels` and `max_pixels`, which win
/// where both are given.
fn limits(fields: &Fields) -> Result<PixelLimits, ConfigError> {
    let size = fields.object("size")?;
    let read = |older: &str, newer: &str| {
        if let Some(found) = fields.optional_size(older)? {
            return Ok(found);
        }
        let Some(size) = &size else { return Err(fields.absent("size", "`shortest_edge` and `longest_edge`")) };
        match size.optional_size(newer)? {
            Some(found) => Ok(found),
            None => size.optional_size(older)?.ok_or_else(|| size.absent(newer, "an area in pixels")),
        }
    };
    let (least, most) = (read("min_pixels", "shortest_edge")?, read("max_pixels", "longest_edge")?);
    if least > most {
        return Err(fields.wrong(
            "size",
            format_args!("{least} to {most} pixels"),
            "a lower limit below the upper one",
        ));
    }
    Ok(PixelLimits { least, most })
}

fn channels(fields: &Fields, field: &str, fits: impl Fn(f32) -> bool) -> Result<[f32; 3], ConfigError> {
    let expected = "three numbers, one for each of red, green and blue";
    let items = fields.array(field)?.ok_or_else(|| fields.absent(field, expected))?;
    let numbers: Option<Vec<f32>> =
        items.iter().map(|item| item.as_f64().map(|value| value as f32).filter(|value| fits(*value))).collect();
    let numbers = numbers.and_then(|numbers| <[f32; 3]>::try_from(numbers).ok());
    numbers.ok_or_else(|| fields.wrong(field, format_args!("a list of {}", items.len()), expected))
}

fn read(file: &Path) -> Result<Option<Value>, ConfigError> {
    let text = reading::if_present(reading::read_text(file, reading::CONFIGURATION_BYTES))
        .map_err(|source| ConfigError::Read { file: file.to_owned(), source })?;
    text.map(|text| serde_json::from_str(&text).map_err(|source| ConfigError::Json { file: file.to_owned(), source }))
        .transpose()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn published() -> Value {
        json!({
            "size": {"shortest_edge": 65536, "longest_edge": 16_777_216}, "patch_size": 16, "merge_size": 2,
            "temporal_patch_size": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5],
            "image_processor_type": "Qwen2VLImageProcessorFast",
        })
    }

    fn folder(files: &[(&str, Value)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, json) in files {
            std::fs::write(dir.path().join(name), json.to_string()).unwrap();
        }
        dir
    }

    /// Returns the result of loading, without the folder's name in errors.
    fn refusal(files: &[(&str, Value)]) -> String {
        let dir = folder(files);
        let message = ImageSettings::load(dir.path()).unwrap_err().to_string();
        message.replace(dir.path().to_str().unwrap(), "DIR")
    }

    fn changed(key: &str, value: Value) -> Value {
        let mut json = published();
        json[key] = value;
        json
    }

    #[test]
    fn either_file_will_do() {
        let one = folder(&[("preprocessor_config.json", published())]);
        let other = folder(&[("processor_config.json", json!({"image_processor": published()}))]);
        let settings = ImageSettings::load(one.path()).unwrap();
        assert_eq!(settings.limits, PixelLimits { least: 65_536, most: 16_777_216 });
        assert_eq!((settings.patch, settings.merge, settings.frames), (16, 2, 2));
        assert_eq!(ImageSettings::load(other.path()).unwrap(), settings);
        let videos = folder(&[("processor_config.json", json!({"video_processor": published()}))]);
        assert_eq!(ImageSettings::load_for_videos(videos.path()).unwrap(), settings);
    }

    #[test]
    fn limits_are_written_in_three_ways() {
        for (json, expected) in [
            (changed("max_pixels", json!(1_003_520)), (65_536, 1_003_520)),
            (changed("size", json!({"min_pixels": 3136, "max_pixels": 12_845_056})), (3136, 12_845_056)),
        ] {
            let dir = folder(&[("preprocessor_config.json", json)]);
            let limits = ImageSettings::load(dir.path()).unwrap().limits;
            assert_eq!((limits.least, limits.most), expected);
        }
    }

    #[test]
    fn what_is_absent_or_contradictory_is_not_guessed() {
        let own = "preprocessor_config.json";
        for (files, expected) in [
            (
                vec![("processor_config.json", json!({}))],
                "`DIR`: found neither `preprocessor_config.json` nor `processor_config.json` with `image_processor`, \
                 expected one of them\nhelp: fetch it from where the checkpoint is from: without it nothing says how \
                 large its images are",
            ),
            (
                vec![
                    (own, published()),
                    ("processor_config.json", json!({"image_processor": changed("patch_size", json!(14))})),
                ],
                "`DIR/processor_config.json`: `image_processor`: found other values, expected those of \
                 `preprocessor_config.json`, or one of the two files only",
            ),
            (
                vec![(own, changed("size", Value::Null))],
                "`DIR/preprocessor_config.json`: `size`: found nothing, expected `shortest_edge` and `longest_edge`",
            ),
            (
                vec![(own, changed("size", json!({"height": 224, "width": 224})))],
                "`DIR/preprocessor_config.json`: `size.shortest_edge`: found nothing, expected an area in pixels",
            ),
            (
                vec![(own, changed("image_std", json!([0.5, 0.5, 0])))],
                "`DIR/preprocessor_config.json`: `image_std`: found a list of 3, expected three numbers, one for each \
                 of red, green and blue",
            ),
        ] {
            assert_eq!(refusal(&files), expected);
        }
    }
}

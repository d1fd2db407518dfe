//! Videos in conversations: parts of a message that list frames.

use super::json::{Json, Members, describe};
use super::picture_parts::source;
use super::schema::{SchemaError, fail, member};
use crate::pictures::VideoSource;

/// Returns whether a part of a message is a video: by its type, or by what it holds.
pub(super) fn is_video(part: &Members) -> bool {
    match member(part, "type").and_then(Json::as_str) {
        Some(kind) => matches!(kind, "video" | "video_url"),
        None => ["video", "video_url"].iter().any(|key| member(part, key).is_some()),
    }
}

/// The keys of a part that is a video.
pub(super) const KEYS: [&str; 5] = ["type", "video", "times", "fps", "sample_fps"];

/// The video of a part at `path`: a list of frames, with the time of each, or how many there are in a second.
pub(super) fn video_of_part(part: &Members, path: &str) -> Result<VideoSource, SchemaError> {
    let frames = match member(part, "video").or_else(|| member(part, "video_url")) {
        Some(Json::Array(frames)) => frames,
        Some(Json::String(_) | Json::Object(_)) => {
            return fail(
                format!("{path}.video"),
                "found the file of a video, expected a list of its frames\n\
                 help: write some of its frames as pictures, two a second, and list them with `\"fps\": 2`",
            );
        }
        other => return fail(format!("{path}.video"), format!("found {}, expected a list of frames", describe(other))),
    };
    let frames = frames.iter().enumerate().map(|(index, frame)| source(frame, &format!("{path}.video[{index}]")));
    let frames = frames.collect::<Result<Vec<_>, _>>()?;
    let per_second = ["fps", "sample_fps"].iter().find_map(|key| Some((*key, member(part, key)?)));
    let times = match (member(part, "times"), per_second) {
        (Some(Json::Array(times)), None) => {
            let numbers: Option<Vec<f64>> = times.iter().map(Json::as_f64).collect();
            numbers.map_or_else(|| fail(format!("{path}.times"), "found what is no number of seconds"), Ok)?
        }
        (None, Some((key, rate))) => match rate.as_f64().filter(|rate| rate.is_finite() && *rate > 0.0) {
            Some(rate) => (0..frames.len()).map(|index| index as f64 / rate).collect(),
            None => {
                return fail(
                    format!("{path}.{key}"),
                    format!("found {}, expected how many frames a second has", describe(Some(rate))),
                );
            }
        },
        (None, None) => {
            return fail(
                path,
                "found a video without times\nhelp: write `fps`, or `times` with the seconds of each frame",
            );
        }
        (Some(_), Some((key, _))) => return fail(path, format!("found `times` and `{key}`, expected one of the two")),
        (Some(other), None) => {
            return fail(
                format!("{path}.times"),
                format!("found {}, expected a list of seconds", describe(Some(other))),
            );
        }
    };
    VideoSource::new(frames, times).or_else(|reason| fail(path, reason))
}

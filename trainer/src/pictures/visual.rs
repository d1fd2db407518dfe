//! A picture or a video of a message.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use cotangent_models::images::Picture;

use super::PictureSource;

/// A picture or a video of a data set, not decoded yet.
#[derive(Debug, Clone, PartialEq)]
pub enum VisualSource {
    /// A picture.
    Picture(PictureSource),
    /// A video.
    Video(VideoSource),
}

/// The frames of a video, each a picture, and when each is shown.
#[derive(Debug, Clone, PartialEq)]
pub struct VideoSource {
    frames: Arc<[PictureSource]>,
    /// The times of the frames, in seconds from the beginning.
    times: Arc<[f64]>,
}

impl VideoSource {
    /// Creates a video from frames and their times in seconds.
    ///
    /// # Errors
    /// If there are none, they are not as many as the times, or a time is none, or earlier than the one before.
    pub fn new(frames: Vec<PictureSource>, times: Vec<f64>) -> Result<Self, String> {
        if frames.is_empty() {
            return Err("found no frames, expected a list of pictures".into());
        }
        if frames.len() != times.len() {
            return Err(format!("found {} times for {} frames, expected as many", times.len(), frames.len()));
        }
        if !times.iter().all(|time| time.is_finite() && *time >= 0.0) || !times.is_sorted() {
            return Err("found times that do not ascend from 0 on, expected seconds from the beginning".into());
        }
        Ok(VideoSource { frames: frames.into(), times: times.into() })
    }

    /// Returns the number of frames.
    pub fn count(&self) -> usize {
        self.frames.len()
    }

    /// The mean time of the first and the last of each `group` of frames; the last frame is repeated where a group lacks some.
    pub fn times(&self, group: usize) -> impl Iterator<Item = f64> {
        let last = self.times.len() - 1;
        let ends = (0..=last).step_by(group).map(move |first| [first, (first + group - 1).min(last)]);
        ends.map(|[first, last]| (self.times[first] + self.times[last]) / 2.0)
    }

    /// The pixels of a frame.
    ///
    /// # Errors
    /// If its file cannot be read, or is no picture; naming it.
    pub fn load(&self, frame: usize) -> Result<Picture, String> {
        self.frames[frame].load()
    }
}

impl VisualSource {
    /// Returns the same source, with relative paths resolved against `folder`.
    #[must_use]
    pub fn within(self, folder: &Path) -> Self {
        match self {
            VisualSource::Picture(picture) => VisualSource::Picture(picture.within(folder)),
            VisualSource::Video(VideoSource { frames, times }) => {
                let frames = frames.iter().map(|frame| frame.clone().within(folder)).collect();
                VisualSource::Video(VideoSource { frames, times })
            }
        }
    }
}

impl fmt::Display for VisualSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VisualSource::Picture(picture) => picture.fmt(f),
            VisualSource::Video(VideoSource { frames, .. }) => {
                write!(f, "the video of {} frames that begins with {}", frames.len(), frames[0])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(times: &[f64]) -> Result<VideoSource, String> {
        VideoSource::new(vec![PictureSource::File("a.png".into()); times.len()], times.to_vec())
    }

    #[test]
    fn a_pair_of_frames_has_the_mean_of_their_times_and_a_last_one_its_own() {
        for (times, expected) in
            [(&[0.0, 0.5][..], vec![0.25]), (&[0.0, 1.0, 4.0], vec![0.5, 4.0]), (&[2.0], vec![2.0])]
        {
            assert_eq!(video(times).unwrap().times(2).collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn times_are_as_many_as_frames_and_ascend() {
        for (times, expected) in [
            (&[][..], "found no frames"),
            (&[1.0, 0.5], "do not ascend"),
            (&[-1.0], "do not ascend"),
            (&[0.0, f64::NAN], "do not ascend"),
        ] {
            assert!(video(times).unwrap_err().contains(expected));
        }
        let frames = vec![PictureSource::File("a.png".into())];
        assert!(VideoSource::new(frames, vec![0.0, 1.0]).unwrap_err().contains("found 2 times for 1 frames"));
    }
}

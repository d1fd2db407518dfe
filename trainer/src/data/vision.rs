//! The way in which a checkpoint writes pictures and videos among tokens.

use std::ops::Range;
use std::path::Path;

use cotangent_models::config::{TextConfig, VisionConfig};
use cotangent_models::images::{Grid, ImageSettings, Patches, SizeError};

use super::EncodedExample;
use crate::pictures::{VideoSource, VisualSource};

/// A picture or a video among the tokens of an example.
#[derive(Debug, Clone, PartialEq)]
pub struct Placed {
    /// The file or bytes that hold it.
    pub source: VisualSource,
    /// The patches that it becomes.
    pub grid: Grid,
    /// The tokens that stand for it; of a video also those between its frames.
    pub tokens: Range<usize>,
}

/// The facts about pictures that are known before the weights are loaded.
#[derive(Debug, Clone)]
pub struct VisionFormat {
    /// The tower.
    pub config: VisionConfig,
    /// The way in which pictures become patches.
    pub settings: ImageSettings,
    /// The way in which videos become patches, or the reason why there can be none.
    pub video_settings: Result<ImageSettings, String>,
}

impl VisionFormat {
    /// Reads `config.json` and the processor's settings of the checkpoint folder `dir`.
    ///
    /// # Errors
    /// Why there can be no pictures.
    pub(super) fn load(dir: &Path) -> Result<Self, String> {
        let config = TextConfig::load_with_vision(dir).map_err(|error| error.to_string())?;
        let config = config.vision.ok_or("`config.json` has no `vision_config`: this model reads text only")?;
        let settings = ImageSettings::load(dir).map_err(|error| error.to_string())?;
        fits(&config, &settings)?;
        let video_settings = ImageSettings::load_for_videos(dir).map_err(|error| error.to_string());
        let video_settings = video_settings.and_then(|settings| fits(&config, &settings).map(|()| settings));
        Ok(VisionFormat { config, settings, video_settings })
    }

    /// The patches of what a message shows.
    ///
    /// # Errors
    /// If it cannot be read, or has no size to be brought to; naming it.
    pub fn patches(&self, source: &VisualSource) -> Result<Patches, String> {
        match source {
            VisualSource::Picture(picture) => {
                let made = self.settings.patches(&picture.load()?);
                made.map_err(|error| format!("{source}: {error}"))
            }
            VisualSource::Video(video) => self.of_video(video, |settings| {
                settings.video_patches(video.count(), |frame| video.load(frame).map_err(FrameError::Read))
            }),
        }
    }

    /// The grid of what a message shows. It is read whole, so that a damaged file is found.
    fn grid(&self, source: &VisualSource) -> Result<Grid, String> {
        match source {
            VisualSource::Picture(picture) => {
                let picture = picture.load()?;
                let grid = self.settings.grid(picture.height(), picture.width());
                grid.map_err(|error| format!("{source}: {error}"))
            }
            VisualSource::Video(_) => self.patches(source).map(|patches| patches.grid),
        }
    }

    fn of_video<T>(
        &self,
        video: &VideoSource,
        make: impl FnOnce(&ImageSettings) -> Result<T, FrameError>,
    ) -> Result<T, String> {
        let settings = self.video_settings.as_ref().map_err(|reason| format!("found a video, and {reason}"))?;
        make(settings).map_err(|error| match error {
            FrameError::Read(reason) => reason,
            FrameError::Size(error) => format!("{}: {error}", VisualSource::Video(video.clone())),
        })
    }

    /// The tokens of a video: for each group of frames its time, and the places of its features between marks. The marks that
    /// the template writes around the video stay around all of it, as transformers leaves them from version 5.24 on.
    fn of_frames(
        &self,
        video: &VideoSource,
        grid: Grid,
        encode: &mut dyn FnMut(&str) -> Result<Vec<u32>, String>,
    ) -> Result<Vec<u32>, String> {
        let VisionConfig { video_token, start_token, end_token, spatial_merge_size, temporal_patch_size, .. } =
            self.config;
        let features = Grid { frames: 1, ..grid }.tokens(spatial_merge_size);
        let mut tokens = Vec::new();
        for time in video.times(temporal_patch_size) {
            tokens.extend(encode(&format!("<{time:.1} seconds>"))?);
            tokens.push(start_token);
            tokens.resize(tokens.len() + features, video_token);
            tokens.push(end_token);
        }
        Ok(tokens)
    }

    /// Puts as many tokens in the place of each picture's or video's one as it has, and marks them, and those around them, as no
    /// targets. `encode` gives the tokens of a text.
    pub(super) fn place<'a>(
        &self,
        sources: impl Iterator<Item = &'a VisualSource>,
        encoded: &mut EncodedExample,
        encode: &mut dyn FnMut(&str) -> Result<Vec<u32>, String>,
    ) -> Result<(), String> {
        let mut sources = sources.cloned();
        let EncodedExample { example, offsets, ends, .. } = encoded;
        let (tokens, targets, places) =
            (std::mem::take(&mut example.tokens), std::mem::take(&mut example.is_target), std::mem::take(offsets));
        let mut moved = Vec::with_capacity(tokens.len());
        let vision = &self.config;
        for ((token, is_target), place) in tokens.into_iter().zip(targets).zip(places) {
            moved.push(example.tokens.len());
            let mut own = vec![token];
            if [vision.image_token, vision.video_token].contains(&token) {
                let source = sources.next().ok_or("found more marks for pictures in the text than pictures")?;
                let grid = self.grid(&source)?;
                own = match &source {
                    VisualSource::Picture(_) if token == vision.image_token => {
                        vec![token; grid.tokens(vision.spatial_merge_size)]
                    }
                    VisualSource::Video(video) if token == vision.video_token => self.of_frames(video, grid, encode)?,
                    other => return Err(format!("found the mark of another kind in the text in the place of {other}")),
                };
                let start = example.tokens.len();
                example.pictures.push(Placed { source, grid, tokens: start..start + own.len() });
            }
            let marks = [vision.image_token, vision.video_token, vision.start_token, vision.end_token];
            example.is_target.resize(example.tokens.len() + own.len(), is_target && !marks.contains(&token));
            offsets.resize(offsets.len() + own.len(), place);
            example.tokens.extend(own);
        }
        ends.iter_mut().for_each(|end| *end = moved[*end]);
        match sources.count() {
            0 => Ok(()),
            left => Err(format!(
                "the chat template writes no mark for {left} of the pictures\n\
                 help: take the template of a checkpoint that reads pictures"
            )),
        }
    }
}

/// The reason why the frames of a video cannot become patches.
enum FrameError {
    /// One cannot be read; with its file.
    Read(String),
    /// They have no size to be brought to.
    Size(SizeError),
}

impl From<SizeError> for FrameError {
    fn from(error: SizeError) -> Self {
        FrameError::Size(error)
    }
}

/// Checks the settings of a processor against the tower.
fn fits(config: &VisionConfig, settings: &ImageSettings) -> Result<(), String> {
    let of_tower = [config.patch_size, config.spatial_merge_size, config.temporal_patch_size];
    let of_processor = [settings.patch, settings.merge, settings.frames];
    if of_tower == of_processor {
        return Ok(());
    }
    Err(format!(
        "the settings of the processor say patches of {of_processor:?} (pixels, patches of a token, frames), `vision_config` \
         says {of_tower:?}\nhelp: take all files from the same model"
    ))
}

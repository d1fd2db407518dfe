//! How a checkpoint writes pictures among tokens.

use std::ops::Range;
use std::path::Path;

use cotangent_models::config::{TextConfig, VisionConfig};
use cotangent_models::images::{Grid, ImageSettings};

use super::EncodedExample;
use crate::pictures::PictureSource;

/// A picture among the tokens of an example.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Where it is.
    pub source: PictureSource,
    /// The patches that it becomes.
    pub grid: Grid,
    /// The tokens that stand for it.
    pub tokens: Range<usize>,
}

/// What is known of pictures before the weights are loaded.
#[derive(Debug, Clone)]
pub struct VisionFormat {
    /// The tower.
    pub config: VisionConfig,
    /// How pictures become patches.
    pub settings: ImageSettings,
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
        let of_tower = [config.patch_size, config.spatial_merge_size, config.temporal_patch_size];
        let of_processor = [settings.patch, settings.merge, settings.frames];
        if of_tower != of_processor {
            return Err(format!(
                "the settings of the image processor say patches of {of_processor:?} (pixels, patches of a token, frames), \
                 `vision_config` says {of_tower:?}\nhelp: take all files from the same model"
            ));
        }
        Ok(VisionFormat { config, settings })
    }

    /// Puts as many tokens in the place of each picture's one as it has, and marks them, and those around them, as no
    /// targets. Each picture is read whole, so that a damaged one is found here.
    pub(super) fn place<'a>(
        &self,
        sources: impl Iterator<Item = &'a PictureSource>,
        encoded: &mut EncodedExample,
    ) -> Result<(), String> {
        let mut sources = sources.cloned();
        let EncodedExample { example, offsets, ends, .. } = encoded;
        let (tokens, targets, places) =
            (std::mem::take(&mut example.tokens), std::mem::take(&mut example.is_target), std::mem::take(offsets));
        let mut moved = Vec::with_capacity(tokens.len());
        for ((token, is_target), place) in tokens.into_iter().zip(targets).zip(places) {
            moved.push(example.tokens.len());
            let mut count = 1;
            if token == self.config.image_token {
                let source = sources.next().ok_or("found more marks for pictures in the text than pictures")?;
                let picture = source.load()?;
                let grid = self.settings.grid(picture.height(), picture.width());
                let grid = grid.map_err(|error| format!("{source}: {error}"))?;
                count = grid.tokens(self.config.spatial_merge_size);
                let start = example.tokens.len();
                example.pictures.push(Placed { source, grid, tokens: start..start + count });
            } else if token == self.config.video_token {
                return Err("found the mark of a video in the text: videos are not supported for now".into());
            }
            let vision = &self.config;
            let is_mark = [vision.image_token, vision.start_token, vision.end_token].contains(&token);
            for _ in 0..count {
                example.tokens.push(token);
                example.is_target.push(is_target && !is_mark);
                offsets.push(place.clone());
            }
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

//! Pixels, normalised and cut into the rows that a vision tower reads.

use super::{Grid, ImageSettings, Picture, SizeError, resize, size};

/// The patches of one picture or video.
#[derive(Debug, Clone, PartialEq)]
pub struct Patches {
    /// The values `[patches, channels * frames * patch * patch]`, row-major. Groups of `merge` by `merge` patches lie
    /// together, in reading order. Within a row channels are slowest, then the frames of the patch, then its rows of
    /// pixels.
    pub values: Vec<f32>,
    /// The number of patches along each axis.
    pub grid: Grid,
}

impl ImageSettings {
    /// The patches that a picture of `height` by `width` pixels becomes.
    ///
    /// # Errors
    /// If one side is more than 200 times the other.
    pub fn grid(&self, height: usize, width: usize) -> Result<Grid, SizeError> {
        let sides = size::picture_size(height, width, self.patch * self.merge, self.limits)?;
        Ok(self.grid_of(1, sides))
    }

    /// The patches of `picture`; all frames of a patch are this picture.
    ///
    /// # Errors
    /// As [`grid`](Self::grid).
    pub fn patches(&self, picture: &Picture) -> Result<Patches, SizeError> {
        let sides = size::picture_size(picture.height, picture.width, self.patch * self.merge, self.limits)?;
        let frame = resize::resize(picture, sides);
        let mut values = Vec::new();
        self.push_patches(&vec![&frame; self.frames], &mut values);
        Ok(Patches { values, grid: self.grid_of(1, sides) })
    }

    /// The patches of a video whose frames have `height` by `width` pixels. The limits count the pixels of all frames.
    ///
    /// # Errors
    /// If there are fewer frames than a patch takes, or one side is more than 200 times the other.
    pub fn video_grid(&self, frames: usize, height: usize, width: usize) -> Result<Grid, SizeError> {
        let sides = size::video_size(frames, [height, width], self.patch * self.merge, self.frames, self.limits)?;
        Ok(self.grid_of(frames.div_ceil(self.frames), sides))
    }

    /// The patches of a video of `count` frames, which `frame` gives by number, from 0 on and once each. Where the last patch
    /// lacks frames, the last frame is repeated. Only the frames of one patch are held at a time.
    ///
    /// # Errors
    /// As [`video_grid`](Self::video_grid), if the frames differ in size, or what `frame` returns.
    pub fn video_patches<E: From<SizeError>>(
        &self,
        count: usize,
        mut frame: impl FnMut(usize) -> Result<Picture, E>,
    ) -> Result<Patches, E> {
        if count < self.frames {
            return Err(SizeError::Frames { found: count, least: self.frames }.into());
        }
        let mut of_video = None;
        let mut values = Vec::new();
        for start in (0..count).step_by(self.frames) {
            let mut group = Vec::with_capacity(self.frames);
            for index in start..(start + self.frames).min(count) {
                let frame = frame(index)?;
                let found = [frame.height, frame.width];
                let (first, sides) = match of_video {
                    Some(known) => known,
                    None => (found, size::video_size(count, found, self.patch * self.merge, self.frames, self.limits)?),
                };
                if found != first {
                    return Err(SizeError::UnequalFrames { index, found, first }.into());
                }
                of_video = Some((first, sides));
                group.push(resize::resize(&frame, sides));
            }
            let last = group.len() - 1;
            let whole: Vec<&Picture> = (0..self.frames).map(|index| &group[index.min(last)]).collect();
            self.push_patches(&whole, &mut values);
        }
        let sides = of_video.map_or([0, 0], |(_, sides)| sides);
        Ok(Patches { values, grid: self.grid_of(count.div_ceil(self.frames), sides) })
    }

    /// Numbers of a patch.
    pub fn patch_length(&self) -> usize {
        3 * self.frames * self.patch * self.patch
    }

    fn grid_of(&self, frames: usize, [height, width]: [usize; 2]) -> Grid {
        Grid { frames, height: height / self.patch, width: width / self.patch }
    }

    /// Adds the patches of the frames that one patch takes, all of one size.
    fn push_patches(&self, frames: &[&Picture], values: &mut Vec<f32>) {
        let [rows, columns] = [frames[0].height / self.patch, frames[0].width / self.patch];
        values.reserve(rows * columns * self.patch_length());
        let tables = self.normalised();
        for row in (0..rows).step_by(self.merge) {
            for column in (0..columns).step_by(self.merge) {
                for inner in 0..self.merge * self.merge {
                    let top = (row + inner / self.merge) * self.patch;
                    let left = (column + inner % self.merge) * self.patch;
                    for (channel, table) in tables.iter().enumerate() {
                        for frame in frames {
                            for y in top..top + self.patch {
                                let start = (y * frame.width + left) * 3 + channel;
                                let pixels = frame.values[start..].iter().step_by(3).take(self.patch);
                                values.extend(pixels.map(|value| table[usize::from(*value)]));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Returns the normalised value of each of the 256 values of each channel. Rescaling is folded into mean and
    /// deviation, in single precision, as transformers' torchvision backend does it.
    fn normalised(&self) -> [[f32; 256]; 3] {
        let white = (1.0 / self.rescale) as f32;
        std::array::from_fn(|channel| {
            let (mean, deviation) = (self.mean[channel] * white, self.deviation[channel] * white);
            std::array::from_fn(|value| (value as f32 - mean) / deviation)
        })
    }
}

//! The way from pixels to the patches that a vision tower reads, equal to the Hugging Face fast processor bit for bit.
//!
//! `settings` reads how a checkpoint wants its images; `size` chooses the size that an image is brought to; `resize`
//! interpolates; `patches` normalises and orders. Decoding files is not done here.

mod patches;
mod resize;
mod settings;
mod size;

pub use patches::Patches;
pub use settings::{ImageSettings, PixelLimits, SettingsError};
pub use size::SizeError;

/// A picture of 8-bit RGB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    height: usize,
    width: usize,
    /// `[height, width, 3]`, row-major.
    values: Vec<u8>,
}

/// The number of patches of a picture or video along each axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Patches in time: pairs of frames, where the tower takes two at a time. 1 for a picture.
    pub frames: usize,
    /// Patches from top to bottom.
    pub height: usize,
    /// Patches from left to right.
    pub width: usize,
}

impl Picture {
    /// A picture of `values`, `[height, width, 3]` in row-major order; `None` if there are not as many, or none.
    pub fn new(height: usize, width: usize, values: Vec<u8>) -> Option<Self> {
        let expected = height.checked_mul(width)?.checked_mul(3)?;
        (expected == values.len() && expected > 0).then_some(Picture { height, width, values })
    }

    /// Rows of pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Pixels of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// `[height, width, 3]`, row-major.
    pub fn values(&self) -> &[u8] {
        &self.values
    }
}

impl Grid {
    /// Patches in all.
    pub fn patches(self) -> usize {
        self.frames * self.height * self.width
    }

    /// Tokens of the text, of which each stands for `merge` by `merge` patches.
    pub fn tokens(self, merge: usize) -> usize {
        self.patches() / (merge * merge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_has_as_many_values_as_its_size_says() {
        assert!(Picture::new(2, 3, vec![0; 18]).is_some());
        assert!(Picture::new(2, 3, vec![0; 17]).is_none());
        assert!(Picture::new(0, 3, Vec::new()).is_none());
        assert!(Picture::new(usize::MAX, 2, Vec::new()).is_none());
    }
}

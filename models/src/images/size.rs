//! The size that a picture or the frames of a video are brought to: multiples of a patch group, of about the same shape,
//! with an area within limits. The arithmetic is that of `smart_resize` in transformers' processors for Qwen2-VL
//! (pictures) and Qwen3-VL (videos).

use super::PixelLimits;

/// The most that one side may be longer than the other.
const MAX_RATIO: usize = 200;

/// The reason why a picture has no size to be brought to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// One side is far longer than the other.
    #[error("{width} by {height} pixels: one side is more than {MAX_RATIO} times the other\nhelp: crop the picture")]
    Ratio {
        /// Rows of pixels.
        height: usize,
        /// Pixels of a row.
        width: usize,
    },
    /// A video has fewer frames than a patch takes.
    #[error("{found} frames, expected at least {least}\nhelp: write it as a picture")]
    Frames {
        /// Frames of the video.
        found: usize,
        /// Frames of a patch.
        least: usize,
    },
    /// The frames of a video differ in size.
    #[error(
        "frame {index} has {} by {} pixels, the first has {} by {}\nhelp: give a video frames of one size",
        found[1], found[0], first[1], first[0]
    )]
    UnequalFrames {
        /// The frame, counted from 0.
        index: usize,
        /// The frame's height and width.
        found: [usize; 2],
        /// The height and width of the first frame.
        first: [usize; 2],
    },
}

/// Height and width for a picture of `height` by `width` pixels, both multiples of `factor`.
pub(super) fn picture_size(
    height: usize,
    width: usize,
    factor: usize,
    limits: PixelLimits,
) -> Result<[usize; 2], SizeError> {
    check_ratio(height, width)?;
    let sides = [height, width];
    let area = height as f64 * width as f64;
    Ok(within(sides, factor, 1, area, limits))
}

/// Height and width for `frames` frames of `height` by `width` pixels, `group` of which make a patch. The limits count
/// the pixels of all frames.
pub(super) fn video_size(
    frames: usize,
    [height, width]: [usize; 2],
    factor: usize,
    group: usize,
    limits: PixelLimits,
) -> Result<[usize; 2], SizeError> {
    if frames < group {
        return Err(SizeError::Frames { found: frames, least: group });
    }
    let mut sides = [height, width];
    if height < factor || width < factor {
        let scale = (factor as f64 / height as f64).max(factor as f64 / width as f64);
        sides = sides.map(|side| (side as f64 * scale) as usize);
    }
    check_ratio(sides[0], sides[1])?;
    let rounded_frames = round(frames, group) * group;
    let area = frames as f64 * sides[0] as f64 * sides[1] as f64;
    Ok(within(sides, factor, rounded_frames, area, limits))
}

/// The multiples of `factor` next to `sides`; or, if `frames` times their product is outside the limits, those of sides
/// scaled so that `area`, which they have now, is the limit.
fn within(sides: [usize; 2], factor: usize, frames: usize, area: f64, limits: PixelLimits) -> [usize; 2] {
    let nearest = sides.map(|side| round(side, factor) * factor);
    let product = frames.saturating_mul(nearest[0]).saturating_mul(nearest[1]);
    let unit = factor as f64;
    if product > limits.most {
        let beta = (area / limits.most as f64).sqrt();
        sides.map(|side| factor.max((side as f64 / beta / unit).floor() as usize * factor))
    } else if product < limits.least {
        let beta = (limits.least as f64 / area).sqrt();
        sides.map(|side| (side as f64 * beta / unit).ceil() as usize * factor)
    } else {
        nearest
    }
}

/// `number / unit` to the nearest integer, ties to the even one, as Python rounds.
fn round(number: usize, unit: usize) -> usize {
    (number as f64 / unit as f64).round_ties_even() as usize
}

fn check_ratio(height: usize, width: usize) -> Result<(), SizeError> {
    match height.max(width) > MAX_RATIO * height.min(width) {
        true => Err(SizeError::Ratio { height, width }),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: PixelLimits = PixelLimits { least: 65_536, most: 16_777_216 };

    #[test]
    fn halves_go_to_the_even_multiple() {
        let wide = PixelLimits { least: 0, most: usize::MAX };
        for (side, expected) in [(48, 64), (80, 64), (112, 128), (144, 128), (176, 192)] {
            assert_eq!(picture_size(side, side, 32, wide), Ok([expected; 2]), "{side}");
        }
    }

    #[test]
    fn areas_outside_the_limits_are_scaled_to_them() {
        assert_eq!(picture_size(48, 80, 32, LIMITS), Ok([224, 352]));
        assert_eq!(picture_size(1, 150, 32, LIMITS), Ok([32, 3136]));
        assert_eq!(picture_size(1, 200, 32, LIMITS), Ok([32, 3648]));
        assert_eq!(picture_size(201, 1, 32, LIMITS), Err(SizeError::Ratio { height: 201, width: 1 }));
    }
}

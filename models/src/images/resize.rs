//! Bicubic interpolation of 8-bit pixels with antialiasing, as in torchvision on a CPU.
//!
//! Keys' kernel with a = -0.5 is stretched where an image shrinks. Its weights are computed in double precision and
//! rounded to 16-bit fixed point, with the most fractional bits that the largest of them has room for. Rows are
//! interpolated first, and rounded to 8 bits before the columns are. Source: `upsample_avx_bilinear_bicubic_uint8` and
//! `_compute_indices_int16_weights_aa` of PyTorch.

use super::Picture;

/// The kernel reaches this many pixels to either side.
const REACH: f64 = 2.0;

/// The first input pixel of each output pixel, and the weights from there on.
struct Weights {
    taps: Vec<(usize, Vec<i32>)>,
    /// Fractional bits of the weights.
    precision: u32,
}

/// Brings a picture to `height` by `width` pixels.
pub(super) fn resize(picture: &Picture, [height, width]: [usize; 2]) -> Picture {
    let mut values = match width == picture.width {
        true => picture.values.clone(),
        false => across(&picture.values, picture.width, &Weights::new(picture.width, width)),
    };
    if height != picture.height {
        values = down(&values, width * 3, &Weights::new(picture.height, height));
    }
    Picture { height, width, values }
}

/// Interpolates within each row of `width` pixels.
fn across(values: &[u8], width: usize, weights: &Weights) -> Vec<u8> {
    let mut out = Vec::with_capacity(values.len() / width * weights.taps.len());
    for row in values.chunks_exact(width * 3) {
        for (first, taps) in &weights.taps {
            let mut sums = [weights.half(); 3];
            for (weight, pixel) in taps.iter().zip(row[first * 3..].chunks_exact(3)) {
                for (sum, value) in sums.iter_mut().zip(pixel) {
                    *sum += weight * i32::from(*value);
                }
            }
            out.extend(sums.map(|sum| weights.rounded(sum)));
        }
    }
    out
}

/// Interpolates between rows of `length` values.
fn down(values: &[u8], length: usize, weights: &Weights) -> Vec<u8> {
    let mut out = Vec::with_capacity(length * weights.taps.len());
    let mut sums = vec![0; length];
    for (first, taps) in &weights.taps {
        sums.fill(weights.half());
        for (weight, row) in taps.iter().zip(values[first * length..].chunks_exact(length)) {
            for (sum, value) in sums.iter_mut().zip(row) {
                *sum += weight * i32::from(*value);
            }
        }
        out.extend(sums.iter().map(|sum| weights.rounded(*sum)));
    }
    out
}

impl Weights {
    /// Computes the weights from `inputs` pixels to `outputs`.
    fn new(inputs: usize, outputs: usize) -> Self {
        let scale = inputs as f64 / outputs as f64;
        let stretch = scale.max(1.0);
        let support = REACH * stretch;
        let taps: Vec<(usize, Vec<f64>)> = (0..outputs)
            .map(|output| {
                let centre = scale * (output as f64 + 0.5);
                // Casts round towards zero, also below zero.
                let first = ((centre - support + 0.5) as i64).max(0) as usize;
                let end = ((centre + support + 0.5) as usize).min(inputs);
                let mut weights: Vec<f64> =
                    (first..end).map(|input| keys((input as f64 - centre + 0.5) * (1.0 / stretch))).collect();
                let total: f64 = weights.iter().sum();
                if total != 0.0 {
                    weights.iter_mut().for_each(|weight| *weight /= total);
                }
                (first, weights)
            })
            .collect();
        let largest = taps.iter().flat_map(|(_, weights)| weights).fold(0.0_f64, |a, b| a.max(*b));
        let overflows = |precision: &u32| (0.5 + largest * f64::from(1 << (precision + 1))) as i64 >= 1 << 15;
        let precision = (0..22).find(overflows).unwrap_or(22);
        let unit = f64::from(1 << precision);
        let fixed = |weight: &f64| (weight * unit + f64::copysign(0.5, *weight)) as i32;
        let taps = taps.iter().map(|(first, weights)| (*first, weights.iter().map(fixed).collect())).collect();
        Weights { taps, precision }
    }

    /// Returns what a sum begins with, so that cutting it off rounds it.
    fn half(&self) -> i32 {
        1 << (self.precision - 1)
    }

    fn rounded(&self, sum: i32) -> u8 {
        (sum >> self.precision).clamp(0, 255) as u8
    }
}

/// Keys' cubic convolution kernel with a = -0.5.
fn keys(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

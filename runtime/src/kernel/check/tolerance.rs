//! The bounds on the difference of two computations of the same values.

use crate::Dtype;

/// The bounds for one dtype, all relative: to the largest value of an array, or as said.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tolerance {
    dtype: Dtype,
    /// Outputs and gradients against the fallback in float32, on the same inputs, already rounded to the dtype.
    pub(super) fallback: f64,
    /// Outputs and gradients of one machine against another's.
    pub(super) machine: f64,
}

/// Every tolerance of the checks, each with its reason.
const TOLERANCES: [Tolerance; 3] = [
    // 24 bits. Both sides sum in float32, in different orders: the sums of a thousand terms of one size differ by about
    // a thousand roundings of 6e-8 at worst. Machines also differ in fused multiply-add, and in exponentials that are
    // right to two bits here and there.
    Tolerance { dtype: Dtype::F32, fallback: 1e-4, machine: 1e-4 },
    // 11 bits: a rounding is 5e-4. The result is rounded, and so is each intermediate value that a kernel of several
    // launches or a fallback of several operations keeps in the dtype of its inputs. Eight roundings in a row fit.
    Tolerance { dtype: Dtype::F16, fallback: 4e-3, machine: 4e-3 },
    // 8 bits: a rounding is 4e-3. The rest is as above.
    Tolerance { dtype: Dtype::BF16, fallback: 3e-2, machine: 3e-2 },
];

/// Half the step of a finite difference, in float32: the error of a central difference shrinks with its square, that of
/// rounding (1e-7 of the values) grows with its inverse, and the two meet near here.
pub(super) const STEP: f32 = 1e-2;

/// The bounds on the distance of a gradient from measured slopes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// The bound of one entry, relative to its size, to which the other fields contribute.
    pub(super) entry: f64,
    /// The bound of the derivative along a direction, relative to the gradient's length.
    pub(super) along: f64,
    /// The weight of an entry's own size.
    pub(super) own: f64,
    /// The weight of the size of the largest entry for all others, which may be sums of terms as large as that one.
    pub(super) floor: f64,
    /// The weight of the size that outputs and inputs alone give a gradient: terms of this size may cancel each other.
    pub(super) natural: f64,
    /// The least size, where everything is zero.
    pub(super) least: f64,
}

/// The bounds where slopes and gradient are in double precision, by the same source: an entry a hundred thousand times
/// smaller than the largest still has three digits.
pub(super) const EXACT: Bounds =
    Bounds { entry: 1e-6, along: 1e-6, own: 1.0, floor: 1e-2, natural: 0.0, least: f64::MIN_POSITIVE };

/// The bounds where the gradient consists of operations: MLX's exponential has float32's bits in double, too.
pub(super) const OPERATIONS: Bounds =
    Bounds { entry: 1e-5, along: 1e-5, own: 1.0, floor: 1e-1, natural: 0.1, least: f64::MIN_POSITIVE };

/// The bounds where slopes are in double and the gradient in float32: a sum of a thousand terms of one size differs by
/// some thousand roundings of 6e-8 at worst, and one of terms that cancel by 2e-6 of their size.
pub(super) const ROUNDED: Bounds =
    Bounds { entry: 1e-4, along: 1e-4, own: 1.0, floor: 2e-2, natural: 1.0, least: 1e-6 };

/// The bounds for a function that is not computed as the source does it, for example because its angles have the bits
/// of float32. They are relative to the largest entry.
pub(super) const INEXACT: Bounds = Bounds { entry: 1e-4, along: 1e-4, own: 0.0, floor: 1.0, natural: 1.0, least: 1e-6 };

/// The bounds where both are in float32. Rounding leaves 1e-7 sqrt(n) / STEP of the function's value, curvature STEP^2
/// / 6 of its third derivative. A wrong sign or a missing term is off by its whole size.
pub(super) const COARSE: Bounds = Bounds { entry: 2e-3, along: 5e-3, own: 0.0, floor: 1.0, natural: 0.0, least: 1e-3 };

impl Tolerance {
    /// Returns the tolerance of a float dtype, and that of float32 for all others, whose values are compared exactly.
    pub(super) fn new(dtype: Dtype) -> Tolerance {
        TOLERANCES.into_iter().find(|tolerance| tolerance.dtype == dtype).unwrap_or(TOLERANCES[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_has_its_own_bounds_in_the_order_of_its_bits() {
        let of = |dtype| Tolerance::new(dtype).fallback;
        assert!(of(Dtype::F32) < of(Dtype::F16) && of(Dtype::F16) < of(Dtype::BF16));
        for tolerance in TOLERANCES {
            assert!(tolerance.dtype.is_float());
            assert_eq!(Tolerance::new(tolerance.dtype).fallback, tolerance.fallback);
        }
    }
}

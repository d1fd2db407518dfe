//! How far apart two computations of the same values may be.

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
    // 24 bits. Both sides sum in float32, in different orders: a sum of a thousand terms of one size differs by some
    // thousand roundings of 6e-8 at worst. Between machines also by fused multiply-add, and by exponentials that are right
    // to two bits here and there.
    Tolerance { dtype: Dtype::F32, fallback: 1e-4, machine: 1e-4 },
    // 11 bits, roundings of 5e-4: of the result, and of each intermediate value that a kernel of several launches or a
    // fallback of several operations keeps in the dtype of its inputs; eight of them in a row.
    Tolerance { dtype: Dtype::F16, fallback: 4e-3, machine: 4e-3 },
    // 8 bits, roundings of 4e-3; as above.
    Tolerance { dtype: Dtype::BF16, fallback: 3e-2, machine: 3e-2 },
];

/// Half the step of a finite difference, in float32: the error of a central difference shrinks with its square, that of
/// rounding (1e-7 of the values) grows with its inverse, and the two meet near here.
pub(super) const STEP: f32 = 1e-2;

/// How far a directional derivative may be from the finite difference, relative to the gradient's length: rounding leaves
/// 1e-7 sqrt(n) / STEP of the function's value, curvature STEP^2 / 6 of its third derivative. A wrong sign or a missing
/// term is off by its whole size.
pub(super) const DIFFERENCE: f64 = 5e-3;

/// How far an entry of the Jacobian may be from the finite difference, relative to the largest entry. One output and one
/// input at a time: no rounding of a long sum, so that curvature is what is left.
pub(super) const JACOBIAN: f64 = 2e-3;

impl Tolerance {
    /// Of a float dtype; those of float32 for all others, whose values are compared exactly.
    pub(super) fn of(dtype: Dtype) -> Tolerance {
        TOLERANCES.into_iter().find(|tolerance| tolerance.dtype == dtype).unwrap_or(TOLERANCES[0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_float_has_its_own_bounds_in_the_order_of_its_bits() {
        let of = |dtype| Tolerance::of(dtype).fallback;
        assert!(of(Dtype::F32) < of(Dtype::F16) && of(Dtype::F16) < of(Dtype::BF16));
        for tolerance in TOLERANCES {
            assert!(tolerance.dtype.is_float());
            assert_eq!(Tolerance::of(tolerance.dtype).fallback, tolerance.fallback);
        }
    }
}

//! `e^x` and the sigmoid as straight-line arithmetic, which the compiler turns into vector instructions.

/// `e^x` of a float32, within 2 units in the last place; underflows gradually, overflows to infinity, keeps NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`, and `e^r` by the polynomial of Cephes' `expf` (Moshier, 1989). `2^n` is
/// multiplied in two halves, so that neither leaves the exponent's range.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Beyond these values the result is 0 or infinity in any case. Comparisons let NaN through, as `clamp` does not
    // promise to.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    // Adding 1.5 * 2^23 rounds to the nearest integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let shifted = x.mul_add(std::f32::consts::LOG2_E, ROUND);
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    let whole = shifted - ROUND;
    // ln 2 is split in two parts. The first ends in zeros, so that its product with `whole` is exact.
    let r = whole.mul_add(-355.0 / 512.0, x);
    let r = whole.mul_add(2.121_944_4e-4, r);
    let p = 1.987_569_1e-4_f32;
    let p = p.mul_add(r, 1.398_199_9e-3);
    let p = p.mul_add(r, 8.333_452e-3);
    let p = p.mul_add(r, 4.166_579_6e-2);
    let p = p.mul_add(r, 1.666_666_5e-1);
    let p = p.mul_add(r, 0.5);
    let e_to_r = p.mul_add(r * r, r + 1.0);
    let half = n >> 1;
    e_to_r * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// `2^n` for an exponent in range.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_units_in_the_last_place() {
        let mut x = -87.0_f32;
        while x < 88.7 {
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.0 * f64::from(f32::EPSILON), "e^{x} is {}, expected {exact}", exp(x));
            x += 0.003_7;
        }
    }

    #[test]
    fn exp_keeps_to_the_ends_of_the_range() {
        for (x, expected) in [
            (0.0, 1.0),
            (f32::NEG_INFINITY, 0.0),
            (-1e30, 0.0),
            (f32::INFINITY, f32::INFINITY),
            (89.0, f32::INFINITY),
            (-100.0, (-100.0_f64).exp() as f32),
        ] {
            let found = exp(x);
            assert!((found - expected).abs() <= f32::from_bits(1) || found == expected, "e^{x} is {found}");
        }
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn the_sigmoid_ends_at_zero_and_one() {
        for (x, expected) in [(0.0, 0.5), (200.0, 1.0), (-200.0, 0.0), (f32::NEG_INFINITY, 0.0)] {
            assert_eq!(sigmoid(x), expected, "{x}");
        }
        assert!(sigmoid(f32::NAN).is_nan());
    }
}

//! The checker finds wrong gradients: kernels that are wrong on purpose, and what is said about each.

use cotangent::kernel::{Kernel, check::check};
use cotangent::{Dtype, Graph, Infer, Result, Session, Tensor, differentiable};

/// The names of the comparisons that fail at plain inputs of the declared sizes.
fn failures<K: Kernel>() -> Vec<String> {
    let report = check(&mut Session::new().unwrap(), K::declaration()).unwrap();
    assert!(!report.comparisons().is_empty());
    let failed = report.comparisons().iter().filter(|comparison| !comparison.passed());
    let subjects = failed.map(|comparison| comparison.subject.clone());
    let plain = ["(N = 5)", "(S = 5)", "(S = 5, bfloat16)", "(S = 1, bfloat16)"];
    subjects.filter(|subject| plain.iter().any(|plain| subject.ends_with(plain))).collect()
}

type Value = Tensor<Infer>;

/// `y = function(x, w)` with the gradients `d_x(w, d_y)` and `d_w(x, w, d_y)`.
macro_rules! quotient {
    ($name:ident, $backward:ident, $function:expr, $d_x:expr, $d_w:expr) => {
        #[differentiable(untested = "a test looks at it", backward = $backward, fallback = by_operations, cases = [(N = 5)])]
pub fn $name(x: In![f32; N], #[values(1.0..2.0)] w: In![f32; N], y: Out![f32; N]) {
            let function: fn(&Value, &Value) -> Result<Value> = $function;
            Ok(Outputs { y: function(x, w)? })
        }

        #[differentiable(backward_of = $name)]
pub fn $backward(x: In![f32; N], w: In![f32; N], d_y: In![f32; N], d_x: Out![f32; N], d_w: Out![f32; N]) {
            let d_x: fn(&Value, &Value) -> Result<Value> = $d_x;
            let d_w: fn(&Value, &Value, &Value) -> Result<Value> = $d_w;
            Ok(Outputs { d_x: Some(d_x(w, d_y)?), d_w: Some(d_w(x, w, d_y)?) })
        }
    };
}

fn by_operations<M: Graph>(x: &Tensor<M>, w: &Tensor<M>) -> Result<Tensor<M>> {
    x.divide(w)
}

fn true_d_w(x: &Value, w: &Value, d_y: &Value) -> Result<Value> {
    d_y.multiply(x)?.divide(&w.square()?)?.negative()
}

quotient!(right, right_backward, |x, w| x.divide(w), |w, d_y| d_y.divide(w), true_d_w);
quotient!(wrong_sign, wrong_sign_backward, |x, w| x.divide(w), |w, d_y| d_y.divide(w), |x, w, d_y| {
    true_d_w(x, w, d_y)?.negative()
});
quotient!(
    no_cotangent,
    no_cotangent_backward,
    |x, w| x.divide(w),
    |w, d_y| d_y.multiply(0.0)?.add(1.0)?.divide(w),
    true_d_w
);
quotient!(
    other_function,
    other_function_backward,
    |x, w| x.divide(w)?.multiply(1.001),
    |w, d_y| d_y.divide(w)?.multiply(1.001),
    |x, w, d_y| true_d_w(x, w, d_y)?.multiply(1.001)
);

#[test]
fn a_right_gradient_passes() {
    assert_eq!(failures::<right>(), Vec::<String>::new());
}

#[test]
fn a_wrong_sign_is_found_in_the_input_that_has_it() {
    assert_eq!(
        failures::<wrong_sign>(),
        [
            "kernel gradient of `w` against finite differences (N = 5)",
            "kernel gradient of `w` by entry against finite differences (N = 5)",
            "gradient of `w`, kernel against fallback (N = 5)",
            "gradient of `w` by entry, kernel against fallback (N = 5)"
        ]
    );
}

#[test]
fn a_forgotten_cotangent_is_found() {
    assert_eq!(
        failures::<no_cotangent>(),
        [
            "kernel gradient of `x` against finite differences (N = 5)",
            "kernel gradient of `x` by entry against finite differences (N = 5)",
            "gradient of `x`, kernel against fallback (N = 5)",
            "gradient of `x` by entry, kernel against fallback (N = 5)"
        ]
    );
}

#[test]
fn a_pair_that_computes_another_function_than_its_fallback_is_found() {
    assert_eq!(
        failures::<other_function>(),
        [
            // The slopes are measured on the kernel, whose own pair is right.
            "fallback gradient of `x` against finite differences (N = 5)",
            "fallback gradient of `x` by entry against finite differences (N = 5)",
            "fallback gradient of `w` against finite differences (N = 5)",
            "fallback gradient of `w` by entry against finite differences (N = 5)",
            "output `y`, kernel against fallback (N = 5)",
            "gradient of `x`, kernel against fallback (N = 5)",
            "gradient of `w`, kernel against fallback (N = 5)"
        ]
    );
}

/// Right in float32, but the gradient loses half of its bits where its inputs are half precision.
#[differentiable(untested = "it is wrong on purpose", backward = coarse_backward, fallback = squared_by_operations, cases = [(S = 5)])]
pub fn coarse<T: F32 + BF16>(x: In![T; S], y: Out![T; S]) {
    Ok(Outputs { y: x.multiply(x)? })
}

#[differentiable(backward_of = coarse)]
pub fn coarse_backward<T: F32 + BF16>(x: In![T; S], d_y: In![T; S], d_x: Out![T; S]) {
    let product = d_y.multiply(x)?.multiply(2.0)?;
    let lost = if T == Dtype::BF16 { 0.05 } else { 0.0 };
    Ok(Outputs { d_x: Some(product.add(&product.multiply(lost)?)?) })
}

fn squared_by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.multiply(x)
}

#[test]
fn half_precision_is_checked_where_a_dtype_parameter_allows_it_and_so_is_one_token() {
    assert_eq!(
        failures::<coarse>(),
        [
            "gradient of `x`, kernel against fallback in float32 (S = 5, bfloat16)",
            "gradient of `x`, kernel against fallback in float32 (S = 1, bfloat16)"
        ]
    );
}

/// Right where `x` is positive, and no number elsewhere.
#[differentiable(untested = "it is wrong on purpose", backward = hole_backward, fallback = squared_by_operations, cases = [(S = 5)])]
pub fn hole(x: In![f32; S], y: Out![f32; S]) {
    Ok(Outputs { y: x.multiply(x)? })
}

#[differentiable(backward_of = hole)]
pub fn hole_backward(x: In![f32; S], d_y: In![f32; S], d_x: Out![f32; S]) {
    let holes = x.sqrt()?.multiply(0.0)?;
    Ok(Outputs { d_x: Some(d_y.multiply(x)?.multiply(2.0)?.add(&holes)?) })
}

#[test]
fn nan_is_never_a_small_deviation() {
    let failed = failures::<hole>();
    assert!(failed.contains(&"kernel gradient of `x` against finite differences (S = 5)".to_owned()), "{failed:?}");
    assert!(failed.contains(&"gradient of `x`, kernel against fallback (S = 5)".to_owned()), "{failed:?}");
}

//! Inputs that a call may leave out: in launches, in Rust bodies, in stages and in fallbacks.

use cotangent::kernel::check::{check, check_on};
use cotangent::kernel::{Kernel, kernels};
use cotangent::{
    Backend, Constant, Graph, Infer, Mask, Mode, Parameters, Result, Session, Stored, Tensor, Train, Trainable,
    differentiable, stage, value_and_grad,
};

/// `y = (x w + bias) keep`, as one launch; the weight, the bias and the mask may be missing.
#[differentiable(
    backward = affine_backward,
    fallback = affine_by_operations,
    grid = (B * D, 1, 1),
    threads = (32, 1, 1),
    cases = [(B = 3, D = 5), (B = 2, D = 1)],
)]
pub fn affine(
    x: In![f32; B, D],
    w: Option<In![f32; D]>,
    bias: Option<In![f32; D]>,
    keep: Option<In![bool; B, D]>,
    y: Out![f32; B, D],
) {
    metal! {
        uint i = thread_position_in_grid.x;
        float value = x[i];
        if (HAS_w) { value *= w[i % D]; }
        if (HAS_bias) {
            const device float* start = bias;
            value += start[i % D];
        }
        if (HAS_keep) { value = keep[i] ? value : 0.0f; }
        y[i] = value;
    }
}

#[differentiable(backward_of = affine, grid = (D, 1, 1), threads = (32, 1, 1))]
pub fn affine_backward(
    x: In![f32; B, D],
    w: Option<In![f32; D]>,
    keep: Option<In![bool; B, D]>,
    d_y: In![f32; B, D],
    d_x: Out![f32; B, D],
    d_w: Option<Out![f32; D]>,
    d_bias: Option<Out![f32; D]>,
) {
    metal! {
        uint j = thread_position_in_grid.x;
        float through_w = 0.0f;
        float through_bias = 0.0f;
        for (int b = 0; b < B; ++b) {
            uint i = b * D + j;
            float d = d_y[i];
            if (HAS_keep) { d = keep[i] ? d : 0.0f; }
            float scale = 1.0f;
            if (HAS_w) { scale = w[j]; }
            d_x[i] = d * scale;
            through_w += d * x[i];
            through_bias += d;
        }
        if (WANTS_d_w) { d_w[j] = through_w; }
        if (WANTS_d_bias) { d_bias[j] = through_bias; }
    }
}

fn affine_by_operations<M: Graph>(inputs: AffineInputs<'_, M>) -> Result<Tensor<M>> {
    let AffineInputs { x, w, bias, keep } = inputs;
    let mut y = x.clone();
    if let Some(w) = w {
        y = y.multiply(w)?;
    }
    if let Some(bias) = bias {
        y = y.add(bias)?;
    }
    if let Some(keep) = keep { y.select(keep, 0.0) } else { Ok(y) }
}

#[stage(grid = (N, 1, 1), threads = (32, 1, 1), cases = [(N = 3)])]
fn shifted<T: Float>(x: In![T; N], #[nodiff] by: Option<In![T; N]>, y: Out![T; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        T value = x[i];
        if (HAS_by) { value += by[i]; }
        y[i] = value;
    }
}

/// A Rust body that passes an optional input on to a stage.
#[differentiable(backward = shift_backward, fallback = shift_by_operations, stages = [shifted], cases = [(N = 3)])]
pub fn shift<T: Float>(x: In![T; N], #[nodiff] by: Option<In![T; N]>, y: Out![T; N]) {
    Ok(Outputs { y: shifted(stages, x, by)? })
}

#[differentiable(backward_of = shift)]
pub fn shift_backward<T: Float>(d_y: In![T; N], d_x: Out![T; N]) {
    Ok(Outputs { d_x: Some(d_y.clone()) })
}

fn shift_by_operations<M: Graph>(x: &Tensor<M>, by: Option<&Constant>) -> Result<Tensor<M>> {
    match by {
        Some(by) => x.add(by),
        None => Ok(x.clone()),
    }
}

/// Asks, and reads all the same.
#[stage(untested = "it reads what is absent", grid = (N, 1, 1), threads = (32, 1, 1), cases = [(N = 3)])]
fn careless(x: In![f32; N], by: Option<In![f32; N]>, y: Out![f32; N]) {
    metal! {
        uint i = thread_position_in_grid.x;
        y[i] = HAS_by ? x[i] : by[i];
    }
}

#[test]
fn every_case_is_checked_with_all_inputs_and_without_each_optional_one() {
    let mut session = Session::new().unwrap();
    for (declaration, absences) in [
        (
            affine::declaration(),
            &["", "without `w`", "without `bias`", "without `keep`", "without `w`, without `bias`"][..],
        ),
        (shift::declaration(), &["", "without `by`"][..]),
    ] {
        let report = check(&mut session, declaration).unwrap();
        assert!(report.passed(), "{report}");
        for absence in absences {
            assert!(report.comparisons().iter().any(|one| one.subject.contains(absence)), "{absence} in {report}");
        }
    }
    let report = check(&mut session, affine::declaration()).unwrap();
    let subject = "gradient of `w`, kernel against fallback (B = 3, D = 5, without `bias`)";
    assert!(report.comparisons().iter().any(|one| one.subject == subject), "{report}");
    assert!(
        !report.comparisons().iter().any(|one| one.subject.contains("of `w`") && one.subject.contains("without `w`"))
    );
}

#[test]
fn a_text_that_reads_what_is_absent_is_found() {
    let error = check_on(Backend::Emulated, careless::declaration()).unwrap_err().to_string();
    assert!(error.contains("out of bounds"), "{error}");
    assert!(error.contains("`by` is optional, and absent in this call: read it where `HAS_by` holds"), "{error}");
}

#[derive(Parameters)]
struct Layer<M: Mode> {
    w: Tensor<M>,
    bias: Option<Tensor<M>>,
}

fn layer(bias: bool) -> Layer<Stored> {
    let tensor = |values: &[f32]| Tensor::from_slice(values, &[2]).unwrap();
    Layer { w: tensor(&[2.0, 3.0]), bias: bias.then(|| tensor(&[10.0, 20.0])) }
}

#[test]
fn a_model_trains_with_and_without_the_optional_parameter() {
    let mut session = Session::new().unwrap();
    let loss = |layer: &Layer<Train>, keep: &Option<Mask>| -> Result<Tensor<Train>> {
        let x = Constant::from_slice(&[1.0, 2.0, 3.0, 4.0], &[2, 2])?.to_tensor();
        affine(AffineInputs { x: &x, w: Some(&layer.w), bias: layer.bias.as_ref(), keep: keep.as_ref() })?.sum_all()
    };
    let keep = Some(Mask::from_slice(&[true, true, false, true], &[2, 2]).unwrap());
    // 1 * 2 + 2 * 3 + 3 * 2 + 4 * 3 = 26; without the third term 20; each kept element adds its bias.
    for (bias, keep, value, d_w, d_bias) in [
        (false, None, 26.0, [4.0, 6.0], None),
        (true, None, 86.0, [4.0, 6.0], Some([2.0, 2.0])),
        (true, keep.clone(), 70.0, [1.0, 6.0], Some([1.0, 2.0])),
        (false, keep, 20.0, [1.0, 6.0], None),
    ] {
        let layer = layer(bias);
        let trainable = Trainable::new(&layer, |_| true).unwrap();
        let (found, gradients) = value_and_grad(&mut session, &layer, &trainable, &keep, loss).unwrap();
        assert_eq!(found.item::<f32>().unwrap(), value);
        assert_eq!(gradients.get("w").unwrap().to_vec::<f32>().unwrap(), d_w);
        assert_eq!(gradients.get("bias").map(|bias| bias.to_vec::<f32>().unwrap()), d_bias.map(Vec::from));
    }
}

#[test]
fn what_is_there_must_still_fit() {
    let x = vec![Tensor::from_slice(&[1.0_f32; 6], &[2, 3]).unwrap()];
    let run: fn(&Vec<Tensor<Infer>>, &Vec<Tensor<Infer>>, &()) -> Result<Tensor<Infer>> =
        |x, _, ()| affine(AffineInputs { x: &x[0], w: None, bias: Some(&x[0]), keep: None });
    let error = Session::new().unwrap().infer(&x, &x, &(), run).unwrap_err();
    assert_eq!(error.to_string(), "kernel `affine`, port `bias`: found shape [2, 3], expected [D], which has 1 axis");
}

#[test]
fn the_signature_says_what_may_be_absent() {
    let optional: Vec<&str> =
        affine::SIGNATURE.inputs.iter().filter(|port| port.optional).map(|port| port.name).collect();
    assert_eq!(optional, ["w", "bias", "keep"]);
    assert!(kernels().iter().any(|kernel| kernel.signature.name == "careless"));
}

//! Where a backend has no counterpart of a kernel's source at the sizes of a call, the fallback runs: for the whole call, or,
//! if only the backward is refused, for the gradient.

use cotangent::{Backend, Error, Graph, Mode, Parameters, Result, Session, Stored, Tensor, Train, Trainable};
use cotangent::{differentiable, value_and_grad};

/// The error of a launch whose text has no counterpart.
fn refused(kernel: &'static str) -> Error {
    Error::Untranslated { kernel, backend: Backend::Cuda, message: "its threads meet".to_owned() }
}

/// Doubles; refused for seven columns. To tell the two ways apart, the kernel adds one, and its backward triples.
#[differentiable(
    untested = "it is wrong, to tell the two ways apart",
    backward = doubled_backward,
    fallback = doubled_by_operations,
    cases = [(B = 1, D = 7), (B = 3, D = 4)])]
pub fn doubled(x: In![f32; B, D], y: Out![f32; B, D]) {
    if D == 7 {
        return Err(refused("doubled"));
    }
    Ok(Outputs { y: x.multiply(2.0)?.add(1.0)? })
}

/// Refused for five columns.
#[differentiable(backward_of = doubled)]
pub fn doubled_backward(d_y: In![f32; B, D], d_x: Out![f32; B, D]) {
    if D == 5 {
        return Err(refused("doubled_backward"));
    }
    Ok(Outputs { d_x: Some(d_y.multiply(3.0)?) })
}

fn doubled_by_operations<M: Graph>(x: &Tensor<M>) -> Result<Tensor<M>> {
    x.multiply(2.0)
}

/// Refused for one element, without anything to fall back on.
#[differentiable(backward = lonely_backward, cases = [(B = 2), (B = 3)])]
pub fn lonely(x: In![f32; B], y: Out![f32; B]) {
    if B == 1 {
        return Err(refused("lonely"));
    }
    Ok(Outputs { y: x.clone() })
}

/// Never reached.
#[differentiable(backward_of = lonely)]
pub fn lonely_backward(d_y: In![f32; B], d_x: Out![f32; B]) {
    Ok(Outputs { d_x: Some(d_y.clone()) })
}

#[derive(Parameters)]
struct Model<M: Mode> {
    x: Tensor<M>,
}

fn loss(model: &Model<Train>, _: &()) -> Result<Tensor<Train>> {
    doubled(&model.x)?.sum(&[0, 1])
}

fn lonely_loss(model: &Model<Train>, _: &()) -> Result<Tensor<Train>> {
    lonely(&model.x)?.sum(&[0])
}

#[test]
fn the_fallback_runs_for_what_is_refused() {
    let mut session = Session::new().unwrap();
    for (columns, way, value, gradient) in [
        (4, "the pair", 4.0 * 3.0, 3.0),
        (5, "the kernel with its fallback's gradient", 5.0 * 3.0, 2.0),
        (7, "the fallback", 7.0 * 2.0, 2.0),
    ] {
        let model = Model::<Stored> { x: Tensor::from_slice(&vec![1.0_f32; columns], &[1, columns as i32]).unwrap() };
        let trainable = Trainable::new(&model, |_| true).unwrap();
        let (found, gradients) = value_and_grad(&mut session, &model, &trainable, &(), loss).unwrap();
        assert_eq!(found.item::<f32>().unwrap(), value, "{way}");
        assert_eq!(gradients.get("x").unwrap().to_vec::<f32>().unwrap(), vec![gradient; columns], "{way}");
    }
}

#[test]
fn without_a_fallback_the_refusal_is_the_error() {
    let mut session = Session::new().unwrap();
    let model = Model::<Stored> { x: Tensor::from_slice(&[1.0_f32], &[1]).unwrap() };
    let trainable = Trainable::new(&model, |_| true).unwrap();
    let error = value_and_grad(&mut session, &model, &trainable, &(), lonely_loss).map(|_| ()).unwrap_err();
    assert_eq!(error, refused("lonely"));
    let message = "kernel `lonely` cannot run on the cuda backend at these sizes: its threads meet";
    assert_eq!(error.to_string(), message);
}

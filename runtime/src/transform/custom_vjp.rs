//! Functions that bring their own backward.

use mlx_rs::Array;

use crate::cut::Pause;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::ffi::{Closure, Custom};
use crate::mode::{Graph, Infer};
use crate::tensor::{Origin, Tensor, TraceId};

/// One gradient per primal, checked: MLX takes a missing one for the cotangent and any shape for the right one.
fn check_gradients(function: &'static str, primals: &[Array], gradients: &[Array]) -> Result<()> {
    let fail = |message| Err(Error::Gradient { function, message });
    if gradients.len() != primals.len() {
        return fail(format!(
            "found {} gradients, expected one for each of {} primals",
            gradients.len(),
            primals.len()
        ));
    }
    for (index, (gradient, primal)) in gradients.iter().zip(primals).enumerate() {
        if gradient.shape() != primal.shape() || Dtype::from_mlx(gradient.dtype()) != Dtype::from_mlx(primal.dtype()) {
            let show = |array: &Array| format!("{} {:?}", Dtype::from_mlx(array.dtype()), array.shape());
            return fail(format!("gradient {index} is {}, expected {} as its primal", show(gradient), show(primal)));
        }
    }
    Ok(())
}

/// Calls `forward` so that MLX asks `backward` for its gradient.
///
/// Whatever `forward` reads must be among `inputs`: MLX gives a captured array gradient zero, silently.
/// `backward` gets primals, cotangents (zero where an output was not used) and outputs; it returns one gradient
/// for every input, integers included.
pub(crate) fn custom_vjp_arrays(
    name: &'static str,
    inputs: &[Array],
    forward: impl Fn(&[Array]) -> Result<Vec<Array>> + Send + 'static,
    backward: impl Fn(&[Array], &[Array], &[Array]) -> Result<Vec<Array>> + Send + 'static,
) -> Result<Vec<Array>> {
    let backward = Custom::new(move |primals, cotangents, outputs| {
        let gradients = backward(primals, cotangents, outputs)?;
        check_gradients(name, primals, &gradients)?;
        Ok(gradients)
    });
    Closure::new(forward).with_backward(name, &backward)?.call(name, inputs)
}

/// The forward of [`custom_vjp`].
pub type Forward<H> = fn(&[Tensor<Infer>], &H) -> Result<Vec<Tensor<Infer>>>;

/// The backward of [`custom_vjp`]: (primals, cotangents, outputs, host data) to one gradient per primal.
pub type Backward<H> = fn(&[Tensor<Infer>], &[Tensor<Infer>], &[Tensor<Infer>], &H) -> Result<Vec<Tensor<Infer>>>;

/// `forward(inputs, host)`, whose gradient is what `backward` says.
///
/// Both are `fn` items: nothing can be captured. `host` is what has no gradient: indices, masks, sizes. Kernels
/// declared with `#[differentiable]` need none of this; it is for compositions of operations whose gradient is known
/// in a better form than MLX would find. [`assert_vjp`](crate::kernel::check::assert_vjp) holds it against finite
/// differences, in a test of one line.
///
/// # Errors
/// What `forward` returns; at the backward pass [`Error::Gradient`] unless there is a gradient of the right shape and
/// dtype for every primal; [`Error::MixedTraces`] if the inputs belong to different graphs; [`Error::Refused`] if a result
/// or a gradient was computed in another graph.
pub fn custom_vjp<M: Graph, H: Clone + Send + 'static>(
    name: &'static str,
    inputs: &[&Tensor<M>],
    host: &H,
    forward: Forward<H>,
    backward: Backward<H>,
) -> Result<Vec<Tensor<M>>> {
    let origin = Origin::join(name, inputs.iter().map(|input| input.origin()))?;
    let arrays: Vec<Array> = inputs.iter().map(|input| input.array().clone()).collect();
    let (forward_host, backward_host) = (host.clone(), host.clone());
    // Nothing differentiates through either of the two, so nothing is cut in them.
    let forward = move |inputs: &[Array]| {
        let _pause = Pause::new();
        let trace = TraceId::fresh();
        unwrap(name, "result", trace, forward(&wrap(trace, inputs), &forward_host)?)
    };
    let outputs = if origin.needs_gradient {
        custom_vjp_arrays(name, &arrays, forward, move |primals, cotangents, outputs| {
            let _pause = Pause::new();
            let trace = TraceId::fresh();
            let [primals, cotangents, outputs] = [primals, cotangents, outputs].map(|arrays| wrap(trace, arrays));
            unwrap(name, "gradient", trace, backward(&primals, &cotangents, &outputs, &backward_host)?)
        })?
    } else {
        forward(&arrays)?
    };
    Ok(outputs.into_iter().map(|array| Tensor::from_parts(array, origin)).collect())
}

fn wrap(trace: TraceId, arrays: &[Array]) -> Vec<Tensor<Infer>> {
    arrays.iter().map(|array| Tensor::from_parts(array.clone(), Origin::of(trace, false))).collect()
}

/// The arrays of what a function returned whose arguments belong to `trace`.
fn unwrap(name: &'static str, what: &str, trace: TraceId, tensors: Vec<Tensor<Infer>>) -> Result<Vec<Array>> {
    let tensors = tensors.into_iter().enumerate();
    tensors.map(|(index, tensor)| tensor.leave(trace, name, || format!("{what} {index}"))).collect()
}

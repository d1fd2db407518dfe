//! Recomputation instead of storage.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use mlx_rs::Array;

use crate::cut::Pause;
use crate::error::{Error, Result};
use crate::ffi::Closure;
use crate::mode::{Stored, Train};
use crate::parameters::{Parameters, Path};
use crate::tensor::{Origin, Tensor, TraceId};

/// `layer(parameters, inputs)`, whose intermediate results are recomputed in the backward pass instead of kept.
///
/// `layer` is a `fn` item, and parameters and inputs become explicit arguments of MLX's checkpoint: an array it
/// captured would get gradient zero, silently. The [block driver](super::train_stack) makes this unnecessary for
/// whole models; it is for the inside of a block.
///
/// # Errors
/// What `layer` returns; [`Error::MixedTraces`] if parameters and inputs belong to different graphs.
pub fn checkpoint<P>(
    parameters: &P,
    inputs: &[&Tensor<Train>],
    layer: fn(&P, &[Tensor<Train>]) -> Result<Vec<Tensor<Train>>>,
) -> Result<Vec<Tensor<Train>>>
where
    P: Parameters<Mode = Train> + 'static,
    P::In<Stored>: Parameters<Mode = Stored, In<Train> = P> + Send + 'static,
{
    let operation = "checkpoint";
    let mut origins = Vec::new();
    let mut arrays = Vec::new();
    // The closure outlives this call, so it keeps the tree's shape but none of its arrays.
    let placeholder = Array::from_f32(0.0);
    let skeleton = parameters.convert::<Stored>(&mut Path::root(), &mut |_, tensor| {
        origins.push(tensor.origin());
        arrays.push(tensor.array().clone());
        Ok(Tensor::from_parts(placeholder.clone(), Origin::HOST))
    })?;
    let leaves = arrays.len();
    for input in inputs {
        origins.push(input.origin());
        arrays.push(input.array().clone());
    }
    let outer = Origin::join(operation, origins.iter().copied())?;
    let needs: Vec<bool> = origins.iter().map(|origin| origin.needs_gradient).collect();
    let skeleton = Mutex::new(skeleton);

    let ran = AtomicBool::new(false);
    let closure = Closure::new(move |arrays: &[Array]| {
        // What is recomputed was cut the first time.
        let _pause = ran.swap(true, Ordering::Relaxed).then(Pause::new);
        let trace = TraceId::fresh();
        let mut leaf = 0..leaves;
        let skeleton = skeleton.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let parameters = skeleton.convert::<Train>(&mut Path::root(), &mut |path, _| {
            let index = leaf.next().ok_or_else(|| Error::Parameter {
                name: path.to_string(),
                message: "the tree converts its leaves differently each time".into(),
            })?;
            Ok(Tensor::from_parts(arrays[index].clone(), Origin::of(trace, needs[index])))
        })?;
        let inputs: Vec<_> = (leaves..arrays.len())
            .map(|index| Tensor::from_parts(arrays[index].clone(), Origin::of(trace, needs[index])))
            .collect();
        Ok(layer(&parameters, &inputs)?.into_iter().map(Tensor::into_array).collect())
    });
    let outputs =
        if outer.needs_gradient { closure.checkpointed(operation)? } else { closure }.call(operation, &arrays)?;
    Ok(outputs.into_iter().map(|array| Tensor::from_parts(array, outer)).collect())
}

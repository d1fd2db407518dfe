//! Checkpointed functions, whose intermediate results are recomputed in the backward pass instead of stored.

use std::sync::{Arc, Mutex, PoisonError};

use mlx_rs::Array;

use crate::cut::Pause;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::ffi::Closure;
use crate::mode::{Stored, Train};
use crate::parameters::{Parameters, Path};
use crate::repeat::Repetition;
use crate::running;
use crate::tensor::{Origin, Tensor, TraceId};

/// `layer(parameters, inputs)`, whose intermediate results are recomputed in the backward pass instead of kept.
///
/// `layer` is a `fn` item, and parameters and inputs become explicit arguments of MLX's checkpoint: an array it
/// captured would get gradient zero, silently. The [block driver](super::train_stack) makes this unnecessary for
/// whole models; it is for the inside of a block.
///
/// # Errors
/// What `layer` returns; [`Error::MixedTraces`] if parameters and inputs belong to different graphs;
/// [`Error::Refused`] if a result was computed in another graph, or is another when it is recomputed, as
/// [`train_stack`](super::train_stack) says of blocks.
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
    let skeleton = Mutex::new(skeleton);

    let dtypes: Vec<Dtype> = arrays.iter().map(|array| Dtype::from_mlx(array.dtype())).collect();
    let shapes: Vec<&[i32]> = arrays.iter().map(Array::shape).collect();
    let compares = outer.needs_gradient && running::compares(|| format!("{operation} {layer:p} {shapes:?}"));
    let first = Arc::new(Mutex::new(First::default()));
    let closure = Closure::new({
        let first = Arc::clone(&first);
        move |arrays: &[Array]| {
            let before = lock(&first).outputs.take();
            // Cuts are recorded in the first run only.
            let _pause = before.is_some().then(Pause::new);
            let trace = TraceId::fresh();
            let mut leaf = 0..leaves;
            let parameters = lock(&skeleton).convert::<Train>(&mut Path::root(), &mut |path, _| {
                let index = leaf.next().ok_or_else(|| Error::Parameter {
                    name: path.to_string(),
                    message: "the tree converts its leaves differently each time".into(),
                })?;
                Ok(Tensor::from_parts(arrays[index].clone(), Origin { trace: Some(trace), ..origins[index] }))
            })?;
            let inputs: Vec<_> = (leaves..arrays.len())
                .map(|index| Tensor::from_parts(arrays[index].clone(), Origin { trace: Some(trace), ..origins[index] }))
                .collect();
            let results = layer(&parameters, &inputs)?;
            let origins = results.iter().map(Tensor::origin).collect();
            let outputs = results.into_iter().enumerate().map(|(index, result)| {
                result.leave(trace, operation, || format!("result {index} of the checkpointed function"))
            });
            let outputs = outputs.collect::<Result<Vec<Array>>>()?;
            if let Some(before) = before {
                for (index, (before, again)) in before.iter().zip(&outputs).enumerate() {
                    let name = format!("result {index} of the checkpointed function");
                    running::repeated(Repetition::new(operation, &name, dtypes.iter().copied(), [before, again])?);
                }
            } else {
                *lock(&first) = First { outputs: Some(if compares { outputs.clone() } else { Vec::new() }), origins };
            }
            Ok(outputs)
        }
    });
    let outputs =
        if outer.needs_gradient { closure.checkpointed(operation)? } else { closure }.call(operation, &arrays)?;
    let origins = std::mem::take(&mut lock(&first).origins);
    // A result that no parameter reaches inside needs no gradient outside.
    let outputs = outputs.into_iter().zip(origins);
    Ok(outputs.map(|(array, inner)| Tensor::from_parts(array, Origin { trace: outer.trace, ..inner })).collect())
}

/// The results of the function's first run.
#[derive(Default)]
struct First {
    /// `None` until it has run, and empty unless they are compared.
    outputs: Option<Vec<Array>>,
    origins: Vec<Origin>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

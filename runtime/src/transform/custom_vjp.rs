//! Functions with their own backward.

use mlx_rs::Array;

use crate::cut::Pause;
use crate::dtype::Dtype;
use crate::error::{Error, Result};
use crate::ffi::{Closure, Custom};
use crate::mode::{Graph, Infer};
use crate::tensor::{Origin, Tensor, TraceId};

/// One gradient per primal, checked: MLX takes a missing one for the cotangent and any shape for the right one.
fn check_gradients(
    function: &'static str,
    names: &[&'static str],
    primals: &[Array],
    gradients: &[Array],
) -> Result<()> {
    let fail = |message| Err(Error::Gradient { function, message });
    if gradients.len() != primals.len() {
        return fail(format!("found {} gradients, expected one for each of {}", gradients.len(), listed(names)));
    }
    for ((gradient, primal), name) in gradients.iter().zip(primals).zip(names) {
        if gradient.shape() != primal.shape() || Dtype::from_mlx(gradient.dtype()) != Dtype::from_mlx(primal.dtype()) {
            let show = |array: &Array| format!("{} {:?}", Dtype::from_mlx(array.dtype()), array.shape());
            return fail(format!(
                "gradient of `{name}` is {}, expected {} as its primal",
                show(gradient),
                show(primal)
            ));
        }
    }
    Ok(())
}

/// `` `x`, `weight` ``.
fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Calls `forward` so that MLX asks `backward` for its gradient.
///
/// Whatever `forward` reads must be among `inputs`: MLX gives a captured array gradient zero, silently.
/// `backward` gets primals, cotangents (zero where an output was not used) and outputs; it returns one gradient
/// for every input, integers included. `names` are those of the inputs.
pub(crate) fn custom_vjp_arrays(
    name: &'static str,
    names: Vec<&'static str>,
    inputs: &[Array],
    forward: impl Fn(&[Array]) -> Result<Vec<Array>> + Send + 'static,
    backward: impl Fn(&[Array], &[Array], &[Array]) -> Result<Vec<Array>> + Send + 'static,
) -> Result<Vec<Array>> {
    let backward = Custom::new(move |primals, cotangents, outputs| {
        let gradients = backward(primals, cotangents, outputs)?;
        check_gradients(name, &names, primals, &gradients)?;
        Ok(gradients)
    });
    Closure::new(forward).with_backward(name, &backward)?.call(name, inputs)
}

/// The forward of a [`CustomVjp`], which [`custom_vjp!`](macro@crate::custom_vjp) makes from a function of named inputs.
pub type Forward<H> = fn(&[Tensor<Infer>], &H) -> Result<Vec<Tensor<Infer>>>;

/// The backward of a [`CustomVjp`]: (primals, cotangents, outputs, host data) to one gradient per primal. Outputs that are
/// kept for it have no cotangent that counts.
pub type Backward<H> = fn(&[Tensor<Infer>], &[Tensor<Infer>], &[Tensor<Infer>], &H) -> Result<Vec<Tensor<Infer>>>;

/// A function that brings its own backward. [`custom_vjp!`](macro@crate::custom_vjp) declares it, with the test that holds
/// the backward against finite differences.
pub struct CustomVjp<H> {
    pub(crate) name: &'static str,
    /// Names of the inputs, the optional ones last.
    pub(crate) inputs: &'static [&'static str],
    /// The number of inputs that a call cannot leave out.
    required: usize,
    /// Names of the results that a caller sees.
    outputs: &'static [&'static str],
    forward: Forward<H>,
    backward: Backward<H>,
    pub(crate) cases: fn() -> Result<Vec<VjpCase<H>>>,
}

impl<H> Clone for CustomVjp<H> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<H> Copy for CustomVjp<H> {}

impl<H> std::fmt::Debug for CustomVjp<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CustomVjp").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<H> CustomVjp<H> {
    /// The expansion of [`custom_vjp!`](macro@crate::custom_vjp), which adds the test.
    #[doc(hidden)]
    pub const fn declared(
        name: &'static str,
        (inputs, required): (&'static [&'static str], usize),
        outputs: &'static [&'static str],
        forward: Forward<H>,
        backward: Backward<H>,
        cases: fn() -> Result<Vec<VjpCase<H>>>,
    ) -> Self {
        CustomVjp { name, inputs, required, outputs, forward, backward, cases }
    }
}

/// Inputs at which the test of a [`CustomVjp`] compares its gradients with finite differences: float32, drawn between -1
/// and 1.
#[derive(Debug, Clone)]
pub struct VjpCase<H> {
    pub(crate) shapes: Vec<Vec<i32>>,
    pub(crate) host: H,
    /// Names of the inputs whose gradients count; without any, all do.
    pub(crate) compared: &'static [&'static str],
}

impl<H> VjpCase<H> {
    /// Inputs of these shapes, and what has no gradient.
    pub fn new(shapes: &[&[i32]], host: H) -> Self {
        let shapes: Vec<Vec<i32>> = shapes.iter().map(|shape| shape.to_vec()).collect();
        VjpCase { compared: &[], shapes, host }
    }

    /// Compares the gradients of the inputs of these names alone, because `host` asks for no others.
    #[must_use]
    pub fn of_inputs(mut self, compared: &'static [&'static str]) -> Self {
        self.compared = compared;
        self
    }
}

/// Declares a [`CustomVjp`] at the level of a module, with its test: `NAME::is_as_declared` holds the backward against
/// finite differences in each case ([`assert_function`](crate::kernel::check::assert_function)).
///
/// ```
/// use cotangent::{Graph, Infer, Result, Tensor, VjpCase, custom_vjp};
///
/// custom_vjp! {
///     /// `x y`, element by element.
///     static PRODUCT: () = "product" {
///         inputs: [x, y],
///         outputs: [product],
///         forward: |[x, y], ()| Ok(vec![x.multiply(y)?]),
///         backward: |[x, y], [d_product], _, ()| Ok(vec![d_product.multiply(y)?, d_product.multiply(x)?]),
///         cases: [VjpCase::new(&[&[3, 5], &[3, 5]], ())],
///     }
/// }
///
/// fn product<M: Graph>(x: &Tensor<M>, y: &Tensor<M>) -> Result<Tensor<M>> {
///     Ok(custom_vjp(&PRODUCT, &[x, y], &())?.swap_remove(0))
/// }
/// ```
///
/// `inputs` and `outputs` are names for messages, in the order in which both functions get them. `forward` takes an array of the
/// inputs and the host data; what it returns after the outputs is kept for the backward, and no caller sees it. `backward` takes
/// arrays of the primals and of the cotangents of `outputs`, a slice of all that `forward` returned, and the host data.
///
/// `optional: [a, b]` behind `inputs` names inputs that a call may leave out, all of them together. Both functions get them as
/// one more argument, an option of an array, behind the inputs.
#[macro_export]
macro_rules! custom_vjp {
    (@forward $host:ty, $inputs:tt, [], $forward:expr) => {
        |inputs, host| {
            const FORWARD: $crate::__private::NamedForward<$host, { $crate::custom_vjp!(@count $inputs) }> = $forward;
            FORWARD($crate::__private::named(inputs), host)
        }
    };
    (@forward $host:ty, $inputs:tt, $optional:tt, $forward:expr) => {
        |inputs, host| {
            const FORWARD: $crate::__private::OptionalForward<
                $host,
                { $crate::custom_vjp!(@count $inputs) },
                { $crate::custom_vjp!(@count $optional) },
            > = $forward;
            let (inputs, optional) = inputs.split_at($crate::custom_vjp!(@count $inputs));
            FORWARD($crate::__private::named(inputs), $crate::__private::named_if_any(optional), host)
        }
    };
    (@backward $host:ty, $inputs:tt, [], $outputs:tt, $backward:expr) => {
        |primals, cotangents, outputs, host| {
            const BACKWARD: $crate::__private::NamedBackward<
                $host,
                { $crate::custom_vjp!(@count $inputs) },
                { $crate::custom_vjp!(@count $outputs) },
            > = $backward;
            BACKWARD($crate::__private::named(primals), $crate::__private::named(cotangents), outputs, host)
        }
    };
    (@backward $host:ty, $inputs:tt, $optional:tt, $outputs:tt, $backward:expr) => {
        |primals, cotangents, outputs, host| {
            const BACKWARD: $crate::__private::OptionalBackward<
                $host,
                { $crate::custom_vjp!(@count $inputs) },
                { $crate::custom_vjp!(@count $optional) },
                { $crate::custom_vjp!(@count $outputs) },
            > = $backward;
            let (primals, optional) = primals.split_at($crate::custom_vjp!(@count $inputs));
            let optional = $crate::__private::named_if_any(optional);
            BACKWARD($crate::__private::named(primals), optional, $crate::__private::named(cotangents), outputs, host)
        }
    };
    (@count [$($name:ident),+]) => {
        [$(::core::stringify!($name)),+].len()
    };
    (
        $(#[$attribute:meta])*
        $visibility:vis static $name:ident: $host:ty = $title:literal {
            inputs: [$($input:ident),+ $(,)?],
            $(optional: [$($optional:ident),+ $(,)?],)?
            outputs: [$($output:ident),+ $(,)?],
            forward: $forward:expr,
            backward: $backward:expr,
            cases: [$($case:expr),+ $(,)?] $(,)?
        }
    ) => {
        $(#[$attribute])*
        $visibility static $name: $crate::CustomVjp<$host> = $crate::CustomVjp::declared(
            $title,
            (
                &[$(::core::stringify!($input),)+ $($(::core::stringify!($optional),)+)?],
                $crate::custom_vjp!(@count [$($input),+]),
            ),
            &[$(::core::stringify!($output)),+],
            $crate::custom_vjp!(@forward $host, [$($input),+], [$($($optional),+)?], $forward),
            $crate::custom_vjp!(@backward $host, [$($input),+], [$($($optional),+)?], [$($output),+], $backward),
            || ::core::result::Result::Ok(::std::vec![$($case),+]),
        );

        $crate::__private::inventory::submit! {
            $crate::kernel::registry::RegisteredFunction {
                name: $title,
                file: ::core::file!(),
                line: ::core::line!(),
                check: || $crate::kernel::check::check_function(&$name),
            }
        }

        #[cfg(test)]
        #[allow(non_snake_case, reason = "it bears the name of what it tests")]
        mod $name {
            #[::core::prelude::v1::test]
            fn is_as_declared() {
                $crate::kernel::check::assert_function(&super::$name);
            }
        }
    };
}

/// `function(inputs, host)`, whose gradient is what its backward says.
///
/// Forward and backward are `fn` items: nothing can be captured. `host` is what has no gradient: indices, masks, sizes.
/// Kernels declared with `#[differentiable]` need none of this; it is for compositions of operations whose gradient is
/// known in a better form than MLX would find.
///
/// # Errors
/// What `forward` returns; at the backward pass [`Error::Gradient`] unless there is a gradient of the right shape and
/// dtype for every primal; [`Error::MixedTraces`] if the inputs belong to different graphs; [`Error::Refused`] if a result
/// or a gradient was computed in another graph; [`Error::Other`] if there are not the inputs, or fewer results, that the
/// declaration names.
pub fn custom_vjp<M: Graph, H: Clone + Send + 'static>(
    function: &CustomVjp<H>,
    inputs: &[&Tensor<M>],
    host: &H,
) -> Result<Vec<Tensor<M>>> {
    let CustomVjp { name, inputs: names, required, outputs: seen, forward, backward, .. } = *function;
    let Some(given) = names.get(..inputs.len()).filter(|given| [required, names.len()].contains(&given.len())) else {
        let found = inputs.len();
        return Err(Error::Other(format!(
            "`{name}` got {found} inputs, where its declaration names {}",
            listed(names)
        )));
    };
    let result = move |index: usize| match seen.get(index) {
        Some(output) => format!("result `{output}`"),
        None => format!("result {index}, which is kept for the backward"),
    };
    let origin = Origin::join(name, inputs.iter().map(|input| input.origin()))?;
    let arrays: Vec<Array> = inputs.iter().map(|input| input.array().clone()).collect();
    let (forward_host, backward_host) = (host.clone(), host.clone());
    // Nothing differentiates through either of the two, so nothing in them is a cut.
    let forward = move |inputs: &[Array]| {
        let _pause = Pause::new();
        let trace = TraceId::fresh();
        unwrap(name, result, trace, forward(&wrap(trace, inputs), &forward_host)?)
    };
    let mut outputs = if origin.needs_gradient {
        custom_vjp_arrays(name, given.to_vec(), &arrays, forward, move |primals, cotangents, outputs| {
            let _pause = Pause::new();
            let trace = TraceId::fresh();
            let [primals, cotangents, outputs] = [primals, cotangents, outputs].map(|arrays| wrap(trace, arrays));
            let gradient = |index: usize| match given.get(index) {
                Some(input) => format!("gradient of `{input}`"),
                None => format!("gradient {index}"),
            };
            unwrap(name, gradient, trace, backward(&primals, &cotangents, &outputs, &backward_host)?)
        })?
    } else {
        forward(&arrays)?
    };
    if outputs.len() < seen.len() {
        let found = outputs.len();
        return Err(Error::Other(format!(
            "`{name}` returned {found} results, where its declaration names {}",
            listed(seen)
        )));
    }
    outputs.truncate(seen.len());
    Ok(outputs.into_iter().map(|array| Tensor::from_parts(array, origin)).collect())
}

/// The forward of a function whose inputs are all required.
pub type NamedForward<H, const I: usize> = fn([&Tensor<Infer>; I], &H) -> Result<Vec<Tensor<Infer>>>;

/// The forward of a function with optional inputs.
pub type OptionalForward<H, const I: usize, const J: usize> =
    fn([&Tensor<Infer>; I], Option<[&Tensor<Infer>; J]>, &H) -> Result<Vec<Tensor<Infer>>>;

/// The backward of a function whose inputs are all required.
pub type NamedBackward<H, const I: usize, const O: usize> =
    fn([&Tensor<Infer>; I], [&Tensor<Infer>; O], &[Tensor<Infer>], &H) -> Result<Vec<Tensor<Infer>>>;

/// The backward of a function with optional inputs.
pub type OptionalBackward<H, const I: usize, const J: usize, const O: usize> = fn(
    [&Tensor<Infer>; I],
    Option<[&Tensor<Infer>; J]>,
    [&Tensor<Infer>; O],
    &[Tensor<Infer>],
    &H,
) -> Result<Vec<Tensor<Infer>>>;

/// The first tensors, as an array that a pattern names. The number of inputs is checked before.
pub fn named<const N: usize>(tensors: &[Tensor<Infer>]) -> [&Tensor<Infer>; N] {
    std::array::from_fn(|index| &tensors[index])
}

/// The tensors, or `None` if they were left out.
pub fn named_if_any<const N: usize>(tensors: &[Tensor<Infer>]) -> Option<[&Tensor<Infer>; N]> {
    (!tensors.is_empty()).then(|| named(tensors))
}

fn wrap(trace: TraceId, arrays: &[Array]) -> Vec<Tensor<Infer>> {
    arrays.iter().map(|array| Tensor::from_parts(array.clone(), Origin::new(trace, false))).collect()
}

/// The arrays of what a function returned whose arguments belong to `trace`.
fn unwrap(
    name: &'static str,
    what: impl Fn(usize) -> String,
    trace: TraceId,
    tensors: Vec<Tensor<Infer>>,
) -> Result<Vec<Array>> {
    let tensors = tensors.into_iter().enumerate();
    tensors.map(|(index, tensor)| tensor.leave(trace, name, || what(index))).collect()
}

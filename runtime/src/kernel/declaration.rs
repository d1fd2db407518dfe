//! The data that the macro declares about a kernel.

use super::call::Call;
use super::signature::{Case, Expression, Port, Sample, Signature};
use super::value::PortValue;
use crate::__private::InferenceOnly;
use crate::{Backend, Graph, Infer, Result, Train};

/// A kernel: implemented by the marker type that [`#[differentiable]`](macro@crate::differentiable) makes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a kernel",
    note = "declare it with `#[differentiable(..)]` or `#[stage(..)]`"
)]
pub trait Kernel: 'static {
    /// The kernel's contract.
    const SIGNATURE: Signature;

    /// Returns everything that is declared about the kernel.
    fn declaration() -> &'static Declaration;
}

/// The gradient of the kernel `F`, by type: a namesake in another module is another kernel.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the backward of `{F}` [C16]",
    label = "paired with another kernel, or with none",
    note = "name the forward in the backward's own declaration: `backward_of = ..`; see `cotangent::errors::C16`"
)]
pub trait BackwardOf<F>: Kernel {
    /// Returns the declaration of the backward.
    fn backward() -> &'static Declaration {
        Self::declaration()
    }
}

/// A kernel whose declared backward is `B`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not name `{B}` as its backward, so that gradient would never run [C16]",
    label = "this kernel names another backward, or none",
    note = "name the backward in the forward's own declaration: `backward = ..`; see `cotangent::errors::C16`"
)]
pub trait PairedWith<B>: Kernel {
    /// The contract of the forward.
    const FORWARD: Signature = Self::SIGNATURE;

    /// Returns the declaration of the forward.
    fn forward() -> &'static Declaration {
        Self::declaration()
    }
}

/// A mode in which the inference-only kernel `K` may run: [`Infer`] alone.
#[diagnostic::on_unimplemented(
    message = "kernel `{K}` is inference-only, so it cannot be reached from a training graph [C10]",
    label = "reaches `{K}` with tensors of mode `{Self}`",
    note = "the author's reason stands in its declaration: `inference_only = \"..\"`",
    note = "take the training path of the layer in `Train`, or give the kernel a gradient; see `cotangent::errors::C10`"
)]
pub trait InferenceMode<K>: Graph + InferenceOnly {}

impl<K> InferenceMode<K> for Infer {}

/// A function pointer with the signature `F`, which a fallback has in every mode.
#[diagnostic::on_unimplemented(
    message = "this fallback does not have the signature `{F}`",
    label = "is `{Self}`",
    note = "a fallback is generic over the mode, and takes and returns what the kernel's function does: `fn name<M: Graph>(x: \
            &Tensor<M>, ..) -> Result<Tensor<M>>`"
)]
pub trait FallbackAs<F> {
    /// Returns the same function.
    fn fallback(self) -> F;
}

impl<F> FallbackAs<F> for F {
    fn fallback(self) -> F {
        self
    }
}

/// A kernel as data.
#[derive(Debug, Clone, Copy)]
pub struct Declaration {
    /// The kernel's contract.
    pub signature: &'static Signature,
    /// The source of the kernel's gradient.
    pub route: Route,
    /// The body that a call runs.
    pub body: Body,
    /// Sizes at which machinery tests it.
    pub cases: &'static [Case],
    /// The author's reason to have no generated test.
    pub untested: Option<&'static str>,
    /// The source file it is declared in.
    pub file: &'static str,
    /// The line of its name.
    pub line: u32,
}

/// The source of a kernel's gradient.
#[derive(Debug, Clone, Copy)]
pub enum Route {
    /// A paired kernel, the gradient of a fallback, or both.
    Gradient {
        /// The paired kernel.
        backward: Option<fn() -> &'static Declaration>,
        /// The fallback: the same function composed of differentiable operations.
        fallback: Option<Fallback>,
        /// Whether its outputs are worth their memory to a backward pass that would have to compute them again.
        expensive: bool,
    },
    /// The kernel is itself the gradient of another.
    Backward {
        /// The kernel whose gradient this is.
        of: fn() -> &'static Declaration,
    },
    /// The kernel has no gradient, for a stated reason.
    InferenceOnly {
        /// The author's reason.
        reason: &'static str,
    },
    /// A launch that Rust bodies call.
    Stage,
}

/// A body or fallback of a mode, behind a pointer. Returns one value for each output, where it has one.
pub type Run<M> = fn(&Call<'_, M>) -> Result<Vec<Option<PortValue>>>;

/// The fallback of a kernel: the same function composed of differentiable operations, in both modes. It returns visible
/// outputs only.
#[derive(Clone, Copy)]
pub struct Fallback {
    /// The body in a training graph.
    pub train: Run<Train>,
    /// The body in a graph without gradients.
    pub infer: Run<Infer>,
    /// The backends on which the fallback is measured to be faster than the kernel, and runs in its place.
    pub preferred_on: &'static [Backend],
}

impl std::fmt::Debug for Fallback {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Fallback")
    }
}

/// The body of a kernel.
#[derive(Clone, Copy)]
#[allow(clippy::large_enum_variant, reason = "bodies are constants, which only references go about with")]
pub enum Body {
    /// One launch.
    Launch(Launch),
    /// A Rust function that composes launches and operations.
    Rust {
        /// The function.
        run: Run<Infer>,
        /// The launches it may make; without any it runs on every backend.
        stages: &'static [fn() -> &'static Declaration],
    },
}

impl std::fmt::Debug for Body {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Body::Launch(launch) => launch.fmt(formatter),
            Body::Rust { stages, .. } => write!(formatter, "Rust({} stages)", stages.len()),
        }
    }
}

/// One launch of kernel source.
#[derive(Debug, Clone, Copy)]
pub struct Launch {
    /// The Metal source: the body of the kernel function.
    pub metal: &'static str,
    /// A text tuned for CUDA.
    pub cuda: Option<&'static str>,
    /// Texts that go before the kernel.
    pub headers: &'static [&'static str],
    /// The dimensions that the source uses by name.
    pub dimensions: &'static [&'static str],
    /// The definitions, in C++, of the sizes of `dims` that the source uses by name.
    pub sizes: &'static [&'static str],
    /// Threads of the whole grid.
    pub grid: [Expression; 3],
    /// Threads of one threadgroup.
    pub threads: [Expression; 3],
    /// The least number of bytes of threadgroup memory that the Metal source takes; a dtype parameter stands for the
    /// bytes of one element.
    pub threadgroup_bytes: Expression,
    /// The value that outputs are filled with before the kernel runs; without one they are uninitialised.
    pub init: Option<f32>,
    /// Whether outputs are declared as atomics.
    pub atomic: bool,
    /// Whether results may differ from run to run.
    pub nondeterministic: bool,
    /// Whether inputs arrive with their strides instead of being copied to rows.
    pub strided: bool,
    /// The file that holds the kernel source, relative to the Rust file; `None` if it is in the Rust file itself.
    pub file: Option<&'static str>,
    /// The line of its file on which the kernel source begins.
    pub line: u32,
}

impl Port {
    /// Returns why the gradient of this input of `forward` is not the derivative, if it is meant not to be.
    pub fn differs(&self, forward: &Declaration) -> Option<&'static str> {
        let gradients = forward.backward()?.signature.outputs.iter();
        let mut gradients = gradients.filter(|port| port.name.strip_prefix("d_") == Some(self.name));
        gradients.find_map(|port| match port.sample {
            Sample::Differs(reason) => Some(reason),
            _ => None,
        })
    }
}

impl Declaration {
    /// The paired gradient.
    pub fn backward(&self) -> Option<&'static Declaration> {
        match self.route {
            Route::Gradient { backward, .. } => backward.map(|declaration| declaration()),
            _ => None,
        }
    }

    /// The fallback: the same function composed of differentiable operations.
    pub fn fallback(&self) -> Option<Fallback> {
        match self.route {
            Route::Gradient { fallback, .. } => fallback,
            _ => None,
        }
    }

    /// Returns whether [`Keep::Expensive`](crate::Keep::Expensive) keeps the kernel's outputs, residuals included.
    pub fn is_expensive(&self) -> bool {
        matches!(self.route, Route::Gradient { expensive: true, .. })
    }

    /// Returns whether the kernel is the gradient of another one.
    pub fn is_backward(&self) -> bool {
        matches!(self.route, Route::Backward { .. })
    }

    /// Returns whether the body is one launch.
    pub fn is_launch(&self) -> bool {
        matches!(self.body, Body::Launch(_))
    }

    /// Returns whether the body consists of operations only.
    pub fn is_operations(&self) -> bool {
        matches!(self.body, Body::Rust { stages: [], .. })
    }

    /// Returns whether the body, and that of the backward if there is one, consist of operations only. Such a pair runs
    /// on every backend.
    pub fn is_portable(&self) -> bool {
        self.is_operations() && self.backward().is_none_or(Declaration::is_operations)
    }

    /// Returns all launches of the kernel and its backward: their own sources, or those of their stages.
    pub fn launches(&'static self) -> Vec<&'static Launch> {
        fn collect(declaration: &'static Declaration, launches: &mut Vec<&'static Launch>) {
            match &declaration.body {
                Body::Launch(launch) => launches.push(launch),
                Body::Rust { stages, .. } => stages.iter().for_each(|stage| collect(stage(), launches)),
            }
        }
        let mut launches = Vec::new();
        collect(self, &mut launches);
        if let Some(backward) = self.backward() {
            collect(backward, &mut launches);
        }
        launches
    }
}

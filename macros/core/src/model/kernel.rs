//! The resolved kernel.

use proc_macro2::{Ident, Span, TokenStream};
use syn::ext::IdentExt as _;

use super::body::Body;
use super::expression::Polynomial;
use super::port::{DtypeParameter, Port, PortRole};
use super::requirement::Requirement;

/// A kernel whose names are all resolved.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// The author's name for it.
    pub name: Ident,
    /// `pub`, `pub(crate)`, or nothing, as written.
    pub visibility: TokenStream,
    /// Documentation and `cfg` attributes, as written.
    pub attributes: Vec<TokenStream>,
    /// The role of the declaration.
    pub role: DeclarationRole,
    /// The dtype parameters, such as `T: Float`, in order.
    pub dtypes: Vec<DtypeParameter>,
    /// Template constants, in order.
    pub constants: Vec<TemplateConstant>,
    /// Run-time dimensions, in order of their first appearance.
    pub dimensions: Vec<Dimension>,
    /// Names that the declaration gives to expressions (`dims`), in order.
    pub sizes: Vec<Size>,
    /// Arrays read, in order.
    pub inputs: Vec<Port>,
    /// Arrays written, in order.
    pub outputs: Vec<Port>,
    /// Plain values, in order.
    pub scalars: Vec<Scalar>,
    /// Parameters whose type could not be read. That was reported; they keep their place among the arguments.
    pub unreadable: Vec<Unreadable>,
    /// The order in which the author wrote inputs and scalars: it is the order of the generated function.
    pub arguments: Vec<Argument>,
    /// The conditions on dimensions and constants under which the kernel runs.
    pub requirements: Vec<Requirement>,
    /// The body that runs.
    pub body: Body,
    /// Sizes at which machinery tests the kernel.
    pub cases: Vec<Case>,
    /// The author's reason to have no generated test.
    pub untested: Option<String>,
    /// The place where `cases` is written, if it is.
    pub cases_span: Option<Span>,
    /// Whether a part of the declaration could not be read, and was reported: what seems to be missing may be in it.
    pub is_partial: bool,
}

/// The roles of a declaration.
#[derive(Debug, Clone)]
pub enum DeclarationRole {
    /// A kernel that models call.
    Forward(Route),
    /// The gradient of another kernel.
    Backward {
        /// The path of the forward.
        of: TokenStream,
        /// The place where that path is written.
        span: Span,
        /// Outputs of the forward whose cotangents it leaves out on purpose.
        ignores: Vec<Ident>,
    },
    /// A launch that Rust bodies call.
    Stage,
}

/// The source of a forward's gradient. An empty route is an error with a code of its own, which the checks find.
#[derive(Debug, Clone, Default)]
pub struct Route {
    /// Path of a paired kernel.
    pub backward: Option<(TokenStream, Span)>,
    /// Path of the same function made of differentiable operations.
    pub fallback: Option<(TokenStream, Span)>,
    /// GPU backends on which the fallback is measured to be faster.
    pub fallback_on: Vec<GpuBackend>,
    /// Whether its outputs are worth their memory to a backward pass that would have to compute them again.
    pub expensive: bool,
    /// The author's reason to have no gradient.
    pub inference_only: Option<(String, Span)>,
}

/// A backend that runs kernel sources on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GpuBackend {
    /// Apple's language.
    Metal,
    /// NVIDIA's language.
    Cuda,
}

impl GpuBackend {
    /// The backend that an author writes `name`.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "metal" => Some(Self::Metal),
            "cuda" => Some(Self::Cuda),
            _ => None,
        }
    }

    /// The name of the variant in the runtime's `Backend`.
    pub fn variant(self) -> &'static str {
        match self {
            Self::Metal => "Metal",
            Self::Cuda => "Cuda",
        }
    }

    /// The name of the kind in a sentence.
    pub fn title(self) -> &'static str {
        match self {
            Self::Metal => "Metal",
            Self::Cuda => "CUDA",
        }
    }
}

/// A constant of the kernel source, a value in Rust.
#[derive(Debug, Clone)]
pub struct TemplateConstant {
    /// The name of the constant, upper case.
    pub name: Ident,
    /// The type of the constant.
    pub kind: ConstantKind,
    /// The input and axis from which it is bound; without one it is an argument of the generated function.
    pub bound: Option<Binding>,
}

/// The type of a template constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConstantKind {
    /// `usize`
    Usize,
    /// `i32`
    I32,
    /// `bool`
    Bool,
}

/// A run-time dimension and where its value is read.
#[derive(Debug, Clone)]
pub struct Dimension {
    /// The name of the dimension, upper case.
    pub name: String,
    /// The input and axis from which it is bound.
    pub bound: Binding,
}

/// A name for an expression over dimensions and constants. Shapes, extents and requirements hold the expression itself.
#[derive(Debug, Clone)]
pub struct Size {
    /// The name of the size, upper case.
    pub name: Ident,
    /// The expression that the name stands for.
    pub value: Polynomial,
}

/// The place of a symbol that stands alone in a shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding {
    /// Index into the inputs.
    pub input: usize,
    /// Axis of that input.
    pub axis: usize,
}

/// A plain value that is passed to the kernel.
#[derive(Debug, Clone)]
pub struct Scalar {
    /// The name of the scalar.
    pub name: Ident,
    /// The type of the scalar.
    pub kind: ScalarKind,
    /// The lower and upper end of the range in which the function has values, and the reason why it has none elsewhere.
    pub domain: Option<(f64, f64, String)>,
}

/// The type of a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScalarKind {
    /// `f32`
    F32,
    /// `i32`
    I32,
    /// `u32`
    U32,
    /// `bool`
    Bool,
}

/// A parameter whose type could not be read, and the input that it seems to be.
#[derive(Debug, Clone)]
pub struct Unreadable {
    /// The name of the parameter.
    pub name: Ident,
    /// The role that the parameter is taken to have.
    pub role: PortRole,
    /// Whether it is written as an `Option`.
    pub optional: bool,
}

/// One argument of the generated function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    /// An index into the inputs.
    Input(usize),
    /// An index into the scalars.
    Scalar(usize),
    /// An index into the unreadable parameters.
    Unreadable(usize),
}

/// Sizes for a generated test: a value for every dimension and template constant, in the order written.
#[derive(Debug, Clone)]
pub struct Case {
    /// Names and values; bools are 0 and 1.
    pub values: Vec<(Ident, i64)>,
    /// The place where the case is written.
    pub span: Span,
}

impl Case {
    /// The value of a name.
    pub fn value(&self, name: &str) -> Option<i64> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

impl Kernel {
    /// Inputs, then outputs.
    pub fn ports(&self) -> impl Iterator<Item = &Port> {
        self.inputs.iter().chain(&self.outputs)
    }

    /// The ports that are pointers in a text: of the inputs, those with axes.
    pub fn arrays(&self) -> Vec<String> {
        let inputs = self.inputs.iter().filter(|port| !port.shape.is_empty());
        inputs.chain(&self.outputs).map(|port| port.name.to_string()).collect()
    }

    /// Outputs the caller sees.
    pub fn visible_outputs(&self) -> impl Iterator<Item = &Port> {
        self.outputs.iter().filter(|port| port.role == PortRole::Output)
    }

    /// Template constants that no shape binds: arguments of the generated function.
    pub fn free_constants(&self) -> impl Iterator<Item = &TemplateConstant> {
        self.constants.iter().filter(|constant| constant.bound.is_none())
    }

    /// Returns the dtype parameters that no input settles: arguments of the generated function of a stage, which alone has them.
    pub fn free_dtypes(&self) -> impl Iterator<Item = &DtypeParameter> {
        let is_stage = matches!(self.role, DeclarationRole::Stage);
        self.dtypes.iter().filter(move |parameter| {
            is_stage
                && parameter.class.len() != 1
                && !self.inputs.iter().any(|port| port.dtype.is_parameter(&parameter.name))
        })
    }

    /// A template constant or dtype as an argument of the generated function: `R` becomes `r`; `In`, whose lower case is a
    /// word of Rust, `in_`; and `OUT`, where a port is called `out`, `out_`.
    pub fn argument(&self, name: &Ident) -> Ident {
        let lower = name.unraw().to_string().to_lowercase();
        let mut others = self.ports().map(|port| &port.name).chain(self.scalars.iter().map(|scalar| &scalar.name));
        let is_free = syn::parse_str::<Ident>(&lower).is_ok() && !others.any(|other| *other == lower);
        Ident::new(&if is_free { lower } else { format!("{lower}_") }, name.span())
    }

    /// The names of the generated function's arguments, in order.
    pub fn argument_names(&self) -> Vec<Ident> {
        let written = self.arguments.iter().map(|argument| match argument {
            Argument::Input(index) => self.inputs[*index].name.clone(),
            Argument::Scalar(index) => self.scalars[*index].name.clone(),
            Argument::Unreadable(index) => self.unreadable[*index].name.clone(),
        });
        let constants = self.free_constants().map(|constant| &constant.name);
        let free = constants.chain(self.free_dtypes().map(|parameter| &parameter.name));
        written.chain(free.map(|name| self.argument(name))).collect()
    }

    /// Returns whether `name` is a dimension or an integer template constant.
    pub fn has_symbol(&self, name: &str) -> bool {
        self.dimensions.iter().any(|dimension| dimension.name == name)
            || self.constants.iter().any(|constant| constant.name == name)
    }

    /// Returns whether `name` is a dimension, or a size that is made of one: only a launch gives it a value.
    pub fn is_known_at_launch(&self, name: &str) -> bool {
        let is_dimension = |name: &str| self.dimensions.iter().any(|dimension| dimension.name == name);
        let size = self.sizes.iter().find(|size| size.name == name);
        is_dimension(name) || size.is_some_and(|size| size.value.symbols().iter().any(|symbol| is_dimension(symbol)))
    }

    /// Template bools that the expansion adds to the author's own: which gradients are wanted, whether residuals are
    /// kept, which optional inputs are there.
    pub fn generated_constants(&self) -> Vec<String> {
        let wants = self.outputs.iter().filter(|_| self.is_backward()).map(|port| format!("WANTS_{}", port.name));
        let saved = self.outputs.iter().filter(|port| port.role == PortRole::Saved);
        let optional = self.inputs.iter().filter(|port| port.optional);
        let saves = saved.map(|port| format!("SAVES_{}", port.name));
        wants.chain(saves).chain(optional.map(|port| format!("HAS_{}", port.name))).collect()
    }

    /// Returns whether the declaration is the gradient of another kernel.
    pub fn is_backward(&self) -> bool {
        matches!(self.role, DeclarationRole::Backward { .. })
    }
}

/// Three extents of a launch: threads of the whole grid, or of one threadgroup.
pub type Extents = [Polynomial; 3];

//! The plan of what is generated for a kernel: the last decision before tokens.

mod description;

use crate::parse::threadgroup::least_bytes;
use proc_macro2::Ident;
use quote::format_ident;
use syn::ext::IdentExt as _;

use crate::model::body::Body;
use crate::model::expression::Polynomial;
use crate::model::kernel::{Argument, ConstantKind, DeclarationRole, Kernel, Size};
use crate::model::port::PortRole;
use cotangent_metal::tokens::text::Text;

/// A kernel together with everything its expansion needs.
pub struct Plan {
    /// The resolved kernel.
    pub kernel: Kernel,
    /// Whether models get a function with the kernel's name.
    pub function: FunctionKind,
    /// The struct that a function of many ports takes, so that no two of them can be swapped.
    pub inputs_name: Option<Ident>,
    /// The struct that a function with several visible outputs returns.
    pub outputs_name: Option<Ident>,
    /// The module that holds these structs: the expansion names them there, so that a type of the author's with the name of
    /// one is one error.
    pub types: Ident,
    /// Texts of a launch.
    pub texts: Option<Texts>,
    /// `wants_d_x` for each output of a backward, in order.
    pub wants: Vec<Ident>,
}

/// The function beside the marker type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FunctionKind {
    /// Generic over the mode.
    Differentiable,
    /// Generic over modes in which no gradient exists.
    InferenceOnly,
    /// Called by Rust bodies, with the right to launch as first argument.
    Stage,
    /// No public function: only the machinery calls a backward.
    None,
}

/// The sources of a launch, ready for a GPU compiler.
pub struct Texts {
    /// Metal, the body of the kernel function.
    pub metal: String,
    /// CUDA, if the author tuned one.
    pub cuda: Option<String>,
    /// Names of dimensions that the texts use, in order.
    pub dimensions: Vec<String>,
    /// Definitions of the sizes that the texts use, in order, in C++.
    pub sizes: Vec<String>,
    /// Bytes of threadgroup memory that the Metal source takes at least; a dtype stands for the bytes of one element.
    pub threadgroup_bytes: Polynomial,
}

/// Ports that a function takes by position at most.
const PORTS_BY_POSITION: usize = 3;

impl Plan {
    /// Decides what is generated for `kernel`.
    pub fn new(kernel: Kernel) -> Self {
        let function = match &kernel.role {
            DeclarationRole::Forward(route) if route.inference_only.is_some() => FunctionKind::InferenceOnly,
            DeclarationRole::Forward(_) => FunctionKind::Differentiable,
            DeclarationRole::Backward { .. } => FunctionKind::None,
            DeclarationRole::Stage => FunctionKind::Stage,
        };
        let camel = upper_camel(&kernel.name.unraw().to_string());
        let span = kernel.name.span();
        let ports = kernel.arguments.iter().filter(|argument| !matches!(argument, Argument::Scalar(_))).count();
        let inputs_name = (ports > PORTS_BY_POSITION && function != FunctionKind::None)
            .then(|| format_ident!("{camel}Inputs", span = span));
        let several = kernel.visible_outputs().count() != 1;
        let outputs_name =
            (several && function != FunctionKind::None).then(|| format_ident!("{camel}Outputs", span = span));
        let wants = match &kernel.role {
            DeclarationRole::Backward { .. } => kernel
                .outputs
                .iter()
                .map(|port| format_ident!("wants_{}", port.name, span = port.name.span()))
                .collect(),
            _ => Vec::new(),
        };
        let texts = match &kernel.body {
            Body::Launch(launch) => {
                let mut names = launch.metal.names();
                names.extend(launch.cuda.iter().flat_map(Text::names));
                let scan = launch.scan(&kernel, &launch.metal);
                // A name that the source itself defines would be defined twice.
                let is_defined =
                    |name: &str| scan.outermost.iter().any(|local| local.text == name) || scan.is_macro(name);
                let used = |size: &&Size| names.iter().any(|name| size.name == name);
                let sizes: Vec<&Size> = kernel.sizes.iter().filter(used).collect();
                let is_in_a_size = |name: &String| sizes.iter().any(|size| size.value.symbols().contains(name));
                let is_named = |name: &String| names.contains(&name.as_str()) && !is_defined(name);
                let dimensions = kernel
                    .dimensions
                    .iter()
                    .filter(|dimension| is_named(&dimension.name) || is_in_a_size(&dimension.name))
                    .map(|dimension| dimension.name.clone())
                    .collect();
                let sizes = sizes.into_iter().map(|size| definition(&kernel, size)).collect();
                Some(Texts {
                    metal: launch.metal.content.clone(),
                    cuda: launch.cuda.as_ref().map(|text| text.content.clone()),
                    dimensions,
                    sizes,
                    threadgroup_bytes: least_bytes(&kernel, &scan),
                })
            }
            Body::Rust(_) => None,
        };
        let types = format_ident!("__types_of_{}", kernel.name.unraw(), span = span);
        Self { kernel, function, inputs_name, outputs_name, types, texts, wants }
    }

    /// Outputs that the backward of another kernel writes are optional: they may not be wanted.
    pub fn outputs_are_optional(&self) -> bool {
        self.kernel.is_backward()
    }

    /// Returns whether the struct of inputs is generic over the mode: constants, indices and masks have none.
    pub fn inputs_have_a_mode(&self) -> bool {
        let kernel = &self.kernel;
        let roles = kernel.inputs.iter().map(|port| port.role);
        roles.chain(kernel.unreadable.iter().map(|one| one.role)).any(|role| role == PortRole::Differentiable)
    }

    /// Returns whether the struct of several outputs is generic over the mode: indices and masks have none.
    pub fn outputs_have_a_mode(&self) -> bool {
        self.kernel.visible_outputs().any(|port| port.dtype.is_float())
    }
}

/// `constexpr int NAME = ..;`, or `const` where only a launch gives the value.
fn definition(kernel: &Kernel, size: &Size) -> String {
    let constness = if kernel.is_known_at_launch(&size.name.to_string()) { "const" } else { "constexpr" };
    let may_be_negative = |name: &str| {
        let is_signed = |kind| kind == ConstantKind::I32;
        kernel.constants.iter().any(|constant| constant.name == name && is_signed(constant.kind))
    };
    format!("{constness} int {} = {};", size.name, size.value.in_cpp(&may_be_negative))
}

/// `gated_delta` becomes `GatedDelta`.
fn upper_camel(name: &str) -> String {
    name.split('_')
        .map(|word| {
            let mut letters = word.chars();
            letters.next().map_or(String::new(), |first| first.to_uppercase().chain(letters).collect())
        })
        .collect()
}

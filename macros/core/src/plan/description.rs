//! A plan in words, a line for each decision.

use crate::parse::threadgroup::bytes_of;
use std::fmt;

use super::{FunctionKind, Plan};
use crate::model::body::{Body, Launch};
use crate::model::kernel::{Binding, DeclarationRole, Extents, Kernel, ScalarKind};
use crate::model::port::{Port, PortRole, Sample};

impl fmt::Display for Plan {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernel = &self.kernel;
        writeln!(formatter, "kernel {}", kernel.name)?;
        writeln!(formatter, "function: {}", function(self))?;
        writeln!(formatter, "gradient: {}", gradient(&kernel.role))?;
        for parameter in &kernel.dtypes {
            let is_free = kernel.free_dtypes().any(|free| free.name == parameter.name);
            let argument = if is_free { ", an argument" } else { "" };
            writeln!(formatter, "dtype {}: {}{argument}", parameter.name, parameter.class_text())?;
        }
        for dimension in &kernel.dimensions {
            writeln!(formatter, "dimension {}: {}", dimension.name, place(kernel, dimension.bound))?;
        }
        for constant in &kernel.constants {
            let from = constant.bound.map_or("an argument".to_owned(), |bound| place(kernel, bound));
            writeln!(formatter, "constant {}: {from}", constant.name)?;
        }
        for requirement in &kernel.requirements {
            writeln!(formatter, "requires {requirement}")?;
        }
        for port in &kernel.inputs {
            writeln!(formatter, "input {}", port_text(port))?;
        }
        for scalar in &kernel.scalars {
            let domain = scalar.domain.as_ref();
            let domain = domain.map(|(low, high, reason)| format!(", {low:?}..{high:?} only ({reason})"));
            let domain = domain.unwrap_or_default();
            writeln!(formatter, "scalar {}: {}{domain}", scalar.name, scalar_name(scalar.kind))?;
        }
        for port in &kernel.outputs {
            writeln!(formatter, "output {}", port_text(port))?;
        }
        match &kernel.body {
            Body::Launch(launch) => self.fmt_launch(launch, formatter)?,
            Body::Rust(body) => {
                let stages: Vec<String> = body.stages.iter().map(compact).collect();
                let stages = if stages.is_empty() { "no launch".to_owned() } else { stages.join(", ") };
                writeln!(formatter, "body: Rust, {stages}")?;
            }
        }
        if let Some(reason) = &kernel.untested {
            writeln!(formatter, "test: none ({reason})")?;
        }
        for case in &kernel.cases {
            let values: Vec<String> = case.values.iter().map(|(name, value)| format!("{name} = {value}")).collect();
            writeln!(formatter, "case {}", values.join(", "))?;
        }
        Ok(())
    }
}

impl Plan {
    fn fmt_launch(&self, launch: &Launch, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernel = &self.kernel;
        let extents = |given: &Option<(Extents, proc_macro2::Span)>| {
            let extents = given.iter().flat_map(|(extents, _)| extents).map(ToString::to_string);
            format!("({})", extents.collect::<Vec<_>>().join(", "))
        };
        writeln!(formatter, "body: a launch of {} threads by {}", extents(&launch.grid), extents(&launch.threads))?;
        let scan = launch.scan(kernel, &launch.metal);
        writeln!(formatter, "reads: {}", list(scan.attributes().into_iter().map(str::to_owned)))?;
        writeln!(formatter, "meets in: {}", list(scan.collectives().into_iter().map(str::to_owned)))?;
        let shared = scan.threadgroup.iter().map(|shared| match bytes_of(&kernel.sizes, shared) {
            Some(bytes) => format!("{} of {bytes} bytes", shared.name.text),
            None => shared.name.text.clone(),
        });
        writeln!(formatter, "shares: {}", list(shared))?;
        let texts = if launch.cuda.is_some() { "Metal, and one of its own for CUDA" } else { "Metal" };
        writeln!(formatter, "text: {texts}")?;
        if let Some(texts) = &self.texts {
            writeln!(formatter, "defines: {}", list(texts.dimensions.iter().cloned()))?;
        }
        let template = kernel.dtypes.iter().map(|dtype| dtype.name.to_string());
        let template = template.chain(kernel.constants.iter().map(|constant| constant.name.to_string()));
        writeln!(formatter, "template: {}", list(template.chain(kernel.generated_constants())))?;
        let options = [
            launch.init.map(|value| format!("init {value:?}")),
            launch.atomic.map(|_| "atomic".to_owned()),
            launch.nondeterministic.then(|| "nondeterministic".to_owned()),
            launch.strided.then(|| "strided".to_owned()),
        ];
        let headers = launch.headers.iter().map(|header| format!("header {}", compact(header)));
        writeln!(formatter, "options: {}", list(options.into_iter().flatten().chain(headers)))
    }
}

fn list(names: impl Iterator<Item = String>) -> String {
    let names: Vec<String> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn compact(tokens: &proc_macro2::TokenStream) -> String {
    tokens.to_string().replace(' ', "")
}

fn function(plan: &Plan) -> String {
    let kind = match plan.function {
        FunctionKind::Differentiable => "in every graph",
        FunctionKind::InferenceOnly => "in graphs without gradients",
        FunctionKind::Stage => "for Rust bodies",
        FunctionKind::None => return "none".to_owned(),
    };
    let kernel = &plan.kernel;
    let arguments: Vec<String> = kernel.argument_names().iter().map(ToString::to_string).collect();
    let arguments = arguments.join(", ");
    let arguments = match &plan.inputs_name {
        Some(inputs) => format!("{inputs} {{ {arguments} }}"),
        None => arguments,
    };
    let returned: Vec<String> = kernel.visible_outputs().map(|port| port.name.to_string()).collect();
    format!("{kind}, ({arguments}) -> {}", returned.join(", "))
}

fn gradient(role: &DeclarationRole) -> String {
    match role {
        DeclarationRole::Stage => "none of its own".to_owned(),
        DeclarationRole::Backward { of, ignores, .. } if ignores.is_empty() => format!("is that of {}", compact(of)),
        DeclarationRole::Backward { of, ignores, .. } => {
            let ignored: Vec<String> = ignores.iter().map(ToString::to_string).collect();
            format!("is that of {}, ignoring {}", compact(of), ignored.join(", "))
        }
        DeclarationRole::Forward(route) => {
            let backward = route.backward.as_ref().map(|(path, _)| format!("kernel {}", compact(path)));
            let fallback = route.fallback.as_ref().map(|(path, _)| format!("fallback {}", compact(path)));
            let reason = route.inference_only.as_ref().map(|(reason, _)| format!("none ({reason})"));
            let preferred =
                route.fallback_on.iter().map(|backend| format!("fallback preferred on {}", backend.title()));
            let expensive = route.expensive.then(|| "expensive".to_owned());
            list([backward, fallback, reason].into_iter().flatten().chain(preferred).chain(expensive))
        }
    }
}

fn place(kernel: &Kernel, bound: Binding) -> String {
    format!("axis {} of {}", bound.axis, kernel.inputs[bound.input].name)
}

fn port_text(port: &Port) -> String {
    let role = match port.role {
        PortRole::Differentiable => "differentiable",
        PortRole::Constant => "constant",
        PortRole::Index => "indices",
        PortRole::Mask => "mask",
        PortRole::Output => "visible",
        PortRole::Saved => "saved",
    };
    let optional = if port.optional { ", optional" } else { "" };
    let values = match &port.sample {
        Sample::Default => String::new(),
        Sample::Floats(low, high) => format!(", {low:?}..{high:?}"),
        Sample::Domain(low, high, reason) => format!(", {low:?}..{high:?} only ({reason})"),
        Sample::Differs(reason) => format!(", differs from the derivative ({reason})"),
        Sample::Integers(low, high) => format!(", {low}..{high}"),
    };
    format!("{}: {} {}, {role}{optional}{values}", port.name, port.dtype, port.shape_text())
}

fn scalar_name(kind: ScalarKind) -> &'static str {
    match kind {
        ScalarKind::F32 => "f32",
        ScalarKind::I32 => "i32",
        ScalarKind::U32 => "u32",
        ScalarKind::Bool => "bool",
    }
}

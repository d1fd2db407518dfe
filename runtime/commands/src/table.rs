//! The table of all kernels: what each declares, where it runs, what checks it. All of it from the registry.

use std::fmt::Write as _;

use anyhow::{Context, Result, bail};
use cotangent::kernel::check::OnCuda;
use cotangent::kernel::signature::{Extent, Port, PortDtype, PortRole, Sample};
use cotangent::kernel::{Declaration, Route, callers, functions};
use cotangent::{Backend, Dtype};

/// The sizes at which residuals are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sizes {
    symbols: Vec<(String, i64)>,
    /// The dtypes that dtype parameters stand for.
    dtype: Dtype,
}

impl Sizes {
    /// Reads `B=4,T=2048` and the name of a dtype.
    ///
    /// # Errors
    /// What does not have this form.
    pub fn parse(symbols: &str, dtype: &str) -> Result<Self> {
        let read = |part: &str| {
            let (name, value) = part.split_once('=')?;
            let value: i64 = value.trim().parse().ok()?;
            (value > 0 && !name.trim().is_empty()).then(|| (name.trim().to_owned(), value))
        };
        let parts = symbols.split(',').filter(|part| !part.trim().is_empty());
        let symbols = parts
            .map(|part| read(part).with_context(|| format!("`{part}`: expected a size such as `B=4`")))
            .collect::<Result<_>>()?;
        let dtype = match dtype {
            "f32" | "float32" => Dtype::F32,
            "bf16" | "bfloat16" => Dtype::BF16,
            "f16" | "float16" => Dtype::F16,
            other => bail!("`{other}`: expected f32, bf16 or f16"),
        };
        Ok(Sizes { symbols, dtype })
    }

    fn value(&self, name: &str) -> Option<i64> {
        self.symbols.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }

    /// The bytes of a port, or the symbols without a value.
    fn bytes(&self, port: &Port, kernel: &Declaration) -> std::result::Result<i64, Vec<&'static str>> {
        let value_of = |name: &str| self.value(name);
        let elements =
            port.shape.iter().try_fold(1_i64, |product, extent| product.checked_mul(extent.value.evaluate(&value_of)?));
        let size = match port.dtype {
            PortDtype::Fixed(dtype) => dtype.size(),
            PortDtype::Parameter(_) => self.dtype.size(),
        };
        elements.map(|elements| elements * size as i64).ok_or_else(|| {
            let missing = |name: &&str| self.value(name).is_none() && mentions(port.shape, name);
            kernel.signature.symbols().filter(missing).collect()
        })
    }
}

/// Returns whether one of the extents has the name in it.
fn mentions(shape: &[Extent], name: &str) -> bool {
    shape.iter().any(|extent| {
        extent.text.split(|letter: char| !letter.is_alphanumeric() && letter != '_').any(|word| word == name)
    })
}

const USAGE: &str = "usage: kernels [KERNEL] [--at B=4,T=2048] [--dtype f32] | kernels --names | kernels --cuda KERNEL";

/// Returns what `arguments` ask of `kernels`.
pub(crate) fn answer(kernels: &[&'static Declaration], arguments: Vec<String>) -> Result<String> {
    let mut arguments = arguments.into_iter();
    let (mut name, mut at, mut dtype) = (None, None, "f32".to_owned());
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().map_or_else(|| bail!("`{argument}` has no value\n{USAGE}"), Ok);
        match argument.as_str() {
            "--names" => return Ok(names(kernels)),
            "--cuda" => return cuda(kernels, &value()?),
            "--at" => at = Some(value()?),
            "--dtype" => dtype = value()?,
            _ if argument.starts_with('-') || name.is_some() => bail!("found `{argument}`\n{USAGE}"),
            _ => name = Some(argument),
        }
    }
    let sizes = at.map(|at| Sizes::parse(&at, &dtype)).transpose()?;
    match name {
        Some(name) => kernel(kernels, &name, sizes.as_ref()),
        None => table(kernels, sizes.as_ref()),
    }
}

/// The names of `kernels`, one a line.
pub fn names(kernels: &[&'static Declaration]) -> String {
    kernels.iter().map(|kernel| format!("{}\n", kernel.signature.name)).collect()
}

/// A row for each kernel: forwards, beneath each its backward, and the stages of both. Whatever belongs to no forward
/// stands at the end.
///
/// # Errors
/// If a case contradicts its signature.
pub fn table(kernels: &[&'static Declaration], sizes: Option<&Sizes>) -> Result<String> {
    let mut rows = vec![TITLES.map(str::to_owned)];
    let mut shown: Vec<*const Declaration> = Vec::new();
    let forwards =
        kernels.iter().filter(|kernel| matches!(kernel.route, Route::Gradient { .. } | Route::InferenceOnly { .. }));
    for forward in forwards {
        family(forward, 0, sizes, &mut rows, &mut shown)?;
    }
    for &kernel in kernels {
        if !shown.contains(&std::ptr::from_ref(kernel)) {
            family(kernel, 0, sizes, &mut rows, &mut shown)?;
        }
    }
    // A column without values is left out.
    let columns: Vec<usize> =
        (0..TITLES.len()).filter(|column| rows[1..].iter().any(|row| !row[*column].is_empty())).collect();
    let mut text = String::new();
    for row in &rows {
        let cells = columns.iter().map(|column| {
            let width = rows.iter().map(|row| row[*column].chars().count()).max().unwrap_or(0);
            format!("{:width$}", row[*column])
        });
        let _ = writeln!(text, "{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    let _ = write!(
        text,
        "\nown text on: elsewhere the fallback runs; in parentheses, where the text could but the fallback is faster.\n\
         operations: no text of its own, so that it runs everywhere. cuda*: the Metal text, translated.\n\
         called by: what `calls!` says, and kernels that launch a stage. same bits: whether every run gives the same. expensive: `--keep-gib` keeps its outputs and residuals.\n"
    );
    let exceptions: Vec<String> = kernels
        .iter()
        .flat_map(|kernel| {
            exceptions(kernel).into_iter().map(|exception| format!("  {}: {exception}\n", kernel.signature.name))
        })
        .collect();
    if !exceptions.is_empty() {
        let _ = write!(text, "\nnot checked everywhere, as declared:\n{}", exceptions.concat());
    }
    let functions: Vec<&str> = functions().iter().map(|function| function.name).collect();
    if !functions.is_empty() {
        let _ = writeln!(
            text,
            "\nfunctions with a backward of their own, checked by differences: {}",
            functions.join(", ")
        );
    }
    Ok(text)
}

const TITLES: [&str; 9] =
    ["kernel", "called by", "gradient", "own text on", "same bits", "cases", "checked by", "requires", "residuals"];

fn family(
    kernel: &'static Declaration,
    depth: usize,
    sizes: Option<&Sizes>,
    rows: &mut Vec<[String; 9]>,
    shown: &mut Vec<*const Declaration>,
) -> Result<()> {
    shown.push(kernel);
    rows.push(row(kernel, depth, sizes)?);
    for below in kernel.stages().into_iter().chain(kernel.backward()) {
        // A stage that forward and backward share is shown once.
        if !shown.contains(&std::ptr::from_ref(below)) {
            family(below, depth + 1, sizes, rows, shown)?;
        }
    }
    Ok(())
}

fn row(kernel: &'static Declaration, depth: usize, sizes: Option<&Sizes>) -> Result<[String; 9]> {
    // A backward is checked with its forward, at its cases.
    let own = |text: String| if kernel.is_backward() { String::new() } else { text };
    Ok([
        format!("{:indent$}{}", "", kernel.signature.name, indent = 2 * depth),
        own(called_by(kernel)),
        route(kernel),
        places(kernel)?,
        if kernel.is_deterministic() { "yes" } else { "no" }.to_owned(),
        own(kernel.cases.len().to_string()),
        own(checks(kernel)),
        requirements(kernel),
        residuals(kernel, sizes),
    ])
}

/// Returns what calls a kernel, or `nothing`; a backward is its forward's alone.
fn called_by(kernel: &'static Declaration) -> String {
    let callers = callers(kernel);
    if callers.is_empty() { "nothing".to_owned() } else { callers.join(", ") }
}

/// Returns what the generated check of a kernel leaves out because its declaration says so, with the reasons.
fn exceptions(kernel: &'static Declaration) -> Vec<String> {
    let drawn = |name: &str, low: f64, high: f64, reason: &str| format!("`{name}` is {low} to {high} only: {reason}");
    let signature = kernel.signature;
    let ports = signature.inputs.iter().filter_map(|port| match port.sample {
        Sample::Domain(low, high, reason) => Some(drawn(port.name, low, high, reason)),
        _ => None,
    });
    let scalars = signature
        .scalars
        .iter()
        .filter_map(|scalar| scalar.domain.map(|(low, high, reason)| drawn(scalar.name, low, high, reason)));
    let gradients = signature.outputs.iter().filter_map(|port| match port.sample {
        Sample::Differs(reason) => Some(format!("`{}` is not the derivative: {reason}", port.name)),
        _ => None,
    });
    ports.chain(scalars).chain(gradients).collect()
}

fn checks(kernel: &'static Declaration) -> String {
    if let Some(reason) = kernel.untested {
        return format!("nothing: {reason}");
    }
    kernel.checks().iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Returns the source of the gradient, in a word or two.
fn route(kernel: &'static Declaration) -> String {
    match kernel.route {
        Route::Gradient { backward, fallback, expensive } => {
            let routes = [backward.map(|_| "pair"), fallback.map(|_| "fallback")];
            let routes = routes.into_iter().flatten().collect::<Vec<_>>().join(" + ");
            if expensive { format!("{routes}, expensive") } else { routes }
        }
        Route::Backward { .. } => "(backward)".to_owned(),
        Route::Stage => "(stage)".to_owned(),
        Route::InferenceOnly { .. } => "none".to_owned(),
    }
}

fn places(kernel: &'static Declaration) -> Result<String> {
    if kernel.launches().is_empty() {
        return Ok("operations".to_owned());
    }
    let cuda = match kernel.on_cuda()? {
        OnCuda::Operations | OnCuda::Refused(_) => None,
        OnCuda::Native => Some("cuda"),
        OnCuda::Translated => Some("cuda*"),
    };
    let preferred = kernel.fallback().map_or(&[][..], |fallback| fallback.preferred_on);
    let place = |backend: Backend, name: &str| {
        if preferred.contains(&backend) { format!("({name})") } else { name.to_owned() }
    };
    let places = [
        Some(place(Backend::Metal, "metal")),
        cuda.map(|cuda| place(Backend::Cuda, cuda)),
        Some("emulated".to_owned()),
    ];
    Ok(places.into_iter().flatten().collect::<Vec<_>>().join(" "))
}

fn saved(kernel: &Declaration) -> impl Iterator<Item = &'static Port> {
    kernel.signature.outputs.iter().filter(|port| port.role == PortRole::Saved)
}

fn residuals(kernel: &Declaration, sizes: Option<&Sizes>) -> String {
    let of = |port: &'static Port| match sizes.map(|sizes| sizes.bytes(port, kernel)) {
        None => format!("{} {} {}", port.name, dtype(port.dtype), port.shape_text),
        Some(Ok(bytes)) => format!("{} {}", port.name, human(bytes)),
        Some(Err(missing)) => format!("{} needs {}", port.name, missing.join(", ")),
    };
    saved(kernel).map(of).collect::<Vec<_>>().join("; ")
}

fn requirements(kernel: &Declaration) -> String {
    kernel.signature.requirements.iter().map(|requirement| requirement.text).collect::<Vec<_>>().join(", ")
}

fn dtype(dtype: PortDtype) -> String {
    match dtype {
        PortDtype::Fixed(dtype) => dtype.to_string(),
        PortDtype::Parameter(name) => name.to_owned(),
    }
}

fn human(bytes: i64) -> String {
    let bytes = bytes as f64;
    let (unit, size) = [("GiB", 30), ("MiB", 20), ("KiB", 10)]
        .into_iter()
        .map(|(unit, power)| (unit, f64::from(1 << power)))
        .find(|(_, size)| bytes >= *size)
        .unwrap_or(("bytes", 1.0));
    let value = bytes / size;
    if value.fract() == 0.0 { format!("{value} {unit}") } else { format!("{value:.1} {unit}") }
}

/// Everything about one kernel, a line each.
///
/// # Errors
/// If there is no such kernel, or several, or a case contradicts its signature.
pub fn kernel(kernels: &[&'static Declaration], name: &str, sizes: Option<&Sizes>) -> Result<String> {
    let kernel = find(kernels, name)?;
    let mut text = String::new();
    let signature = kernel.signature;
    let ports = |ports: &[Port]| {
        let of = |port: &Port| format!("{} {} {}", port.name, dtype(port.dtype), port.shape_text);
        ports.iter().map(of).collect::<Vec<_>>().join("; ")
    };
    let mut line = |title: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "{title:<12}  {value}");
        }
    };
    line("kernel", name.to_owned());
    line("declared", format!("{}:{}, in `{}`", kernel.file, kernel.line, signature.module));
    line("inputs", ports(signature.inputs));
    let visible: Vec<Port> = signature.visible_outputs().copied().collect();
    line("outputs", ports(&visible));
    line("residuals", residuals(kernel, sizes));
    line("gradient", gradient(kernel));
    let stages = kernel.stages();
    if !kernel.is_backward() {
        line("called by", called_by(kernel));
    }
    line("stages", stages.iter().map(|stage| stage.signature.name).collect::<Vec<_>>().join(", "));
    line("own text on", places(kernel)?);
    match kernel.on_cuda()? {
        OnCuda::Refused(reason) => line("not on cuda", reason),
        OnCuda::Translated => line("cuda*", "the Metal text, translated".to_owned()),
        OnCuda::Native | OnCuda::Operations => {}
    }
    line("same bits", if kernel.is_deterministic() { "in every run" } else { "not in every run" }.to_owned());
    line("requires", requirements(kernel));
    let forward = match kernel.route {
        Route::Backward { of } => of(),
        _ => kernel,
    };
    for case in forward.cases {
        let sizes: Vec<String> = case.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        line("case", sizes.join(", "));
    }
    line("checked by", checks(kernel));
    for exception in exceptions(kernel) {
        line("but", exception);
    }
    Ok(text)
}

fn gradient(kernel: &'static Declaration) -> String {
    match kernel.route {
        Route::Gradient { backward, fallback, .. } => {
            let backward = backward.map(|backward| format!("the kernel `{}`", backward().signature.name));
            let fallback = fallback.map(|_| "its fallback".to_owned());
            let both: Vec<String> = backward.into_iter().chain(fallback).collect();
            both.join("; where that cannot run, ")
        }
        Route::Backward { of } => format!("is that of `{}`", of().signature.name),
        Route::Stage => "none of its own: a stage of others".to_owned(),
        Route::InferenceOnly { reason } => format!("none: {reason}"),
    }
}

/// The texts that MLX gets on CUDA for one kernel, at its first case.
///
/// # Errors
/// If there is no such kernel, or CUDA has no counterpart of its text.
pub fn cuda(kernels: &[&'static Declaration], name: &str) -> Result<String> {
    let texts = find(kernels, name)?.cuda_texts()?;
    if texts.is_empty() {
        return Ok(format!("// `{name}` launches nothing: its body is made of operations.\n"));
    }
    Ok(texts.into_iter().map(|(name, text)| format!("// {name}\n{text}\n")).collect())
}

fn find(kernels: &[&'static Declaration], name: &str) -> Result<&'static Declaration> {
    let mut named = kernels.iter().filter(|kernel| kernel.signature.name == name);
    match (named.next(), named.count()) {
        (None, _) => bail!("no kernel is called `{name}`\n  help: list the kernels with `{} kernels`", crate::caller()),
        (Some(kernel), 0) => Ok(kernel),
        (Some(_), others) => bail!("{} kernels are called `{name}`\n  help: rename all but one", 1 + others),
    }
}

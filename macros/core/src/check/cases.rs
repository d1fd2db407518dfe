//! Checks that a kernel names the sizes at which it is tested, one of them ragged (C17).

use crate::parse::threadgroup::least_bytes;
use proc_macro2::Span;

use crate::catalogue::{Code, entry};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::model::body::Body;
use crate::model::expression::Polynomial;
use crate::model::kernel::{Case, ConstantKind, DeclarationRole, Kernel};
use crate::model::requirement::Requirement;
use cotangent_metal::limits::{MAX_THREADGROUP_BYTES, MAX_THREADS};

/// Checks the cases of forwards and stages; a backward is tested at those of its forward.
pub fn check(kernel: &Kernel, diagnostics: &mut Diagnostics) {
    if matches!(kernel.role, DeclarationRole::Backward { .. }) {
        return;
    }
    let name = &kernel.name;
    // A kernel without any route is not a declaration yet, which was already reported.
    if kernel.cases_span.is_none() && diagnostics.count() > 0 {
        return;
    }
    let Some(span) = kernel.cases_span.filter(|_| !kernel.cases.is_empty()) else {
        let span = kernel.cases_span.unwrap_or_else(|| name.span());
        diagnostics.push(
            Diagnostic::coded(Code::C17, span, format!("kernel `{name}` has no test cases")).help(example(kernel)),
        );
        return;
    };
    let symbols = symbols(kernel);
    let before = diagnostics.count();
    for case in &kernel.cases {
        // A dimension that nothing binds was reported where it is written.
        let unbound = |symbol: &str| {
            kernel
                .ports()
                .flat_map(|port| &port.shape)
                .any(|(extent, _)| extent.symbols().iter().any(|name| name == symbol))
        };
        let unknown = |symbol: &str| !symbols.iter().any(|known| known == symbol) && !unbound(symbol);
        for (symbol, _) in case.values.iter().filter(|(symbol, _)| unknown(&symbol.to_string())) {
            diagnostics.push(
                Diagnostic::coded(
                    Code::C17,
                    symbol.span(),
                    format!("`{symbol}` is no dimension or constant of `{name}`"),
                )
                .help(example(kernel)),
            );
        }
        for (position, (symbol, value)) in case.values.iter().enumerate() {
            if case.values[..position].iter().any(|(earlier, _)| earlier == symbol) {
                diagnostics.push(Diagnostic::coded(Code::C17, symbol.span(), format!("`{symbol}` is bound twice")));
            }
            if !is_size(*value) {
                diagnostics.push(
                    Diagnostic::coded(
                        Code::C17,
                        symbol.span(),
                        format!("`{symbol}` is {value}, and sizes and constants of a kernel have 32 bits"),
                    )
                    .help("test a size that a tensor can have"),
                );
                continue;
            }
            let constant = kernel.constants.iter().find(|constant| constant.name == *symbol);
            let kind = match constant.map(|constant| constant.kind) {
                Some(ConstantKind::Bool) if !(0..=1).contains(value) => Some("bool"),
                Some(ConstantKind::Usize) if *value < 0 => Some("usize"),
                _ => None,
            };
            if let Some(kind) = kind {
                diagnostics.push(
                    Diagnostic::coded(
                        Code::C17,
                        symbol.span(),
                        format!("`{symbol}` is {value}, and a constant of type `{kind}` has no such value"),
                    )
                    .help(example(kernel)),
                );
            }
            let is_dimension = kernel.dimensions.iter().any(|dimension| *symbol == dimension.name);
            if is_dimension && *value < 1 {
                diagnostics.push(
                    Diagnostic::coded(
                        Code::C17,
                        symbol.span(),
                        format!("`{symbol}` is {value}, and no axis is that short"),
                    )
                    .help("test sizes of at least one"),
                );
            }
        }
        let missing: Vec<String> =
            symbols.iter().filter(|symbol| case.value(symbol).is_none()).map(|symbol| format!("`{symbol}`")).collect();
        if !missing.is_empty() {
            diagnostics.push(
                Diagnostic::coded(
                    Code::C17,
                    case.span,
                    format!("this case of `{name}` leaves {} open", missing.join(", ")),
                )
                .help(example(kernel)),
            );
        }
    }
    // Whether the cases fit the kernel is checked once they can be read.
    if diagnostics.count() > before {
        return;
    }
    check_requirements(kernel, span, diagnostics);
    let possible: Vec<&Case> = kernel.cases.iter().filter(|case| broken(kernel, case).is_none()).collect();
    for case in &possible {
        check_sizes(kernel, case, diagnostics);
    }
    let is_ragged = |value: i64| value > 1 && value % 2 == 1;
    let ragged = possible.iter().flat_map(|case| &case.values).any(|(_, value)| is_ragged(*value));
    // If the requirements leave no odd size, there is none to test.
    let could_be = |case: &&Case| {
        symbols.iter().filter(|symbol| !is_bool(kernel, symbol)).any(|symbol| {
            let odd = case.value(symbol).map(|value| if value < 2 { 3 } else { value | 1 });
            let value_of = |name: &str| if name == symbol { odd } else { case.value(name) };
            kernel.requirements.iter().all(|requirement| requirement.holds(&value_of))
        })
    };
    if !ragged && possible.iter().any(could_be) {
        let among = if possible.len() == kernel.cases.len() { "" } else { " that meets its requirements" };
        diagnostics.push(
            Diagnostic::coded(
                Code::C17,
                span,
                format!("no case of `{name}`{among} is ragged: every size is even or one"),
            )
            .help(entry(Code::C17).help),
        );
    }
}

/// A case that breaks a requirement tests the fallback alone: there must be one, and another case for the kernel.
fn check_requirements(kernel: &Kernel, span: Span, diagnostics: &mut Diagnostics) {
    let name = &kernel.name;
    let has_fallback = matches!(&kernel.role, DeclarationRole::Forward(route) if route.fallback.is_some());
    let mut tested = false;
    for case in &kernel.cases {
        let Some(requirement) = broken(kernel, case) else {
            tested = true;
            continue;
        };
        if !has_fallback {
            tested = true;
            diagnostics.push(
                Diagnostic::coded(
                    Code::C17,
                    case.span,
                    format!(
                        "this case breaks the requirement `{requirement}` of `{name}`, which has no fallback to run"
                    ),
                )
                .help("test sizes that meet the requirements"),
            );
        }
    }
    if !tested {
        diagnostics.push(
            Diagnostic::coded(
                Code::C17,
                span,
                format!("no case meets the requirements of `{name}`, so only its fallback would be tested"),
            )
            .help("add a case that the kernel itself can run"),
        );
    }
}

/// Shapes and the launch have sizes at a case, within what Metal allows.
fn check_sizes(kernel: &Kernel, case: &Case, diagnostics: &mut Diagnostics) {
    let name = &kernel.name;
    let value_of = |name: &str| case.value(name);
    let value = |extent: &Polynomial| match extent.evaluate(&value_of) {
        Ok(value) => format!("`{extent}` is {value}"),
        Err(error) => format!("`{extent}` has no value: {error}"),
    };
    for port in kernel.ports() {
        let impossible =
            |extent: &&Polynomial| extent.evaluate(&value_of).map_or(true, |value| value < 0 || !is_size(value));
        if let Some(extent) = port.shape.iter().map(|(extent, _)| extent).find(impossible) {
            diagnostics.push(
                Diagnostic::coded(
                    Code::C17,
                    case.span,
                    format!("at this case port `{}` of `{name}` has no shape: {}", port.name, value(extent)),
                )
                .help("test sizes that make sense, or state with `requires = [..]` what the kernel needs"),
            );
            continue;
        }
        let mut lengths = port.shape.iter().map(|(extent, _)| extent.evaluate(&value_of).ok());
        let elements = lengths.try_fold(1_i64, |all, length| all.checked_mul(length?));
        if elements.is_none_or(|elements| !is_size(elements)) {
            diagnostics.push(
                Diagnostic::coded(
                    Code::C17,
                    case.span,
                    format!("at this case port `{}` of `{name}` has more than 2^31 - 1 elements", port.name),
                )
                .help("test sizes that fit into memory"),
            );
            return;
        }
    }
    let Body::Launch(launch) = &kernel.body else { return };
    if launch.metal.is_whole {
        let bytes = least_bytes(kernel, &launch.scan(kernel, &launch.metal));
        // A size that is literal was reported where it is written.
        if let (None, Ok(bytes)) = (bytes.as_constant(), bytes.evaluate(&value_of))
            && bytes > MAX_THREADGROUP_BYTES
        {
            diagnostics.push(
                Diagnostic::coded(
                    Code::C14,
                    case.span,
                    format!(
                        "at this case `{name}` uses {bytes} bytes of threadgroup memory, Metal allows \
                         {MAX_THREADGROUP_BYTES}"
                    ),
                )
                .help(entry(Code::C14).help),
            );
        }
    }
    for (given, option) in [(&launch.grid, "grid"), (&launch.threads, "threads")] {
        let Some((extents, _)) = given else { continue };
        let impossible = |extent: &&Polynomial| {
            extent.as_constant().is_none()
                && extent.evaluate(&value_of).map_or(true, |value| value < 1 || !is_size(value))
        };
        if let Some(extent) = extents.iter().find(impossible) {
            diagnostics.push(
                Diagnostic::coded(
                    Code::C14,
                    case.span,
                    format!("at this case `{option}` of `{name}` has an extent that no launch has: {}", value(extent)),
                )
                .help("make every extent at least one and at most 2^31 - 1, or state with `requires = [..]` what the kernel needs"),
            );
        }
    }
    if let Some((threads, _)) = &launch.threads
        && threads.iter().any(|extent| extent.as_constant().is_none())
        && let Ok(sizes) = threads.iter().map(|extent| extent.evaluate(&value_of)).collect::<Result<Vec<_>, _>>()
        && let Some(count) = sizes.iter().try_fold(1_i64, |all, one| all.checked_mul(*one))
        && count > MAX_THREADS
    {
        diagnostics.push(
            Diagnostic::coded(
                Code::C14,
                case.span,
                format!("at this case a threadgroup of `{name}` has {count} threads, Metal allows {MAX_THREADS}"),
            )
            .help(entry(Code::C14).help),
        );
    }
}

/// Returns whether it is a template constant that is true or false.
fn is_bool(kernel: &Kernel, symbol: &str) -> bool {
    kernel.constants.iter().any(|constant| constant.name == symbol && constant.kind == ConstantKind::Bool)
}

/// Returns whether 32 bits hold it.
fn is_size(value: i64) -> bool {
    i32::try_from(value).is_ok()
}

/// The first requirement that `case` breaks. A case that leaves a symbol of it open was reported for that.
fn broken<'a>(kernel: &'a Kernel, case: &Case) -> Option<&'a Requirement> {
    let value_of = |name: &str| case.value(name);
    kernel.requirements.iter().find(|requirement| {
        let complete = requirement.symbols().iter().all(|symbol| case.value(symbol).is_some());
        complete && !requirement.holds(&value_of)
    })
}

/// Returns what a case binds: dimensions and constants, in order.
fn symbols(kernel: &Kernel) -> Vec<String> {
    let dimensions = kernel.dimensions.iter().map(|dimension| dimension.name.clone());
    dimensions.chain(kernel.constants.iter().map(|constant| constant.name.to_string())).collect()
}

fn example(kernel: &Kernel) -> String {
    let values: Vec<String> = symbols(kernel).iter().map(|symbol| format!("{symbol} = 3")).collect();
    format!("write `cases = [({})]` with sizes that make sense, at least one of them odd", values.join(", "))
}

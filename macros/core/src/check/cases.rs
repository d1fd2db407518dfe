//! C17: every kernel names the sizes at which machinery tests it, one of them ragged.

use crate::catalogue::{Code, entry};
use crate::diagnostics::{Diagnostic, Diagnostics};
use crate::model::kernel::{Kernel, Role};

/// Checks the cases of forwards and stages; a backward is tested at those of its forward.
pub fn check(kernel: &Kernel, diagnostics: &mut Diagnostics) {
    if matches!(kernel.role, Role::Backward { .. }) {
        return;
    }
    let name = &kernel.name;
    let Some(span) = kernel.cases_span.filter(|_| !kernel.cases.is_empty()) else {
        let span = kernel.cases_span.unwrap_or_else(|| name.span());
        diagnostics.push(
            Diagnostic::coded(Code::C17, span, format!("kernel `{name}` has no test cases")).help(example(kernel)),
        );
        return;
    };
    let symbols = symbols(kernel);
    for case in &kernel.cases {
        for (symbol, _) in case.values.iter().filter(|(symbol, _)| !symbols.contains(&symbol.to_string())) {
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
    let ragged = kernel.cases.iter().flat_map(|case| &case.values).any(|(_, value)| *value > 1 && value % 2 == 1);
    if !ragged && !symbols.is_empty() {
        diagnostics.push(
            Diagnostic::coded(Code::C17, span, format!("no case of `{name}` is ragged: every size is even or one"))
                .help(entry(Code::C17).help),
        );
    }
}

/// What a case binds: dimensions and constants, in order.
fn symbols(kernel: &Kernel) -> Vec<String> {
    let dimensions = kernel.dimensions.iter().map(|dimension| dimension.name.clone());
    dimensions.chain(kernel.constants.iter().map(|constant| constant.name.to_string())).collect()
}

fn example(kernel: &Kernel) -> String {
    let values: Vec<String> = symbols(kernel).iter().map(|symbol| format!("{symbol} = 3")).collect();
    format!("write `cases = [({})]` with sizes that make sense, at least one of them odd", values.join(", "))
}

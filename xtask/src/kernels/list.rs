//! `cargo xtask kernels`: all kernels, one a line.

use super::source::{KernelSource, Kind};
use cotangent_macros_core::model::kernel::{Kernel, Role};
use quote::ToTokens;

/// The names alone, for scripts.
pub fn names(kernels: &[KernelSource]) -> String {
    kernels.iter().map(|kernel| kernel.name() + "\n").collect()
}

/// Name, gradient and place of each.
pub fn table(kernels: &[KernelSource]) -> String {
    let mut rows = vec![["kernel".to_owned(), "gradient".to_owned(), "where".to_owned()]];
    rows.extend(kernels.iter().map(|kernel| [kernel.name(), gradient(kernel), kernel.place.clone()]));
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let (first, second) = (width(0), width(1));
    rows.iter().map(|[name, gradient, place]| format!("{name:first$}  {gradient:second$}  {place}\n")).collect()
}

/// How gradients flow through `kernel`.
fn gradient(kernel: &KernelSource) -> String {
    if kernel.kind == Kind::Stage {
        return "a stage of others".to_owned();
    }
    match cotangent_macros_core::plan(kernel.options.clone(), kernel.function.to_token_stream()) {
        Ok(plan) => route(&plan.kernel),
        Err(mistakes) => format!("refused: {} mistakes", mistakes.len()),
    }
}

fn route(kernel: &Kernel) -> String {
    let plain = |tokens: &proc_macro2::TokenStream| tokens.to_string().replace(' ', "");
    match &kernel.role {
        Role::Forward(route) => {
            let routes: Vec<_> = [
                route.backward.as_ref().map(|(backward, _)| plain(backward)),
                route.fallback.as_ref().map(|(fallback, _)| format!("fallback {}", plain(fallback))),
                route.inference_only.as_ref().map(|(reason, _)| format!("none: {reason}")),
            ]
            .into_iter()
            .flatten()
            .collect();
            routes.join(", ")
        }
        Role::Backward { .. } => "is one".to_owned(),
        Role::Stage => "a stage of others".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::find_in;
    use super::*;

    const TEXT: &str = "
        #[differentiable(fallback = ops::double, grid = (N, 1, 1), threads = (64, 1, 1), cases = [(N = 7), (N = 64)])]
        pub fn double(x: In![f32; N], y: Out![f32; N]) {
            metal! { uint i = thread_position_in_grid.x; if (i < N) { y[i] = 2 * x[i]; } }
        }

        #[differentiable]
        pub fn unfinished(x: In![f32; N]) {}

        #[stage]
        fn part(x: In![f32; N]) {}
    ";

    #[test]
    fn a_row_tells_the_gradient_and_the_place() {
        let table = table(&find_in(TEXT, "kernels/src/double.rs").unwrap());
        let rows: Vec<Vec<_>> = table
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(rows[0], ["kernel", "gradient", "where"]);
        assert_eq!(rows[1], ["double", "fallback ops::double", "kernels/src/double.rs:3"]);
        assert_eq!(rows[2][0], "unfinished");
        assert!(rows[2][1].starts_with("refused: "), "{table}");
        assert_eq!(rows[3], ["part", "a stage of others", "kernels/src/double.rs:11"]);
    }

    #[test]
    fn names_stand_one_a_line() {
        assert_eq!(names(&find_in(TEXT, "double.rs").unwrap()), "double\nunfinished\npart\n");
    }
}

//! The sizes at which a kernel is checked.

use super::experiment::{Sizes, shape_of};
use crate::Result;
use crate::kernel::declaration::{Body, Declaration};
use crate::kernel::dispatch::runs_on;

/// Names that the project's kernels give the length of a sequence.
const LENGTHS: [&str; 2] = ["S", "T"];

/// The declared cases, and the smallest of them again for a sequence of one token, which is how generation runs.
pub(super) fn cases(declaration: &'static Declaration) -> Vec<Sizes> {
    let mut cases: Vec<Sizes> = declaration.cases.iter().map(|case| case.to_vec()).collect();
    let dimensions = declaration.signature.dimensions;
    let length = dimensions.iter().map(|dimension| dimension.name).find(|name| LENGTHS.contains(name));
    let smallest = cases.iter().min_by_key(|case| elements(declaration, case)).cloned();
    if let (Some(length), Some(mut short)) = (length, smallest) {
        for (name, value) in &mut short {
            if *name == length {
                *value = 1;
            }
        }
        if !cases.contains(&short) && is_possible(declaration, &short) {
            cases.push(short);
        }
    }
    cases
}

/// Elements of all inputs and outputs.
pub(super) fn elements(declaration: &'static Declaration, case: &Sizes) -> u64 {
    let ports = declaration.signature.inputs.iter().chain(declaration.signature.outputs);
    let of = |shape: Vec<i32>| shape.iter().map(|extent| extent.unsigned_abs() as u64).product::<u64>();
    ports.filter_map(|port| shape_of(port, case)).map(of).sum()
}

/// Whether the kernel itself can run a case on this backend, be its fallback faster there or not.
pub(super) fn runs_at(declaration: &'static Declaration, case: &Sizes) -> Result<bool> {
    let value_of = |name: &str| case.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    Ok(runs_on(declaration, crate::backend()?) && declaration.signature.broken_requirement(&value_of).is_none())
}

/// Whether shapes and grid have values there, and the kernel's own requirements hold.
pub(super) fn is_possible(declaration: &'static Declaration, case: &Sizes) -> bool {
    let value_of = |name: &str| case.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
    let signature = declaration.signature;
    let mut ports = signature.inputs.iter().chain(signature.outputs);
    let grid = match &declaration.body {
        Body::Launch(launch) => launch.grid.iter().all(|extent| extent.evaluate(&value_of).is_some_and(|n| n > 0)),
        Body::Rust { .. } => true,
    };
    let allowed = signature.broken_requirement(&value_of).is_none();
    grid && allowed && ports.all(|port| shape_of(port, case).is_some())
}

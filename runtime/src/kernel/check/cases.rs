//! The sizes at which a kernel is checked, with and without its optional inputs.

use std::fmt;

use super::experiment::shape_of;
use crate::kernel::declaration::{Body, Declaration};
use crate::kernel::dispatch::runs_on;
use crate::kernel::signature::{Port, Signature};
use crate::{Dtype, Result};

/// Names that the project's kernels give the length of a sequence.
const LENGTHS: [&str; 2] = ["S", "T"];

/// One call that is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// A value for every symbol, as [`Case`](crate::kernel::signature::Case), but made by the checks.
    pub(super) sizes: Vec<(&'static str, i64)>,
    /// The dtypes that no input settles.
    pub(super) dtypes: Vec<(&'static str, Dtype)>,
    /// The optional inputs that the call leaves out.
    pub(super) absent: Vec<&'static str>,
}

impl Setting {
    pub(super) fn value(&self, name: &str) -> Option<i64> {
        self.sizes.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }
}

impl fmt::Display for Setting {
    /// Writes a setting as in ``S = 7, D = 12, P = bfloat16, without `mask` ``.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes = self.sizes.iter().map(|(name, value)| format!("{name} = {value}"));
        let dtypes = self.dtypes.iter().map(|(name, dtype)| format!("{name} = {dtype}"));
        let absent = self.absent.iter().map(|name| format!("without `{name}`"));
        formatter.write_str(&sizes.chain(dtypes).chain(absent).collect::<Vec<_>>().join(", "))
    }
}

/// The declared cases, and the smallest of them again for a sequence of one token, which is how generation runs; each
/// with all inputs and without the optional ones.
pub(super) fn cases(declaration: &'static Declaration) -> Vec<Setting> {
    let absences = absences(declaration.signature);
    let with = |sizes: Setting| absences.iter().map(move |absent| Setting { absent: absent.clone(), ..sizes.clone() });
    cases_without_absences(declaration).into_iter().flat_map(with).collect()
}

/// Returns which optional inputs are left out, call by call: none, each alone, and all of several.
fn absences(signature: &Signature) -> Vec<Vec<&'static str>> {
    let optional: Vec<&str> = signature.inputs.iter().filter(|port| port.optional).map(|port| port.name).collect();
    let mut absences = vec![Vec::new()];
    absences.extend(optional.iter().map(|name| vec![*name]));
    if optional.len() > 1 {
        absences.push(optional);
    }
    absences
}

/// Returns the cases with all inputs present.
pub(super) fn cases_without_absences(declaration: &'static Declaration) -> Vec<Setting> {
    let of = |case: &&[(&'static str, i64)]| Setting { sizes: case.to_vec(), dtypes: Vec::new(), absent: Vec::new() };
    let mut cases: Vec<Setting> = declaration.cases.iter().map(of).collect();
    let dimensions = declaration.signature.dimensions;
    let length = dimensions.iter().map(|dimension| dimension.name).find(|name| LENGTHS.contains(name));
    let smallest = cases.iter().min_by_key(|case| elements(declaration, case)).cloned();
    if let (Some(length), Some(mut short)) = (length, smallest) {
        for (name, value) in &mut short.sizes {
            if *name == length {
                *value = 1;
            }
        }
        if !cases.contains(&short) && is_possible(declaration, &short) {
            cases.push(short);
        }
    }
    with_free_dtypes(declaration, cases)
}

/// Gives each case the dtypes that no input settles: the dtypes of a class take turns, and the largest case runs with each of them.
fn with_free_dtypes(declaration: &'static Declaration, cases: Vec<Setting>) -> Vec<Setting> {
    let free: Vec<_> = declaration.signature.free_dtypes().collect();
    let Some(all) = free.iter().map(|parameter| parameter.class.len()).max() else { return cases };
    let largest = cases.iter().max_by_key(|case| elements(declaration, case)).cloned();
    let mut turns = 0..;
    let mut found = Vec::new();
    for case in cases {
        let count = if Some(&case) == largest.as_ref() { all } else { 1 };
        found.extend(turns.by_ref().take(count).map(|turn: usize| {
            let dtypes = free.iter().map(|parameter| (parameter.name, parameter.class[turn % parameter.class.len()]));
            Setting { dtypes: dtypes.collect(), ..case.clone() }
        }));
    }
    found
}

/// MLX puts inputs of fewer elements into `constant` memory.
const SMALL: i64 = 8;

/// `base`, and for each way in which its inputs can be small or not, one more case: run-time dimensions are as in `base`,
/// or one, as far as requirements allow.
pub(super) fn with_small_inputs(declaration: &'static Declaration, base: &Setting) -> Vec<Setting> {
    let signature = declaration.signature;
    let smallness = |case: &Setting| -> Vec<bool> {
        let elements = |shape: Vec<i32>| shape.iter().map(|extent| i64::from(*extent)).product::<i64>();
        signature.inputs.iter().map(|port| shape_of(port, case).is_some_and(|shape| elements(shape) < SMALL)).collect()
    };
    let dimensions: Vec<&str> = signature.dimensions.iter().map(|dimension| dimension.name).collect();
    let mut found = vec![base.clone()];
    let mut seen = vec![smallness(base)];
    // No signature has as many as sixteen dimensions; the bound keeps the loop finite.
    for ones in 1..1_u32 << dimensions.len().min(16) {
        let mut case = base.clone();
        for (name, value) in &mut case.sizes {
            let place = dimensions.iter().position(|dimension| dimension == name);
            if place.is_some_and(|place| ones >> place & 1 == 1) {
                *value = 1;
            }
        }
        if is_possible(declaration, &case) && !has_nothing(declaration, &case) && !seen.contains(&smallness(&case)) {
            seen.push(smallness(&case));
            found.push(case);
        }
    }
    found
}

/// Returns whether an array would be empty: such a launch is none.
fn has_nothing(declaration: &'static Declaration, case: &Setting) -> bool {
    let mut ports = declaration.signature.inputs.iter().chain(declaration.signature.outputs);
    ports.any(|port| shape_of(port, case).is_some_and(|shape| shape.contains(&0)))
}

/// Elements of all inputs and outputs.
pub(super) fn elements(declaration: &'static Declaration, case: &Setting) -> u64 {
    elements_of(declaration.signature.inputs.iter().chain(declaration.signature.outputs), case)
}

/// Elements of all inputs, and of the outputs that a caller sees.
pub(super) fn visible_elements(declaration: &'static Declaration, case: &Setting) -> u64 {
    elements_of(declaration.signature.inputs.iter().chain(declaration.signature.visible_outputs()), case)
}

fn elements_of<'a>(ports: impl Iterator<Item = &'a Port>, case: &Setting) -> u64 {
    let of = |shape: Vec<i32>| shape.iter().map(|extent| extent.unsigned_abs() as u64).product::<u64>();
    ports.filter_map(|port| shape_of(port, case)).map(of).sum()
}

/// Returns whether the kernel itself can run a case on this backend, be its fallback faster there or not.
pub(super) fn runs_at(declaration: &'static Declaration, case: &Setting) -> Result<bool> {
    let value_of = |name: &str| case.value(name);
    Ok(runs_on(declaration, crate::backend()?) && declaration.signature.broken_requirement(&value_of).is_none())
}

/// Returns whether shapes and grid have values there, and the kernel's own requirements hold.
pub(super) fn is_possible(declaration: &'static Declaration, case: &Setting) -> bool {
    let value_of = |name: &str| case.value(name);
    let signature = declaration.signature;
    let mut ports = signature.inputs.iter().chain(signature.outputs);
    let grid = match &declaration.body {
        Body::Launch(launch) => launch.grid.iter().all(|extent| extent.evaluate(&value_of).is_some_and(|n| n > 0)),
        Body::Rust { .. } => true,
    };
    let allowed = signature.broken_requirement(&value_of).is_none();
    grid && allowed && ports.all(|port| shape_of(port, case).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::declaration::Kernel as _;

    #[crate::stage(
        crate = crate,
        untested = "only its sizes are looked at",
        grid = (N, 1, 1),
        threads = (32, 1, 1),
        cases = [(N = 3), (N = 7), (N = 5)],
    )]
    fn rounded<Sum: F32 + BF16, Count: Int>(x: In![f32; N], y: Out![Sum; N], z: Out![Count; N]) {
        metal! { uint i = thread_position_in_grid.x; y[i] = Sum(x[i]); z[i] = Count(x[i]); }
    }

    #[test]
    fn dtypes_that_no_input_settles_take_turns_and_the_largest_case_has_all() {
        let cases: Vec<String> = cases(rounded::declaration()).iter().map(Setting::to_string).collect();
        let classes = rounded::declaration().signature.dtypes;
        let [sum, count] = [0, 1].map(|place| classes[place].class);
        let expected = std::iter::once(3).chain(std::iter::repeat_n(7, count.len())).chain([5]).enumerate();
        let expected = expected.map(|(turn, n)| {
            format!("N = {n}, Sum = {}, Count = {}", sum[turn % sum.len()], count[turn % count.len()])
        });
        assert_eq!(cases, expected.collect::<Vec<_>>());
    }
}

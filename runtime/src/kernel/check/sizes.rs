//! The sizes of the input plan: the declared cases, and what they leave out.

use std::cmp::Reverse;

use super::cases::{Setting, cases_without_absences, elements, is_possible, visible_elements};
use super::experiment::dtypes;
use super::plan::subsets;
use crate::Dtype;
use crate::kernel::declaration::{Body, Declaration};
use crate::kernel::signature::{ConstantKind, Expression, TemplateConstant};

/// The most elements of a case that the declaration does not name.
const ELEMENTS: u64 = 20_000;

/// How far up a bound of a requirement is looked for.
const LARGEST: i64 = 1024;

/// Threads of a simdgroup.
const SIMDGROUP: i64 = 32;

/// One size that is checked, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Planned {
    pub(super) setting: Setting,
    /// The next of these is checked instead where it does not run.
    pub(super) otherwise: Vec<Setting>,
    /// The half precisions in which it is checked as well.
    pub(super) halves: Vec<Dtype>,
    /// Whether the author declared it.
    pub(super) is_declared: bool,
    /// Whether everything else of the plan is varied there.
    pub(super) is_varied: bool,
}

/// All sizes of a kernel, the one that is varied first; `works` says whether a size that the declaration does not name can be run.
pub(super) fn planned(declaration: &'static Declaration, works: &dyn Fn(&Setting) -> bool) -> Vec<Planned> {
    let signature = declaration.signature;
    let declared = cases_without_absences(declaration);
    let optional: Vec<&str> = signature.inputs.iter().filter(|port| port.optional).map(|port| port.name).collect();
    let mut planned: Vec<Planned> = Vec::new();
    let mut add = |setting: Setting, is_declared: bool, is_varied: bool| {
        if !planned.iter().any(|known| known.setting == setting) {
            planned.push(Planned { setting, otherwise: Vec::new(), halves: Vec::new(), is_declared, is_varied });
        }
    };
    let varied = varied(declaration, &declared, works);
    if let Some(varied) = &varied {
        add(varied.clone(), declared.contains(varied), true);
        for absent in subsets(&optional) {
            add(Setting { absent, ..varied.clone() }, declared.contains(varied), false);
        }
    }
    for setting in &declared {
        add(setting.clone(), true, false);
        if !optional.is_empty() {
            add(Setting { absent: optional.clone(), ..setting.clone() }, true, false);
        }
    }
    let settings: Vec<&Setting> = planned.iter().map(|planned| &planned.setting).collect();
    let halves = halves(declaration, &settings);
    for (planned, halves) in planned.iter_mut().zip(halves).filter(|(planned, _)| planned.is_declared) {
        planned.halves = halves;
    }
    for mut alternatives in varied.iter().flat_map(|varied| others(declaration, varied, &declared)) {
        let setting = alternatives.remove(0);
        if !planned.iter().any(|known| known.setting == setting) {
            let (otherwise, halves) = (alternatives, Vec::new());
            planned.push(Planned { setting, otherwise, halves, is_declared: false, is_varied: false });
        }
    }
    planned
}

/// In which of the half precisions a kernel is tried at each size, beside float32: in each at the largest, as there it sums
/// most, and in one of them, in turn, at all others. The text is the same in all, so that sizes need not meet each.
pub(super) fn halves(declaration: &'static Declaration, settings: &[&Setting]) -> Vec<Vec<Dtype>> {
    let halves: Vec<Dtype> = dtypes(declaration.signature).into_iter().filter(|dtype| *dtype != Dtype::F32).collect();
    let largest = settings.iter().rev().max_by_key(|setting| elements(declaration, setting));
    let mut turn = halves.iter().cycle();
    let of = |setting: &&Setting| match largest {
        Some(largest) if setting == largest => halves.clone(),
        _ => turn.next().into_iter().copied().collect(),
    };
    settings.iter().map(of).collect()
}

/// The smallest case in which no dimension is one, as far as there is such a case: where one is, strides do not matter, and
/// sums have one term.
fn varied(
    declaration: &'static Declaration,
    declared: &[Setting],
    works: &dyn Fn(&Setting) -> bool,
) -> Option<Setting> {
    let dimensions: Vec<&str> = declaration.signature.dimensions.iter().map(|dimension| dimension.name).collect();
    let mut candidates: Vec<Setting> = declared.to_vec();
    for setting in declared {
        let mut wider = setting.clone();
        for name in &dimensions {
            if wider.value(name) == Some(1) {
                let with = |value| changed(&wider, name, value);
                if let Some(better) = [3, 2].map(with).into_iter().find(|wider| is_possible(declaration, wider)) {
                    wider = better;
                }
            }
        }
        candidates.push(wider);
    }
    let ones = |setting: &Setting| setting.sizes.iter().filter(|(_, value)| *value == 1).count();
    let runs = |setting: &&Setting| declared.contains(setting) || works(setting);
    let possible = candidates.iter().filter(|setting| is_possible(declaration, setting)).filter(runs);
    let key = |setting: &&Setting| (ones(setting), !declared.contains(setting), elements(declaration, setting));
    let smallest = possible.min_by_key(key);
    smallest.or_else(|| declared.iter().min_by_key(|setting| elements(declaration, setting))).cloned()
}

fn common_divisor(left: i64, right: i64) -> i64 {
    if right == 0 { left } else { common_divisor(right, left % right) }
}

fn changed(setting: &Setting, name: &str, value: i64) -> Setting {
    let mut setting = setting.clone();
    for (known, old) in &mut setting.sizes {
        if *known == name {
            *old = value;
        }
    }
    setting
}

/// Sizes that no declared case has: beyond one simdgroup and one threadgroup, at the bounds of requirements, the other value
/// of a bool constant, another of an integer one. Each is a list of alternatives: one that runs will do.
fn others(declaration: &'static Declaration, varied: &Setting, declared: &[Setting]) -> Vec<Vec<Setting>> {
    let signature = declaration.signature;
    let is_seen = |name: &str, value: i64| declared.iter().any(|setting| setting.value(name) == Some(value));
    let fits = |setting: &Setting| is_possible(declaration, setting) && elements(declaration, setting) <= ELEMENTS;
    let mut found: Vec<Setting> = Vec::new();
    let mut add = |name: &str, value: Option<i64>| {
        let Some(value) = value else { return };
        let setting = changed(varied, name, value);
        let is_new = !is_seen(name, value) && varied.value(name) != Some(value);
        if is_new && fits(&setting) {
            found.push(setting);
        }
    };
    let long = long(declaration, declared);
    for dimension in signature.dimensions {
        let name = dimension.name;
        let seen = declared.iter().chain(long.first()).filter_map(|setting| setting.value(name));
        let largest = seen.max().unwrap_or_default();
        let beyond = [Some(SIMDGROUP), threads(declaration, varied).filter(|threads| *threads > SIMDGROUP)];
        for beyond in beyond.into_iter().flatten().filter(|beyond| largest <= *beyond) {
            let next = beyond_of(declared, name, beyond, &|value| fits(&changed(varied, name, value)));
            add(name, next);
        }
    }
    for constant in signature.constants {
        match constant.kind {
            ConstantKind::Bool => {
                add(constant.name, Some(0));
                add(constant.name, Some(1));
            }
            ConstantKind::Usize | ConstantKind::I32 => {
                let Some(value) = varied.value(constant.name) else { continue };
                if declared.iter().all(|setting| setting.value(constant.name) == Some(value)) {
                    let others = [value + 1, value * 2, value - 1, value / 2].into_iter().filter(|other| *other > 0);
                    let other = others.into_iter().find(|other| fits(&changed(varied, constant.name, *other)));
                    add(constant.name, other);
                }
            }
        }
    }
    for name in signature.requirements.iter().flat_map(|requirement| requirement.symbols()) {
        let allowed = |value: &i64| is_possible(declaration, &changed(varied, name, *value));
        let least = (1..=LARGEST).find(allowed);
        let most = (1..=LARGEST).rev().find(allowed);
        // Beyond a bound nothing is allowed; a multiple of something has none.
        let is_bounded = most.is_some_and(|most| !(most + 1..=2 * LARGEST).any(|value| allowed(&value)));
        add(name, least);
        add(name, most.filter(|_| is_bounded));
    }
    let others = found.into_iter().map(|setting| vec![setting]);
    std::iter::once(long).filter(|long| !long.is_empty()).chain(others).collect()
}

/// Sizes at which as much as possible is beyond a simdgroup at once, the fullest first, of which one that runs will do: what
/// a launch does for the second of its parts along two axes is seen nowhere else. Each is a declared case made longer, its
/// innermost extents first. Constants that no shape gives are as large as they are declared up to a simdgroup, so that
/// lengths are beyond them as well.
fn long(declaration: &'static Declaration, declared: &[Setting]) -> Vec<Setting> {
    let signature = declaration.signature;
    let (bound, free): (Vec<_>, Vec<_>) = signature.constants.iter().partition(|constant| constant.bound.is_some());
    let names = signature.dimensions.iter().map(|dimension| dimension.name);
    let names: Vec<&str> = names.chain(bound.into_iter().map(|constant: &TemplateConstant| constant.name)).collect();
    let fits =
        |setting: &Setting| is_possible(declaration, setting) && visible_elements(declaration, setting) <= ELEMENTS;
    let long_names = |setting: &Setting| -> Vec<&str> {
        names.iter().copied().filter(|name| setting.value(name).is_some_and(|value| value > SIMDGROUP)).collect()
    };
    let lengthened = |case: &Setting| {
        let mut long = case.clone();
        for constant in free.iter().filter(|constant| constant.kind != ConstantKind::Bool) {
            let values = declared.iter().filter_map(|setting| setting.value(constant.name));
            let largest = values.filter(|value| *value <= SIMDGROUP).max();
            let larger = largest.map(|value| changed(&long, constant.name, value));
            long = larger.filter(|larger| fits(larger)).unwrap_or(long);
        }
        // Twice: one extent may have to be as long as another.
        for name in names.iter().rev().chain(names.iter().rev()) {
            if long.value(name).is_some_and(|value| value <= SIMDGROUP) {
                let longer = beyond_of(declared, name, SIMDGROUP, &|value| fits(&changed(&long, name, value)));
                long = longer.map(|value| changed(&long, name, value)).unwrap_or(long);
            }
        }
        long
    };
    let mut cases: Vec<&Setting> = declared.iter().collect();
    cases.sort_by_key(|case| Reverse(elements(declaration, case)));
    let mut found: Vec<Setting> = cases.into_iter().map(lengthened).collect();
    found.retain(|long| {
        let names = long_names(long);
        let is_seen =
            |case: &Setting| long_names(case).iter().filter(|name| names.contains(name)).count() == names.len();
        names.len() > 1 && !declared.iter().any(is_seen)
    });
    found.sort_by_key(|long| Reverse(long_names(long).len()));
    found
}

/// The next value of `name` beyond a number that is possible, and a multiple of what all cases are multiples of: a kernel of
/// pairs has even sizes in all its cases, and may not say so.
fn beyond_of(declared: &[Setting], name: &str, beyond: i64, is_possible: &dyn Fn(i64) -> bool) -> Option<i64> {
    let unit = declared.iter().filter_map(|setting| setting.value(name)).fold(0, common_divisor).max(1);
    let mut multiples = (beyond / unit + 1..=beyond / unit + 64).map(|multiple| multiple * unit);
    multiples.find(|value| is_possible(*value))
}

/// Threads of one threadgroup of the kernel, if it is a launch.
fn threads(declaration: &'static Declaration, setting: &Setting) -> Option<i64> {
    let value_of = |name: &str| setting.value(name);
    let Body::Launch(launch) = &declaration.body else { return None };
    let product = |expressions: &[Expression; 3]| {
        expressions.iter().try_fold(1_i64, |product, extent| product.checked_mul(extent.evaluate(&value_of)?))
    };
    product(&launch.threads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Kernel as _;

    #[crate::stage(
        crate = crate,
        untested = "only its sizes are looked at",
        grid = (N * M, 1, 1),
        threads = (32, 1, 1),
        cases = [(N = 3, M = 6, BLOCK = 8), (N = 2, M = 40, BLOCK = 64), (N = 1, M = 4, BLOCK = 16)],
    )]
    fn blocks<T: Float, const BLOCK: usize>(x: In![T; N, M], y: Out![T; N, M]) {
        metal! { uint i = thread_position_in_grid.x; y[i] = x[i] * T(BLOCK); }
    }

    fn declared() -> Vec<Setting> {
        cases_without_absences(blocks::declaration())
    }

    #[test]
    fn as_much_as_possible_is_long_at_once() {
        let long: Vec<String> = long(blocks::declaration(), &declared()).iter().map(Setting::to_string).collect();
        // An even `M`, as in all cases, and the largest block of no more than a simdgroup.
        assert_eq!(long, ["N = 33, M = 40, BLOCK = 16", "N = 33, M = 34, BLOCK = 16", "N = 33, M = 34, BLOCK = 16"]);
    }

    #[test]
    fn what_is_long_at_once_is_not_checked_alone() {
        let declared = declared();
        let others = others(blocks::declaration(), &declared[0], &declared);
        let first: Vec<String> = others.iter().map(|alternatives| alternatives[0].to_string()).collect();
        assert_eq!(first, ["N = 33, M = 40, BLOCK = 16"]);
    }

    #[test]
    fn the_largest_size_has_every_dtype_and_the_others_take_turns() {
        let declared = declared();
        let halves = halves(blocks::declaration(), &declared.iter().collect::<Vec<_>>());
        assert_eq!(halves, [vec![Dtype::BF16], vec![Dtype::BF16, Dtype::F16], vec![Dtype::F16]]);
    }
}

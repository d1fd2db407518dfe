//! The sizes of the input plan: the declared cases, and what they leave out.

use super::cases::{Setting, cases_without_absences, elements, is_possible};
use super::plan::subsets;
use crate::kernel::declaration::{Body, Declaration};
use crate::kernel::signature::{ConstantKind, Expression};

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
    /// Whether the author declared it: such sizes are checked in every dtype.
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
            planned.push(Planned { setting, is_declared, is_varied });
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
    if let Some(varied) = &varied {
        others(declaration, varied, &declared).into_iter().for_each(|setting| add(setting, false, false));
    }
    planned
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
/// of a bool constant, another of an integer one.
fn others(declaration: &'static Declaration, varied: &Setting, declared: &[Setting]) -> Vec<Setting> {
    let signature = declaration.signature;
    let largest = |name: &str| declared.iter().filter_map(|setting| setting.value(name)).max().unwrap_or_default();
    let is_seen = |name: &str, value: i64| declared.iter().any(|setting| setting.value(name) == Some(value));
    let fits = |setting: &Setting| is_possible(declaration, setting) && elements(declaration, setting) <= ELEMENTS;
    let mut found = Vec::new();
    let mut add = |name: &str, value: i64| {
        let setting = changed(varied, name, value);
        let is_new = !is_seen(name, value) && varied.value(name) != Some(value);
        if is_new && fits(&setting) {
            found.push(setting);
        }
        is_new
    };
    for dimension in signature.dimensions {
        let beyond = [Some(SIMDGROUP), threads(declaration, varied).filter(|threads| *threads > SIMDGROUP)];
        // A kernel of pairs has even sizes in all its cases, and may not say so.
        let unit = declared.iter().filter_map(|setting| setting.value(dimension.name)).fold(0, common_divisor).max(1);
        for beyond in beyond.into_iter().flatten().filter(|beyond| largest(dimension.name) <= *beyond) {
            // The next that requirements allow.
            let mut multiples = (beyond / unit + 1..=beyond / unit + 64).map(|multiple| multiple * unit);
            let next = multiples.find(|value| fits(&changed(varied, dimension.name, *value)));
            next.map(|value| add(dimension.name, value));
        }
    }
    for constant in signature.constants {
        match constant.kind {
            ConstantKind::Bool => {
                add(constant.name, 0);
                add(constant.name, 1);
            }
            ConstantKind::Usize | ConstantKind::I32 => {
                let Some(value) = varied.value(constant.name) else { continue };
                if declared.iter().all(|setting| setting.value(constant.name) == Some(value)) {
                    let others = [value + 1, value * 2, value - 1, value / 2].into_iter().filter(|other| *other > 0);
                    let other = others.into_iter().find(|other| fits(&changed(varied, constant.name, *other)));
                    other.map(|other| add(constant.name, other));
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
        least.map(|least| add(name, least));
        most.filter(|_| is_bounded).map(|most| add(name, most));
    }
    found
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

//! The sizes of the input plan: the declared cases, and sizes that they leave out.

use std::cmp::Reverse;

use super::cases::{Setting, cases_without_absences, elements, is_possible, visible_elements};
use super::experiment::dtypes;
use super::plan::subsets;
use crate::Dtype;
use crate::kernel::declaration::{Body, Declaration};
use crate::kernel::signature::{ConstantKind, Expression, TemplateConstant};

/// The most elements of a case that the declaration does not name.
const ELEMENTS: u64 = 20_000;

/// The largest value at which a bound of a requirement is looked for.
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
    /// Whether gradients are wanted in turn there.
    pub(super) wants_in_turn: bool,
}

/// All sizes of a kernel, the one that is varied first; `works` says whether a size that the declaration does not name can be run.
pub(super) fn planned(declaration: &'static Declaration, works: &dyn Fn(&Setting) -> bool) -> Vec<Planned> {
    let signature = declaration.signature;
    let declared = cases_without_absences(declaration);
    let optional: Vec<&str> = signature.inputs.iter().filter(|port| port.optional).map(|port| port.name).collect();
    let mut planned: Vec<Planned> = Vec::new();
    let mut add = |setting: Setting, is_declared: bool, is_varied: bool| {
        if !planned.iter().any(|known| known.setting == setting) {
            let (otherwise, halves) = (Vec::new(), Vec::new());
            planned.push(Planned { setting, otherwise, halves, is_declared, is_varied, wants_in_turn: is_varied });
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
            let (is_declared, is_varied, wants_in_turn) = (false, false, false);
            planned.push(Planned { setting, otherwise, halves, is_declared, is_varied, wants_in_turn });
        }
    }
    if let Some(varied) = &varied {
        // A setting without any optional input counts as well, because it may take another branch.
        let bare = |setting: &Setting| setting.sizes == varied.sizes && setting.absent == optional;
        planned.iter_mut().filter(|planned| bare(&planned.setting)).for_each(|planned| planned.wants_in_turn = true);
    }
    planned
}

/// Returns the half precisions in which a kernel is tried at each size, beside float32. At the largest size, whose sums
/// are longest, all are tried; at the others one of them, in turn. The source is the same in all, so each size does not
/// need each precision.
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

/// The smallest case in which no dimension is one and no two are the same, as far as there is such a case: where one is,
/// strides do not matter, and sums have one term; where two are the same, groups have one member.
fn varied(
    declaration: &'static Declaration,
    declared: &[Setting],
    works: &dyn Fn(&Setting) -> bool,
) -> Option<Setting> {
    let dimensions: Vec<&str> = declaration.signature.dimensions.iter().map(|dimension| dimension.name).collect();
    let value = |setting: &Setting, name: &str| setting.value(name).unwrap_or_default();
    let mut candidates: Vec<Setting> = declared.to_vec();
    for setting in declared {
        let mut wider = setting.clone();
        for name in dimensions.iter().filter(|name| setting.value(name) == Some(1)) {
            let with = |value| changed(&wider, name, value);
            if let Some(better) = [3, 2].map(with).into_iter().find(|wider| is_possible(declaration, wider)) {
                wider = better;
            }
        }
        // An extent that divides another one is widened together with a multiple of it.
        for name in dimensions.iter().filter(|name| setting.value(name) == Some(1)) {
            let others = dimensions.iter().filter(|other| value(setting, other) > 1);
            candidates.extend(others.map(|other| changed(&changed(&wider, name, 2), other, 2 * value(setting, other))));
        }
        candidates.push(wider);
    }
    let ones = |setting: &Setting| setting.sizes.iter().filter(|(_, value)| *value == 1).count();
    let equal =
        |setting: &Setting| tied(declaration, declared).filter(|(a, b)| setting.value(a) == setting.value(b)).count();
    candidates.retain(|setting| is_possible(declaration, setting));
    candidates.sort_by_key(|setting| {
        (ones(setting), equal(setting), !declared.contains(setting), elements(declaration, setting))
    });
    let smallest = candidates.into_iter().find(|setting| declared.contains(setting) || works(setting));
    smallest.or_else(|| declared.iter().min_by_key(|setting| elements(declaration, setting)).cloned())
}

/// The pairs of dimensions that are the same in one declared case, and not in another: heads and their groups, say.
fn tied(declaration: &'static Declaration, declared: &[Setting]) -> impl Iterator<Item = (&'static str, &'static str)> {
    let names = declaration.signature.dimensions.iter().map(|dimension| dimension.name);
    let pairs = names
        .clone()
        .enumerate()
        .flat_map(move |(place, left)| names.clone().skip(place + 1).map(move |right| (left, right)));
    pairs.filter(|(left, right)| {
        let is_equal = |case: &Setting| case.value(left) == case.value(right);
        declared.iter().any(|case| is_equal(case) && case.value(left) > Some(1)) && !declared.iter().all(is_equal)
    })
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

/// Sizes that no declared case has: beyond one simdgroup and one threadgroup, a whole simdgroup, at the bounds of
/// requirements, the other value of a bool constant, another of an integer one. Each is a list of alternatives: one that
/// runs will do.
fn others(declaration: &'static Declaration, varied: &Setting, declared: &[Setting]) -> Vec<Vec<Setting>> {
    let signature = declaration.signature;
    let is_seen = |name: &str, value: i64| declared.iter().any(|setting| setting.value(name) == Some(value));
    let fits = |setting: &Setting| is_possible(declaration, setting) && elements(declaration, setting) <= ELEMENTS;
    let mut found: Vec<Vec<Setting>> = Vec::new();
    let mut add = |name: &str, values: &[i64]| {
        let is_new = |value: &&i64| !is_seen(name, **value) && varied.value(name) != Some(**value);
        let settings = values.iter().filter(is_new).map(|value| changed(varied, name, *value));
        let settings: Vec<Setting> = settings.filter(&fits).collect();
        if !settings.is_empty() {
            found.push(settings);
        }
    };
    let long = long(declaration, declared);
    for dimension in signature.dimensions {
        let name = dimension.name;
        let fullest = long.iter().filter_map(|long| long.first());
        let seen = declared.iter().chain(fullest).filter_map(|setting| setting.value(name));
        let largest = seen.max().unwrap_or_default();
        let beyond = [Some(SIMDGROUP), threads(declaration, varied).filter(|threads| *threads > SIMDGROUP)];
        for beyond in beyond.into_iter().flatten().filter(|beyond| largest <= *beyond) {
            let next = beyond_of(declared, name, beyond, &|value| fits(&changed(varied, name, value)));
            add(name, next.as_slice());
        }
    }
    for constant in signature.constants {
        match constant.kind {
            ConstantKind::Bool => {
                add(constant.name, &[0]);
                add(constant.name, &[1]);
            }
            ConstantKind::Usize | ConstantKind::I32 => {
                let Some(value) = varied.value(constant.name) else { continue };
                let values = || declared.iter().filter_map(|setting| setting.value(constant.name));
                if values().all(|other| other == value) {
                    let others = [value + 1, value * 2, value - 1, value / 2];
                    add(constant.name, others.map(|other| other.max(1)).as_slice());
                } else if constant.bound.is_none() {
                    let (largest, unit) = (values().fold(value, i64::max), values().fold(0, common_divisor));
                    add(constant.name, &[largest + unit, largest * 2]);
                }
            }
        }
    }
    for name in signature.requirements.iter().flat_map(|requirement| requirement.symbols()) {
        let allowed = |value: &i64| is_possible(declaration, &changed(varied, name, *value));
        let least = (1..=LARGEST).find(allowed);
        let most = (1..=LARGEST).rev().find(allowed);
        // Beyond a bound no value is allowed; a requirement such as "a multiple of" has no bound.
        let is_bounded = most.is_some_and(|most| !(most + 1..=2 * LARGEST).any(|value| allowed(&value)));
        add(name, least.as_slice());
        add(name, most.filter(|_| is_bounded).as_slice());
    }
    // Sources that take several elements at once do so only where no element is left over.
    let innermost = |name: &str| {
        let last = signature.inputs.iter().filter_map(|port| port.shape.last());
        last.into_iter().any(|extent| matches!(extent.value, Expression::Symbol(symbol) if symbol == name))
    };
    let whole = signature.symbols().filter(|name| innermost(name)).fold(varied.clone(), |setting, name| {
        let is_whole = declared.iter().filter_map(|case| case.value(name)).any(|value| value % SIMDGROUP == 0);
        let whole = changed(&setting, name, SIMDGROUP);
        if is_whole || !fits(&whole) { setting } else { whole }
    });
    if whole != *varied {
        found.push(vec![whole]);
    }
    long.into_iter().chain(found).collect()
}

/// Returns sizes at which as many extents as possible are longer than a simdgroup at once, the fullest first. One that
/// runs is enough: it shows what a launch does for the second of its parts along two axes, which no other size does.
/// Each is a declared case made longer, its innermost extents first. Constants that no shape gives keep their declared
/// value up to a simdgroup, so that lengths are beyond them as well.
///
/// A list for each way in which dimensions are the same or not: a text for groups may be another than that for heads of
/// their own.
fn long(declaration: &'static Declaration, declared: &[Setting]) -> Vec<Vec<Setting>> {
    let signature = declaration.signature;
    let (bound, free): (Vec<_>, Vec<_>) = signature.constants.iter().partition(|constant| constant.bound.is_some());
    let names = signature.dimensions.iter().map(|dimension| dimension.name);
    let names: Vec<&str> = names.chain(bound.into_iter().map(|constant: &TemplateConstant| constant.name)).collect();
    let fits =
        |setting: &Setting| is_possible(declaration, setting) && visible_elements(declaration, setting) <= ELEMENTS;
    let long_names = |setting: &Setting| -> Vec<&str> {
        names.iter().copied().filter(|name| setting.value(name).is_some_and(|value| value > SIMDGROUP)).collect()
    };
    let tied: Vec<_> = tied(declaration, declared).collect();
    let lengthened = |case: &Setting| {
        // Extents that differ in this case stay different.
        let apart = |setting: &Setting, (left, right): &(&str, &str)| setting.value(left) != setting.value(right);
        let fits =
            |setting: &Setting| fits(setting) && tied.iter().all(|pair| !apart(case, pair) || apart(setting, pair));
        let mut long = case.clone();
        for constant in free.iter().filter(|constant| constant.kind != ConstantKind::Bool) {
            let values = declared.iter().filter_map(|setting| setting.value(constant.name));
            let largest = values.filter(|value| *value <= SIMDGROUP).max();
            let larger = largest.map(|value| changed(&long, constant.name, value));
            long = larger.filter(|larger| fits(larger)).unwrap_or(long);
        }
        // Two passes are needed, because one extent may have to be as long as another.
        for name in names.iter().rev().chain(names.iter().rev()) {
            if long.value(name).is_some_and(|value| value <= SIMDGROUP) {
                let longer = beyond_of(declared, name, SIMDGROUP, &|value| fits(&changed(&long, name, value)));
                long = longer.map(|value| changed(&long, name, value)).unwrap_or(long);
            }
        }
        long
    };
    // Each case is also tried with one of its extents at its least declared value, which leaves room for others.
    let shortened = |case: &Setting| -> Vec<Setting> {
        let least = |name: &str| declared.iter().filter_map(|setting| setting.value(name)).min();
        let shorter = signature.dimensions.iter().filter_map(|dimension| {
            let least = least(dimension.name).filter(|least| Some(*least) != case.value(dimension.name))?;
            Some(changed(case, dimension.name, least)).filter(|shorter| is_possible(declaration, shorter))
        });
        std::iter::once(case.clone()).chain(shorter).collect()
    };
    let mut cases: Vec<&Setting> = declared.iter().collect();
    cases.sort_by_key(|case| Reverse(elements(declaration, case)));
    let mut found: Vec<Setting> = cases.into_iter().flat_map(shortened).map(|case| lengthened(&case)).collect();
    found.retain(|long| {
        let names = long_names(long);
        let is_seen =
            |case: &Setting| long_names(case).iter().filter(|name| names.contains(name)).count() == names.len();
        names.len() > 1 && !declared.iter().any(is_seen)
    });
    found.sort_by_key(|long| Reverse(long_names(long).len()));
    let mut lists: Vec<(Vec<bool>, Vec<Setting>)> = Vec::new();
    for long in found {
        let equal = tied.iter().map(|(left, right)| long.value(left) == long.value(right)).collect();
        match lists.iter_mut().find(|(known, _)| *known == equal) {
            Some((_, list)) if list.contains(&long) => {}
            Some((_, list)) => list.push(long),
            None => lists.push((equal, vec![long])),
        }
    }
    lists.into_iter().map(|(_, list)| list).collect()
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
        let long: Vec<String> =
            long(blocks::declaration(), &declared()).concat().iter().map(Setting::to_string).collect();
        // `M` is even, as in all cases, and the block is the largest that is no longer than a simdgroup.
        assert_eq!(long, ["N = 33, M = 40, BLOCK = 16", "N = 33, M = 34, BLOCK = 16"]);
    }

    #[test]
    fn what_is_long_at_once_is_not_checked_alone() {
        let declared = declared();
        let others = others(blocks::declaration(), &declared[0], &declared);
        let first: Vec<String> = others.iter().map(|alternatives| alternatives[0].to_string()).collect();
        assert_eq!(first, ["N = 33, M = 40, BLOCK = 16", "N = 3, M = 6, BLOCK = 72", "N = 3, M = 32, BLOCK = 8"]);
    }

    #[crate::stage(
        crate = crate,
        untested = "only its sizes are looked at",
        requires = [H % G == 0],
        grid = (H * D, 1, 1),
        threads = (32, 1, 1),
        cases = [(H = 3, G = 1, D = 5), (H = 2, G = 2, D = 7)],
    )]
    fn grouped(x: In![f32; H, D], w: In![f32; G, D], y: Out![f32; H, D]) {
        metal! {
            uint i = thread_position_in_grid.x;
            y[i] = x[i] * w[i / uint(D) / (H / G) * D + i % uint(D)];
        }
    }

    #[test]
    fn groups_are_varied_and_made_long_beside_heads_of_their_own() {
        let declared = cases_without_absences(grouped::declaration());
        let varied = varied(grouped::declaration(), &declared, &|_| true).unwrap();
        assert_eq!(varied.to_string(), "H = 6, G = 2, D = 5");
        let long = long(grouped::declaration(), &declared);
        let first: Vec<String> = long.iter().map(|alternatives| alternatives[0].to_string()).collect();
        assert_eq!(first, ["H = 34, G = 34, D = 33", "H = 33, G = 1, D = 33"]);
    }

    #[test]
    fn the_largest_size_has_every_dtype_and_the_others_take_turns() {
        let declared = declared();
        let halves = halves(blocks::declaration(), &declared.iter().collect::<Vec<_>>());
        assert_eq!(halves, [vec![Dtype::BF16], vec![Dtype::BF16, Dtype::F16], vec![Dtype::F16]]);
    }
}

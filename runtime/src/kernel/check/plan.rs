//! The input plan: everything that the calls of a check vary, at the smallest case of a kernel.

use super::cases::Setting;
use super::draw::{Draw, Floats, MemoryLayout, Pattern};
use super::experiment::shape_of;
use super::fill::count;
use crate::kernel::declaration::Declaration;
use crate::kernel::signature::{Port, PortRole, Sample, Scalar, ScalarKind, Signature};
use crate::kernel::value::ScalarValue;

/// The number of gradients, or optional inputs, up to which every subset is taken.
pub(super) const SUBSETS: usize = 4;

/// The most draws of one input at kinks.
const KINK_DRAWS: usize = 4;

/// The least number of elements that are drawn far from zero, and the most draws of one input for it.
const FAR_ELEMENTS: usize = 48;
const FAR_DRAWS: usize = 4;

/// Numbers of a source beyond this are no bounds that a slope changes at.
const LARGEST_KINK: f32 = 100.0;

/// The calls that must give what the plain one gives: in each, only some gradients are wanted, or the inputs lie elsewhere in memory.
pub(super) fn equal_draws(declaration: &'static Declaration, setting: &Setting) -> Vec<Draw> {
    let wanted = wanted(declaration, setting).into_iter();
    let mut draws: Vec<Draw> = wanted.map(|wanted| Draw { wanted: Some(wanted), ..Draw::default() }).collect();
    if declaration.launches().iter().any(|launch| launch.strided) {
        let layouts = [MemoryLayout::Transposed, MemoryLayout::Padded, MemoryLayout::Stepped, MemoryLayout::Mixed];
        draws.extend(layouts.map(|layout| Draw { layout, ..Draw::default() }));
    }
    draws
}

/// The calls with other values. Each is a list of alternatives: the first whose outputs are numbers is taken.
pub(super) fn draws(declaration: &'static Declaration, setting: &Setting) -> Vec<Vec<Draw>> {
    let signature = declaration.signature;
    let mut draws: Vec<Vec<Draw>> = Vec::new();
    draws.extend(scalars(signature).into_iter().map(|scalars| vec![Draw { scalars, ..Draw::default() }]));
    let with = |floats: Vec<(&'static str, Floats)>| Draw { floats, ..Draw::default() };
    let kinks = kinks(declaration);
    let present = |port: &&Port| !setting.absent.contains(&port.name);
    for port in signature.inputs.iter().filter(present).filter(|port| is_float(port)) {
        let count = shape_of(port, setting).map_or(1, |shape| count(&shape));
        for turn in 0..(FAR_ELEMENTS / count.max(1)).clamp(1, FAR_DRAWS) {
            let far = |floats| Draw { turn, ..with(vec![(port.name, floats)]) };
            draws.push(vec![far(Floats::Far), far(Floats::FarPositive)]);
        }
        draws.push(vec![with(vec![(port.name, Floats::NearZero)]), with(vec![(port.name, Floats::NearZeroPositive)])]);
        if port.role == PortRole::Differentiable {
            // About half of the elements lie at kinks, so few points are drawn at a time and each of them occurs.
            for kinks in kinks.chunks((count / 3).max(1)).take(KINK_DRAWS) {
                // Alternatives leave zero out, where it is a pole, and all points that are not positive.
                let without = |keep: fn(f32) -> bool| {
                    let points = kinks.iter().copied().filter(|point| keep(*point)).collect();
                    with(vec![(port.name, Floats::Kinks(points))])
                };
                draws.push(vec![without(|_| true), without(|point| point != 0.0), without(|point| point > 0.0)]);
            }
        }
    }
    let patterns = [Pattern::Low, Pattern::High, Pattern::Repeated];
    if signature.inputs.iter().filter(present).any(|port| port.role == PortRole::Index) {
        draws.extend(patterns.map(|indices| vec![Draw { indices, ..Draw::default() }]));
    }
    if signature.inputs.iter().filter(present).any(|port| port.role == PortRole::Mask) {
        draws.extend(patterns.map(|masks| vec![Draw { masks, ..Draw::default() }]));
    }
    draws
}

fn is_float(port: &Port) -> bool {
    matches!(port.role, PortRole::Differentiable | PortRole::Constant)
}

/// Returns which gradients are wanted, call by call, beside the call in which all are wanted.
fn wanted(declaration: &'static Declaration, setting: &Setting) -> Vec<Vec<&'static str>> {
    if declaration.backward().is_none() {
        return Vec::new();
    }
    let inputs = declaration.signature.inputs.iter().filter(|port| port.role == PortRole::Differentiable);
    let names: Vec<&str> = inputs.map(|port| port.name).filter(|name| !setting.absent.contains(name)).collect();
    let mut subsets = subsets(&names);
    subsets.retain(|subset| !subset.is_empty() && subset.len() < names.len());
    subsets
}

/// Every subset of a few names; of more, none, each alone, all but each, and all.
pub(super) fn subsets(names: &[&'static str]) -> Vec<Vec<&'static str>> {
    let of = |keep: &dyn Fn(usize) -> bool| -> Vec<&'static str> {
        names.iter().enumerate().filter(|(place, _)| keep(*place)).map(|(_, name)| *name).collect()
    };
    if names.len() <= SUBSETS {
        return (0..1_u32 << names.len()).map(|bits| of(&|place| bits >> place & 1 == 1)).collect();
    }
    let alone = (0..names.len()).map(|one| of(&|place| place == one));
    let left_out = (0..names.len()).map(|one| of(&|place| place != one));
    std::iter::once(Vec::new()).chain(alone).chain(left_out).chain(std::iter::once(names.to_vec())).collect()
}

/// Each scalar at each of its values while the others are as always, and several at once, each at its own pace.
fn scalars(signature: &Signature) -> Vec<Vec<(&'static str, ScalarValue)>> {
    let all: Vec<(&'static str, Vec<ScalarValue>)> =
        signature.scalars.iter().map(|scalar| (scalar.name, values_of(scalar))).collect();
    let mut draws: Vec<Vec<_>> =
        all.iter().flat_map(|(name, values)| values.iter().map(|value| vec![(*name, *value)])).collect();
    if all.len() > 1 {
        let longest = all.iter().map(|(_, values)| values.len()).max().unwrap_or_default();
        for turn in 0..longest {
            let value = |(number, (name, values)): (usize, &(&'static str, Vec<ScalarValue>))| {
                (*name, values[(turn * (number + 1) + number) % values.len()])
            };
            draws.push(all.iter().enumerate().map(value).collect());
        }
    }
    draws
}

/// Returns what a scalar is in the plain call.
pub(super) fn plain(scalar: &Scalar) -> ScalarValue {
    match scalar.kind {
        ScalarKind::F32 => match scalar.domain {
            Some((low, high, _)) if !(low..=high).contains(&0.5) => ScalarValue::F32(((low + high) / 2.0) as f32),
            _ => ScalarValue::F32(0.5),
        },
        ScalarKind::I32 => ScalarValue::I32(1),
        ScalarKind::U32 => ScalarValue::U32(1),
        ScalarKind::Bool => ScalarValue::Bool(true),
    }
}

/// Returns what it is in others: zero, one, a negative number, some other, a large one; of those that have a domain,
/// what of these lies in it, its upper end, and what is near the lower one.
fn values_of(scalar: &Scalar) -> Vec<ScalarValue> {
    match scalar.kind {
        ScalarKind::F32 => {
            let always = [0.0, 1.0, -1.5, 0.3, 24.0];
            let Some((low, high, _)) = scalar.domain else { return always.map(ScalarValue::F32).to_vec() };
            let (low, high) = (low as f32, high as f32);
            let mut values = vec![low + (high - low) / 64.0, high];
            values.extend(always.into_iter().filter(|value| low <= *value && *value < high));
            values.into_iter().map(ScalarValue::F32).collect()
        }
        ScalarKind::I32 => [0, -1, 3, 20].map(ScalarValue::I32).to_vec(),
        ScalarKind::U32 => [0, 3, 20].map(ScalarValue::U32).to_vec(),
        ScalarKind::Bool => [false].map(ScalarValue::Bool).to_vec(),
    }
}

/// Points where a slope may change: zero, the numbers that the sources name, of the backward as well, small integers, with both signs; the likeliest
/// first.
fn kinks(declaration: &'static Declaration) -> Vec<f32> {
    let mut points = vec![0.0];
    for (_, launch) in declaration.launching() {
        points.extend(numbers(launch.metal).into_iter().filter(|number| *number <= LARGEST_KINK));
    }
    points.extend([1.0, 2.0, 3.0]);
    let mut both: Vec<f32> = Vec::new();
    for point in points.iter().flat_map(|point| [*point, -point]) {
        // -0.0 equals 0.0 here, so zero is taken once.
        if point.is_finite() && !both.contains(&point) {
            both.push(point);
        }
    }
    both
}

/// The floating literals of a source.
fn numbers(source: &str) -> Vec<f32> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || character == '.' || character == '_';
    let words = source.split(|character| !is_part(character));
    let floating = words.filter(|word| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.'));
    floating.filter_map(|word| word.trim_end_matches(['f', 'h']).parse().ok()).collect()
}

/// Returns whether values beyond the range of an input may be drawn: not where it is declared as all there are.
pub(super) fn domain(port: &Port) -> Option<(f32, f32)> {
    match port.sample {
        Sample::Domain(low, high, _) => Some((low as f32, high as f32)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_names_have_all_their_subsets_and_many_the_outermost() {
        assert_eq!(subsets(&["a", "b"]), [vec![], vec!["a"], vec!["b"], vec!["a", "b"]]);
        assert_eq!(subsets(&["a", "b", "c", "d"]).len(), 16);
        let five = ["a", "b", "c", "d", "e"];
        let many = subsets(&five);
        assert_eq!(many.len(), 12);
        assert!(many.contains(&vec!["c"]) && many.contains(&vec!["a", "b", "c", "e"]) && many.contains(&five.to_vec()));
    }

    #[test]
    fn each_scalar_has_its_values_alone_and_beside_others() {
        let of = |scalars: &'static [Scalar]| super::scalars(&Signature { scalars, ..Signature::STAND_IN });
        const SCALE: Scalar = Scalar { name: "scale", kind: ScalarKind::F32, domain: None };
        let one = of(&[SCALE]);
        assert_eq!(one.len(), 5);
        assert!(one.contains(&vec![("scale", ScalarValue::F32(0.0))]));
        let two = of(&[SCALE, Scalar { name: "on", kind: ScalarKind::Bool, domain: None }]);
        assert_eq!(two.len(), 6 + 5);
        assert!(two[6..].iter().all(|draw| draw.len() == 2));
    }

    #[test]
    fn a_scalar_keeps_to_its_domain() {
        let of = |low, high| Scalar { name: "rate", kind: ScalarKind::F32, domain: Some((low, high, "a rate")) };
        for (low, high, plain, others) in [
            (0.0, 1.0, 0.5, &[1.0 / 64.0, 1.0, 0.0, 0.3][..]),
            (2.0, 4.0, 3.0, &[2.03125, 4.0]),
            (-4.0, 0.0, -2.0, &[-3.9375, 0.0, -1.5]),
        ] {
            assert_eq!(super::plain(&of(low, high)), ScalarValue::F32(plain));
            let others: Vec<ScalarValue> = others.iter().copied().map(ScalarValue::F32).collect();
            assert_eq!(values_of(&of(low, high)), others);
        }
    }

    #[test]
    fn the_numbers_of_a_source_are_candidates_for_kinks() {
        assert_eq!(numbers("y[i] = clamp(v, -2.5f, 6.0) + x2.5 + 3 + 1e3;"), [2.5, 6.0]);
    }
}

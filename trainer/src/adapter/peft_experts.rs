//! Adapters that PEFT makes of the stacked parameters of experts, `target_parameters`.
//!
//! PEFT 0.21 wraps the module `mlp.experts` once for each of its parameters: the tensors of the innermost wrapper, that of
//! `gate_up_proj`, are named `mlp.experts.base_layer.lora_A.weight`, those of the outermost `mlp.experts.lora_A.weight`. Of E experts
//! and rank R, `lora_A` is `[E * R, inputs]`, an expert's rows next to each other, and `lora_B` is `[outputs, R * E]`, with the experts
//! as the faster index. `gate_up_proj` has one adapter for gate and up. When it is read, both get the same `lora_A`, and a half
//! each of `lora_B`. Two adapters with different `lora_A` are written as one of twice the rank: the two `lora_A` below each other, the
//! two `lora_B` as blocks on the diagonal. PEFT itself writes two adapters as one in the same way.

use std::collections::BTreeMap;

use cotangent_models::checkpoint::{HostTensor, TensorRole, classify};
use serde_json::Value as Json;

/// A stacked parameter of experts that PEFT adapts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StackedParameter {
    /// Gate and up, one behind the other.
    GateUp,
    /// The way back.
    Down,
}

impl StackedParameter {
    pub(super) const ALL: [Self; 2] = [Self::GateUp, Self::Down];

    /// The name of the parameter in transformers.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::GateUp => GATE_UP,
            Self::Down => "down_proj",
        }
    }

    /// The names of the projections that this program has for the parameter.
    pub(super) fn projections(self) -> &'static [&'static str] {
        match self {
            Self::GateUp => &["gate_proj", "up_proj"],
            Self::Down => &["down_proj"],
        }
    }
}

/// The name of the parameter that has two projections.
pub(super) const GATE_UP: &str = "gate_up_proj";

/// The parameters of stacked experts that have an adapter of PEFT.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StackedTargets {
    /// The names of the parameters, of one layer (`layers.0.mlp.experts.down_proj`) or of all (`mlp.experts.down_proj`).
    names: Vec<String>,
    /// Whether the adapters of `gate_up_proj` have twice the rank of the others.
    pub(super) gate_up_is_doubled: bool,
}

impl StackedTargets {
    /// Returns the parameters that the list `target_parameters` names; a list of plain matrices (`mlp.gate.weight`) names none,
    /// because their adapters are those of linear layers. `None` if it names something else.
    pub(super) fn read(targets: &Json) -> Option<Self> {
        let mut names = Vec::new();
        for target in targets.as_array()? {
            let TensorRole::Parameter(name) = classify(target.as_str()?) else { return None };
            match name.rsplit('.').next()? {
                "weight" => {}
                last if StackedParameter::ALL.iter().any(|parameter| parameter.name() == last) => names.push(name),
                _ => return None,
            }
        }
        Some(Self { names, gate_up_is_doubled: false })
    }

    /// Returns the parameters of one module, such as `layers.0.mlp.experts`.
    fn of(&self, module: &str) -> Vec<StackedParameter> {
        let is_target = |parameter: &StackedParameter| {
            let whole = format!("{module}.{}", parameter.name());
            self.names.iter().any(|name| whole == *name || whole.ends_with(&format!(".{name}")))
        };
        StackedParameter::ALL.into_iter().filter(is_target).collect()
    }
}

/// The wrappers of one module `mlp.experts`: `lora_A` and `lora_B` of each.
#[derive(Debug, Default)]
pub(super) struct Wrappers(BTreeMap<String, [Option<HostTensor>; 2]>);

impl Wrappers {
    /// Takes a tensor if `name`, by the model's names, is one of a wrapper: `layers.0.mlp.experts.base_layer.lora_a`.
    pub(super) fn take(&mut self, name: &str, tensor: HostTensor) -> Option<HostTensor> {
        let Some((wrapper, factor)) = split(name) else { return Some(tensor) };
        self.0.entry(wrapper.to_owned()).or_default()[usize::from(factor == "lora_b")] = Some(tensor);
        None
    }

    /// Returns the adapters of the single projections, by the model's names, or a tensor's name and what is wrong with it. They have
    /// the rank `rank`; those of gate and up have twice that if their adapter is not one of gate and one of up.
    pub(super) fn split(
        self,
        rank: usize,
        targets: &StackedTargets,
    ) -> Result<Vec<(String, HostTensor)>, (String, String)> {
        let mut split = Vec::new();
        let mut modules: BTreeMap<String, Vec<[HostTensor; 2]>> = BTreeMap::new();
        for (wrapper, factors) in self.0 {
            let [Some(a), Some(b)] = factors else {
                return Err((wrapper, "has one of `lora_A` and `lora_B`, expected both".into()));
            };
            modules.entry(wrapper.trim_end_matches(BASE).to_owned()).or_default().push([a, b]);
        }
        for (module, wrappers) in modules {
            let fail = |reason: String| Err((module.clone(), reason));
            if targets.names.is_empty() {
                return fail(
                    "is one adapter of all experts, which means something only with `target_parameters` of its configuration".into(),
                );
            }
            let parameters = match (&targets.of(&module)[..], &wrappers[..]) {
                ([one], [_]) => vec![*one],
                ([_, _], [first, second]) if is_gate_up(first, second) => {
                    vec![StackedParameter::GateUp, StackedParameter::Down]
                }
                ([_, _], [first, second]) if is_gate_up(second, first) => {
                    vec![StackedParameter::Down, StackedParameter::GateUp]
                }
                _ => {
                    return fail(
                        "has adapters of other shapes than `target_parameters` says\nhelp: save it with PEFT 0.21 or later".into(),
                    );
                }
            };
            for (parameter, [a, b]) in parameters.into_iter().zip(&wrappers) {
                let doubled = parameter == StackedParameter::GateUp && targets.gate_up_is_doubled;
                let own_rank = if doubled { 2 * rank } else { rank };
                let Some(tensors) = of_parameter(&module, parameter, own_rank, a, b) else {
                    let (a, b) = (&a.shape, &b.shape);
                    return fail(format!(
                        "has adapters of shapes {a:?} and {b:?}, expected [experts * {own_rank}, inputs] and [outputs, {own_rank} * experts]"
                    ));
                };
                let halves = if doubled { halves(&tensors) } else { None };
                split.extend(halves.unwrap_or(tensors));
            }
        }
        Ok(split)
    }
}

const BASE: &str = ".base_layer";

/// The wrapper and the factor in the name of a wrapper's tensor.
fn split(name: &str) -> Option<(&str, &str)> {
    let (wrapper, factor) = name.rsplit_once('.')?;
    wrapper.trim_end_matches(BASE).ends_with(".mlp.experts").then_some((wrapper, factor))
}

/// Returns the name of the module that PEFT puts around `module` for a parameter; of two, that of `gate_up_proj` is the inner one.
pub(super) fn wrapper(module: &str, parameter: StackedParameter, all: &[StackedParameter]) -> String {
    let is_inner = parameter == StackedParameter::GateUp && all.contains(&StackedParameter::Down);
    format!("{module}{}", if is_inner { BASE } else { "" })
}

/// Returns whether the first wrapper's `lora_A` and `lora_B` are those of `gate_up_proj` where the second's are those of `down_proj`.
fn is_gate_up([a, b]: &[HostTensor; 2], [other_a, other_b]: &[HostTensor; 2]) -> bool {
    a.shape.get(1) == other_b.shape.first() && b.shape.first().copied() == other_a.shape.get(1).map(|inputs| 2 * inputs)
}

/// The adapters of the projections of one stacked parameter: `[experts, rank, inputs]` and `[experts, outputs, rank]`.
fn of_parameter(
    module: &str,
    parameter: StackedParameter,
    rank: usize,
    a: &HostTensor,
    b: &HostTensor,
) -> Option<Vec<(String, HostTensor)>> {
    let (&[rows, inputs], &[outputs, columns]) = (&a.shape[..], &b.shape[..]) else { return None };
    let experts = rows / rank;
    if rows == 0 || rows != columns || rows % rank != 0 || inputs == 0 {
        return None;
    }
    let projections = parameter.projections();
    if outputs == 0 || outputs % projections.len() != 0 {
        return None;
    }
    let each = outputs / projections.len();
    let size = b.bytes.len() / (outputs * columns);
    let element = |expert: usize, output: usize, inner: usize| {
        &b.bytes[(output * columns + inner * experts + expert) * size..][..size]
    };
    let mut tensors = Vec::new();
    for (index, projection) in projections.iter().enumerate() {
        let mut bytes = Vec::with_capacity(each * columns * size);
        for expert in 0..experts {
            for output in index * each..(index + 1) * each {
                (0..rank).for_each(|inner| bytes.extend_from_slice(element(expert, output, inner)));
            }
        }
        let of_a = HostTensor { shape: vec![experts, rank, inputs], ..a.clone() };
        let of_b = HostTensor { dtype: b.dtype, shape: vec![experts, each, rank], bytes };
        tensors.push((format!("{module}.{projection}.lora_a"), of_a));
        tensors.push((format!("{module}.{projection}.lora_b"), of_b));
    }
    Some(tensors)
}

/// Returns the adapters of gate and up, each of half the rank, if the second half adds nothing to the gate and the first nothing to up.
fn halves(tensors: &[(String, HostTensor)]) -> Option<Vec<(String, HostTensor)>> {
    let mut split = Vec::new();
    for (index, (name, tensor)) in tensors.iter().enumerate() {
        let (is_up, is_b) = (index / 2 == 1, index % 2 == 1);
        // The rank is the last axis of one factor, and the axis before the last of the other.
        let half = if is_b { tensor.shape[2] / 2 } else { tensor.shape[1] / 2 * tensor.shape[2] };
        let size = tensor.bytes.len() / tensor.shape.iter().product::<usize>();
        let (mut kept, mut rest) = (Vec::new(), Vec::new());
        for pair in tensor.bytes.chunks(2 * half * size) {
            let (first, second) = pair.split_at(half * size);
            let (own, other) = if is_up { (second, first) } else { (first, second) };
            kept.extend_from_slice(own);
            rest.extend_from_slice(other);
        }
        if is_b && rest.iter().any(|byte| *byte != 0) {
            return None;
        }
        let mut shape = tensor.shape.clone();
        shape[if is_b { 2 } else { 1 }] /= 2;
        split.push((name.clone(), HostTensor { dtype: tensor.dtype, shape, bytes: kept }));
    }
    Some(split)
}

/// The adapters of the projections of one stacked parameter, in their order: `lora_a`, `[experts, rank, inputs]`, and `lora_b`,
/// `[experts, outputs, rank]`, in floats. One of two may be absent, which leaves its outputs as they are.
pub(super) struct Stack<'a>(pub(super) Vec<Option<[&'a HostTensor; 2]>>);

impl Stack<'_> {
    /// Returns whether the projections have different `lora_a`, so that one adapter of both has twice the rank.
    pub(super) fn is_doubled(&self) -> bool {
        matches!(self.0[..], [Some([first, _]), Some([second, _])] if first != second)
    }

    /// Returns the `lora_A` and `lora_B` of PEFT in float32, of `times` the rank: 1 if the projections share `lora_a`, else 2. `None` if
    /// there is no adapter, or the shapes differ.
    pub(super) fn joined(&self, times: usize) -> Option<[HostTensor; 2]> {
        let [a, b] = self.0.iter().flatten().next()?;
        let (&[experts, rank, inputs], &[_, each, _]) = (&a.shape[..], &b.shape[..]) else { return None };
        let (rows, outputs) = (times * rank, self.0.len() * each);
        let mut joined_a = vec![0.0; experts * rows * inputs];
        let mut joined_b = vec![0.0; outputs * rows * experts];
        for (index, [a, b]) in self.0.iter().enumerate().filter_map(|(index, pair)| Some((index, (*pair)?))) {
            if a.shape != [experts, rank, inputs] || b.shape != [experts, each, rank] {
                return None;
            }
            let first = index * (times - 1) * rank;
            for (expert, own) in a.to_f32()?.chunks(rank * inputs).enumerate() {
                joined_a[(expert * rows + first) * inputs..][..rank * inputs].copy_from_slice(own);
            }
            for (place, value) in b.to_f32()?.into_iter().enumerate() {
                let (expert, output, inner) = (place / (each * rank), place / rank % each, place % rank);
                joined_b[((index * each + output) * rows + first + inner) * experts + expert] = value;
            }
        }
        let joined_a = HostTensor::from_f32(&[experts * rows, inputs], &joined_a);
        Some([joined_a, HostTensor::from_f32(&[outputs, rows * experts], &joined_b)])
    }
}

#[cfg(test)]
mod tests {
    use super::StackedParameter::{Down, GateUp};
    use super::*;

    fn targets(names: &[&str]) -> StackedTargets {
        StackedTargets::read(&serde_json::json!(names)).unwrap()
    }

    fn tensor(shape: &[usize], seed: usize) -> HostTensor {
        let values: Vec<f32> = (0..shape.iter().product()).map(|index| (index * 7 + seed) as f32).collect();
        HostTensor::from_f32(shape, &values)
    }

    fn error(wrappers: &[(&str, [usize; 2])], rank: usize, targets: &StackedTargets) -> String {
        let mut all = Wrappers::default();
        for (name, shape) in wrappers {
            assert!(all.take(&format!("layers.0.mlp.experts{name}"), tensor(shape, 1)).is_none());
        }
        all.split(rank, targets).unwrap_err().1
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let (a, b) = ((".lora_a", [6, 8]), (".lora_b", [10, 6]));
        let (base_a, base_b) = ((".base_layer.lora_a", [6, 8]), (".base_layer.lora_b", [10, 6]));
        let down = targets(&["mlp.experts.down_proj"]);
        let gate_up = targets(&["mlp.experts.gate_up_proj"]);
        let both = targets(&["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]);
        for (wrappers, rank, targets, expected) in [
            (&[a, b][..], 2, &StackedTargets::default(), "one adapter of all experts"),
            (&[a], 2, &down, "has one of `lora_A` and `lora_B`"),
            (&[a, b], 2, &both, "of other shapes than `target_parameters` says"),
            (&[a, b, base_a, base_b], 2, &both, "of other shapes than `target_parameters` says"),
            (
                &[a, b],
                2,
                &targets(&["layers.1.mlp.experts.down_proj"]),
                "of other shapes than `target_parameters` says",
            ),
            (&[a, b], 4, &down, "expected [experts * 4, inputs]"),
            (&[a, (".lora_b", [9, 6])], 2, &gate_up, "expected [experts * 2, inputs]"),
        ] {
            let error = error(wrappers, rank, targets);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn other_parameters_than_those_of_experts_and_matrices_are_not_known() {
        let all = targets(&["mlp.experts.gate_up_proj", "model.layers.1.mlp.experts.down_proj", "mlp.gate.weight"]);
        assert_eq!(all.of("layers.0.mlp.experts"), [GateUp]);
        assert_eq!(all.of("layers.1.mlp.experts"), [GateUp, Down]);
        assert_eq!(targets(&["mlp.gate.weight"]), StackedTargets::default());
        for other in [serde_json::json!(["mlp.experts.bias"]), serde_json::json!("experts")] {
            assert_eq!(StackedTargets::read(&other), None);
        }
    }

    /// What is added to an expert's matrix, `lora_b` times `lora_a`.
    fn product(expert: usize, [a, b]: [&HostTensor; 2]) -> Vec<f32> {
        let (rank, inputs, outputs) = (a.shape[1], a.shape[2], b.shape[1]);
        let (a, b) = (a.to_f32().unwrap(), b.to_f32().unwrap());
        let element = |output: usize, input: usize, inner: usize| {
            b[(expert * outputs + output) * rank + inner] * a[(expert * rank + inner) * inputs + input]
        };
        let places = (0..outputs).flat_map(|output| (0..inputs).map(move |input| (output, input)));
        places.map(|(output, input)| (0..rank).map(|inner| element(output, input, inner)).sum()).collect()
    }

    /// The same as PEFT computes it from `[experts * rank, inputs]` and `[outputs, rank * experts]`.
    fn product_in_peft(expert: usize, experts: usize, [a, b]: [&HostTensor; 2]) -> Vec<f32> {
        let (rank, inputs, outputs) = (a.shape[0] / experts, a.shape[1], b.shape[0]);
        let (a, b) = (a.to_f32().unwrap(), b.to_f32().unwrap());
        let element = |output: usize, input: usize, inner: usize| {
            b[(output * rank + inner) * experts + expert] * a[(expert * rank + inner) * inputs + input]
        };
        let places = (0..outputs).flat_map(|output| (0..inputs).map(move |input| (output, input)));
        places.map(|(output, input)| (0..rank).map(|inner| element(output, input, inner)).sum()).collect()
    }

    #[test]
    fn gate_and_up_become_one_adapter_and_two_again() {
        let (experts, rank, inputs, outputs) = (3, 2, 4, 5);
        let (a, other) = (tensor(&[experts, rank, inputs], 1), tensor(&[experts, rank, inputs], 2));
        let b = [3, 4].map(|seed| tensor(&[experts, outputs, rank], seed));
        let names = ["gate_proj.lora_a", "gate_proj.lora_b", "up_proj.lora_a", "up_proj.lora_b"];
        for (second, times) in [(&a, 1), (&other, 2)] {
            let stack = Stack(vec![Some([&a, &b[0]]), Some([second, &b[1]])]);
            assert_eq!(stack.is_doubled(), times == 2);
            let [joined_a, joined_b] = stack.joined(times).unwrap();
            assert_eq!(joined_a.shape, [experts * times * rank, inputs]);
            assert_eq!(joined_b.shape, [2 * outputs, times * rank * experts]);
            for expert in 0..experts {
                let expected = [product(expert, [&a, &b[0]]), product(expert, [second, &b[1]])].concat();
                assert_eq!(product_in_peft(expert, experts, [&joined_a, &joined_b]), expected, "{expert}");
            }

            let mut wrappers = Wrappers::default();
            let module = "layers.0.mlp.experts";
            assert!(wrappers.take(&format!("{module}.lora_a"), joined_a).is_none());
            assert!(wrappers.take(&format!("{module}.lora_b"), joined_b).is_none());
            let targets = StackedTargets { gate_up_is_doubled: times == 2, ..targets(&["mlp.experts.gate_up_proj"]) };
            let expected = [&a, &b[0], second, &b[1]];
            let expected: Vec<_> =
                names.iter().zip(expected).map(|(name, tensor)| (format!("{module}.{name}"), tensor.clone())).collect();
            assert_eq!(wrappers.split(rank, &targets).unwrap(), expected);
        }
        // An absent gate leaves its outputs as they are.
        let [joined_a, joined_b] = Stack(vec![None, Some([&a, &b[1]])]).joined(1).unwrap();
        assert_eq!((joined_a.bytes.clone(), joined_b.shape.clone()), (a.bytes, vec![2 * outputs, rank * experts]));
        let values = joined_b.to_f32().unwrap();
        let (gates, ups) = values.split_at(outputs * rank * experts);
        assert!(gates.iter().all(|value| *value == 0.0) && ups.iter().any(|value| *value != 0.0));
    }
}

//! Adapters that PEFT makes of the stacked parameters of experts, `target_parameters`.
//!
//! PEFT 0.21 wraps the module `mlp.experts` once for each of its parameters: the tensors of the innermost wrapper are named
//! `mlp.experts.base_layer.lora_A.weight`, those of the outermost `mlp.experts.lora_A.weight`. Of E experts and rank R, `lora_A` is
//! `[E * R, inputs]`, an expert's rows next to each other, and `lora_B` is `[outputs, R * E]`, with the experts as the faster index.
//! `gate_up_proj` has one adapter for gate and up: they have the same `lora_A` here, and a half each of `lora_B`.

use std::collections::BTreeMap;

use cotangent_models::checkpoint::HostTensor;
use serde_json::Value as Json;

/// A stacked parameter of experts that PEFT adapts as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StackedParameter {
    /// Gate and up, one behind the other.
    GateUp,
    /// The way back.
    Down,
}

/// The stacked parameters that the list `target_parameters` names; a list of plain matrices (`mlp.gate.weight`) names none, as their
/// adapters are those of linear layers. `None` if it names something else.
pub(super) fn stacked_parameters(targets: &Json) -> Option<Vec<StackedParameter>> {
    let mut found = Vec::new();
    for target in targets.as_array()? {
        match target.as_str()?.rsplit('.').next()? {
            "gate_up_proj" => found.push(StackedParameter::GateUp),
            "down_proj" => found.push(StackedParameter::Down),
            "weight" => {}
            _ => return None,
        }
    }
    Some(found)
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

    /// The adapters of the single projections, by the model's names, of `rank`; or a tensor's name, and what is wrong with it.
    pub(super) fn split(
        self,
        targets: Option<(usize, &[StackedParameter])>,
    ) -> Result<Vec<(String, HostTensor)>, (String, String)> {
        let mut split = Vec::new();
        let mut modules: BTreeMap<String, Vec<(String, [HostTensor; 2])>> = BTreeMap::new();
        for (wrapper, factors) in self.0 {
            let [Some(a), Some(b)] = factors else {
                return Err((wrapper, "has one of `lora_A` and `lora_B`, expected both".into()));
            };
            let module = wrapper.trim_end_matches(BASE).to_owned();
            modules.entry(module).or_default().push((wrapper, [a, b]));
        }
        for (module, wrappers) in modules {
            let fail = |reason: &str| Err((module.clone(), reason.to_owned()));
            let Some((rank, targets)) = targets else {
                return fail(
                    "is one adapter of all experts, which means something only with `target_parameters` of its configuration",
                );
            };
            let shapes: Vec<_> = wrappers.iter().map(|(_, [a, b])| (a.shape.clone(), b.shape.clone())).collect();
            let parameters = match (targets, &shapes[..]) {
                ([one], [_]) => vec![*one],
                ([_, _], [first, second]) if is_gate_up(first, second) => {
                    vec![StackedParameter::GateUp, StackedParameter::Down]
                }
                ([_, _], [first, second]) if is_gate_up(second, first) => {
                    vec![StackedParameter::Down, StackedParameter::GateUp]
                }
                _ => {
                    return fail(
                        "has adapters of other shapes than `target_parameters` says\nhelp: save it with PEFT 0.21 or later",
                    );
                }
            };
            for (parameter, (_, [a, b])) in parameters.into_iter().zip(&wrappers) {
                match of_parameter(&module, parameter, rank, a, b) {
                    Some(tensors) => split.extend(tensors),
                    None => {
                        let (a, b) = (&a.shape, &b.shape);
                        return fail(&format!(
                            "has adapters of shapes {a:?} and {b:?}, expected [experts * {rank}, inputs] and [outputs, {rank} * experts]"
                        ));
                    }
                }
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

/// Returns whether the first wrapper's `lora_A` and `lora_B` are those of `gate_up_proj` where the second's are those of `down_proj`.
fn is_gate_up((a, b): &(Vec<usize>, Vec<usize>), (other_a, other_b): &(Vec<usize>, Vec<usize>)) -> bool {
    a.get(1) == other_b.first() && b.first().copied() == other_a.get(1).map(|inputs| 2 * inputs)
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
    let projections: &[&str] = match parameter {
        StackedParameter::GateUp => &["gate_proj", "up_proj"],
        StackedParameter::Down => &["down_proj"],
    };
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

#[cfg(test)]
mod tests {
    use cotangent_models::checkpoint::Dtype;

    use super::StackedParameter::{Down, GateUp};
    use super::*;

    fn error(wrappers: &[(&str, [usize; 2])], targets: Option<(usize, &[StackedParameter])>) -> String {
        let mut all = Wrappers::default();
        for (name, shape) in wrappers {
            let bytes = vec![0; 4 * shape[0] * shape[1]];
            let tensor = HostTensor { dtype: Dtype::F32, shape: shape.to_vec(), bytes };
            assert!(all.take(&format!("layers.0.mlp.experts{name}"), tensor).is_none());
        }
        all.split(targets).unwrap_err().1
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let (a, b) = ((".lora_a", [6, 8]), (".lora_b", [10, 6]));
        let (base_a, base_b) = ((".base_layer.lora_a", [6, 8]), (".base_layer.lora_b", [10, 6]));
        for (wrappers, targets, expected) in [
            (&[a, b][..], None, "one adapter of all experts"),
            (&[a], Some((2, &[Down][..])), "has one of `lora_A` and `lora_B`"),
            (&[a, b], Some((2, &[Down, GateUp])), "of other shapes than `target_parameters` says"),
            (&[a, b, base_a, base_b], Some((2, &[Down, GateUp])), "of other shapes than `target_parameters` says"),
            (&[a, b], Some((4, &[Down])), "expected [experts * 4, inputs]"),
            (&[a, (".lora_b", [9, 6])], Some((2, &[GateUp])), "expected [experts * 2, inputs]"),
        ] {
            let error = error(wrappers, targets);
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn other_parameters_than_those_of_experts_and_matrices_are_not_known() {
        let names = |names: &[&str]| stacked_parameters(&serde_json::json!(names));
        assert_eq!(
            names(&["mlp.experts.gate_up_proj", "model.layers.0.mlp.experts.down_proj"]),
            Some(vec![GateUp, Down])
        );
        assert_eq!(names(&["mlp.gate.weight"]), Some(Vec::new()));
        assert_eq!(names(&["mlp.experts.bias"]), None);
        assert_eq!(stacked_parameters(&serde_json::json!("experts")), None);
    }
}

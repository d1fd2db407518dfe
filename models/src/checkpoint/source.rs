//! The stored tensors that a parameter is made of. Checkpoints store the matrices of experts in several ways:
//!
//! | name | shape | who writes it |
//! |---|---|---|
//! | `mlp.experts.gate_up_proj`, `mlp.experts.down_proj` | `[experts, 2 x intermediate, hidden]` with the gates first | Hugging Face, as published |
//! | `mlp.experts.3.up_proj.weight` | `[intermediate, hidden]` | `save_pretrained` of transformers 5 |
//! | `mlp.switch_mlp.up_proj.weight` | `[experts, intermediate, hidden]` | mlx-lm and mlx-vlm |

use std::collections::BTreeMap;

use cotangent::Plan;

use super::layout::{is_stored_shape, stored_shape};
use super::names::{TensorRole, classify};
use super::{Checkpoint, CheckpointError, HostTensor, Layout};

/// The tensors of one parameter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// One tensor, by its stored name.
    Whole(String),
    /// One half of the rows of every matrix of a stack.
    Half { stored: String, second: bool },
    /// One for each expert, by its number.
    PerExpert(BTreeMap<usize, String>),
}

/// The part of a parameter that a stored tensor holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Whole,
    Half { second: bool },
    Expert(usize),
}

/// The part that the names of all parameters of experts have in common.
const OF_EXPERTS: &str = ".mlp.experts.";

/// The parameters by name, and which part of each the tensor of the canonical name `name` holds.
fn parameters(name: String) -> Vec<(String, Part)> {
    let Some((module, rest)) = name.split_once(OF_EXPERTS) else { return vec![(name, Part::Whole)] };
    let of_experts = |rest: &str| format!("{module}{OF_EXPERTS}{rest}");
    let segments: Vec<&str> = rest.split('.').collect();
    match segments[..] {
        ["gate_up_proj"] => halves(&of_experts, "weight"),
        ["gate_up_proj", part] => halves(&of_experts, part),
        // An expert of a packed stack has no name of its own.
        [projection] => vec![(of_experts(&format!("{projection}.weight")), Part::Whole)],
        [number, projection, part] => match number.parse() {
            Ok(expert) => vec![(of_experts(&format!("{projection}.{part}")), Part::Expert(expert))],
            Err(_) => vec![(name, Part::Whole)],
        },
        _ => vec![(name, Part::Whole)],
    }
}

fn halves(of_experts: &impl Fn(&str) -> String, part: &str) -> Vec<(String, Part)> {
    [("gate_proj", false), ("up_proj", true)]
        .map(|(projection, second)| (of_experts(&format!("{projection}.{part}")), Part::Half { second }))
        .into()
}

/// The canonical names of the modules whose parameters the tensors of the canonical module `module` hold.
pub(crate) fn modules(module: &str) -> Vec<String> {
    let of_weight = |(name, _): (String, Part)| name.strip_suffix(".weight").map(str::to_owned);
    parameters(format!("{module}.weight")).into_iter().filter_map(of_weight).collect()
}

/// Adds the tensor `stored`, whose canonical name is `name`, to the parameters that it holds something of.
///
/// # Errors
/// The stored name of another tensor that holds the same.
pub(super) fn add(sources: &mut BTreeMap<String, Source>, name: String, stored: &str) -> Result<(), String> {
    for (parameter, part) in parameters(name) {
        let stored = stored.to_owned();
        if let (Part::Expert(expert), Some(Source::PerExpert(experts))) = (part, sources.get_mut(&parameter)) {
            match experts.insert(expert, stored) {
                None => continue,
                Some(other) => return Err(other),
            }
        }
        let source = match part {
            Part::Whole => Source::Whole(stored),
            Part::Half { second } => Source::Half { stored, second },
            Part::Expert(expert) => Source::PerExpert(BTreeMap::from([(expert, stored)])),
        };
        if let Some(other) = sources.insert(parameter, source) {
            return Err(other.first().to_owned());
        }
    }
    Ok(())
}

impl Source {
    /// The tensor that messages name.
    pub(super) fn first(&self) -> &str {
        match self {
            Source::Whole(stored) | Source::Half { stored, .. } => stored,
            Source::PerExpert(experts) => experts.values().next().map_or("", String::as_str),
        }
    }

    /// All tensors.
    pub(super) fn tensors(&self) -> Vec<&str> {
        match self {
            Source::Whole(stored) | Source::Half { stored, .. } => vec![stored],
            Source::PerExpert(experts) => experts.values().map(String::as_str).collect(),
        }
    }

    /// The shape of each tensor, if the parameter is to have the shape of `plan`.
    pub(super) fn stored_shape(&self, layout: Layout, plan: &Plan) -> Vec<usize> {
        match (self, plan.shape.as_slice()) {
            (Source::Half { .. }, [experts, rows, rest @ ..]) => [&[*experts, 2 * rows], rest].concat(),
            (Source::PerExpert(_), [_, rest @ ..]) => rest.to_vec(),
            _ => stored_shape(layout, plan),
        }
    }

    /// Returns whether its tensors may have this shape.
    pub(super) fn may_be(&self, layout: Layout, plan: &Plan, found: &[usize]) -> bool {
        match self {
            Source::Whole(_) => is_stored_shape(layout, plan, found),
            _ => found == self.stored_shape(layout, plan),
        }
    }

    /// The shape that the parameter has in `checkpoint`, as far as its first tensor says.
    pub(super) fn shape(&self, checkpoint: &Checkpoint) -> Option<Vec<usize>> {
        let shape = checkpoint.get(self.first())?.shape;
        Some(match (self, shape) {
            (Source::Half { .. }, [experts, rows, rest @ ..]) => [&[*experts, rows / 2], rest].concat(),
            (Source::PerExpert(experts), shape) => [&[experts.len()], shape].concat(),
            (_, shape) => shape.to_vec(),
        })
    }

    /// Checks the experts that there are against those of `plan`.
    ///
    /// # Errors
    /// If there is one too many or too few.
    pub(super) fn check_experts(
        &self,
        checkpoint: &Checkpoint,
        name: &str,
        plan: &Plan,
    ) -> Result<(), CheckpointError> {
        let [expected, _, _] = plan.shape[..] else { return Ok(()) };
        if !name.contains(OF_EXPERTS) {
            return Ok(());
        }
        let help = "as `num_experts` of `config.json` says\n\
                    help: take `config.json` and the safetensors files from the same model, complete";
        let fail = |stored: &str, reason: String| {
            let file = checkpoint.get(stored).map_or(checkpoint.dir(), |info| info.file);
            Err(CheckpointError::tensor(file, stored, reason))
        };
        if let Source::PerExpert(experts) = self {
            if let Some(missing) = (0..expected).find(|number| !experts.contains_key(number)) {
                let reason = format!("is missing for expert {missing}, expected {expected} experts, {help}");
                return Err(CheckpointError::tensor(checkpoint.dir(), name, reason));
            }
            return match experts.last_key_value() {
                Some((last, stored)) if *last >= expected => {
                    fail(stored, format!("is of expert {last}, expected {expected} experts from 0 on, {help}"))
                }
                _ => Ok(()),
            };
        }
        match self.shape(checkpoint).filter(|shape| shape.len() == 3).map(|shape| shape[0]) {
            Some(found) if found != expected => {
                fail(self.first(), format!("holds {found} experts, expected {expected}, {help}"))
            }
            _ => Ok(()),
        }
    }

    /// Reads the parameter in its stored dtype and layout.
    ///
    /// # Errors
    /// If a file cannot be read any more, or the experts are stored in several dtypes.
    pub(super) fn read(&self, checkpoint: &Checkpoint) -> Result<HostTensor, CheckpointError> {
        match self {
            Source::Whole(stored) => checkpoint.read(stored),
            Source::Half { stored, second } => checkpoint.read_half(stored, *second),
            Source::PerExpert(experts) => {
                let mut whole: Option<HostTensor> = None;
                for stored in experts.values() {
                    let one = checkpoint.read(stored)?;
                    let Some(whole) = &mut whole else {
                        whole = Some(HostTensor { shape: [&[experts.len()], one.shape.as_slice()].concat(), ..one });
                        continue;
                    };
                    if one.dtype != whole.dtype {
                        let reason = format!("is {}, and the same of other experts is {}", one.dtype, whole.dtype);
                        return Err(CheckpointError::tensor(checkpoint.dir(), stored, reason));
                    }
                    whole.bytes.extend(one.bytes);
                }
                whole.ok_or_else(|| CheckpointError::damaged(checkpoint.dir(), "holds no experts"))
            }
        }
    }
}

impl Checkpoint {
    /// The tensors of all parameters by canonical name, of those that `select` picks by their role.
    ///
    /// # Errors
    /// If two tensors claim to be the same parameter.
    pub(super) fn sources(
        &self,
        mut select: impl FnMut(&str, TensorRole) -> Result<Option<String>, CheckpointError>,
    ) -> Result<BTreeMap<String, Source>, CheckpointError> {
        let mut sources = BTreeMap::new();
        for stored in self.names() {
            let Some(name) = select(stored, classify(stored))? else { continue };
            add(&mut sources, name, stored).map_err(|other| {
                CheckpointError::tensor(self.dir(), stored, format!("is the same parameter as `{other}`"))
            })?;
        }
        Ok(sources)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_store_experts_gives_the_same_parameters() {
        let name = "layers.3.mlp.experts.up_proj.weight";
        for (stored, part) in [
            ("model.language_model.layers.3.mlp.experts.gate_up_proj", Part::Half { second: true }),
            ("model.layers.3.mlp.experts.17.up_proj.weight", Part::Expert(17)),
            ("language_model.model.layers.3.mlp.switch_mlp.up_proj.weight", Part::Whole),
            ("model.layers.3.mlp.experts.up_proj", Part::Whole),
        ] {
            let TensorRole::Parameter(canonical) = classify(stored) else { panic!("{stored}") };
            assert!(parameters(canonical).contains(&(name.to_owned(), part)), "{stored}");
        }
        let TensorRole::Parameter(shared) = classify("model.layers.3.mlp.shared_expert.up_proj.weight") else {
            panic!()
        };
        assert_eq!(parameters(shared.clone()), [(shared, Part::Whole)]);
        assert_eq!(modules("layers.0.mlp.experts.gate_up_proj").len(), 2);
    }
}

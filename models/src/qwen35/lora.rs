//! Low-rank adapters on the linear layers of a model.

use std::any::Any;
use std::collections::BTreeMap;

use cotangent::parameters::Path;
use cotangent::random::Key;
use cotangent::{Dtype, Error, Parameters, Result, Stack, Stored, Tensor, Trainable};

use crate::expert_linear::{ExpertLinear, ExpertLowRank};
use crate::linear::{Linear, LowRank};
use crate::quoting::quoted;
use crate::vision::{Merger, VisionBlock};

use super::attention::Attention;
use super::experts::{Experts, MixtureOfExperts};
use super::gated_delta_net::GatedDeltaNet;
use super::mlp::Mlp;
use super::model::Model;
use super::multi_token::MultiTokenHead;

/// The linear layer above all layers, which only its own name selects.
const HEAD: &str = "lm_head";

/// The linear layers that get an adapter, chosen by role or by patterns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LoraTargets {
    /// Every linear layer of every decoder layer: attention, gated delta net with all `in_proj_*`, MLP or shared expert; of
    /// every block of the vision tower, if that is loaded, but not of its mergers; and of the head of multi-token prediction,
    /// if that is loaded. Not the experts that a router chooses from, nor the router and the gate of the shared expert.
    #[default]
    All,
    /// Roles (`attention`, `linear_attention`, `mlp`, `experts`, `router`, `vision`, `mtp`), names (`q_proj`), layer-relative
    /// names (`mlp.down_proj`), or full names (`layers.3.self_attn.v_proj`); `*` stands for any characters. `lm_head` is the head, if
    /// it is not tied. A name such as
    /// `up_proj` is that of the shared expert, and of other experts only with `experts` before it.
    Patterns(Vec<String>),
}

/// The options with which adapters are made.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraOptions {
    /// The inner dimension.
    pub rank: i32,
    /// The multiplier of the adapter's output; `alpha / rank` in PEFT's terms.
    pub scale: f32,
    /// The layers that get an adapter.
    pub targets: LoraTargets,
    /// The number of layers at the end of the model that get adapters; `None` for all layers.
    pub last_layers: Option<usize>,
}

impl Default for LoraOptions {
    fn default() -> Self {
        LoraOptions { rank: 8, scale: 20.0, targets: LoraTargets::All, last_layers: None }
    }
}

/// Returns whether `text` matches `pattern`, in which `*` stands for any characters.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    // The first match of each part leaves the most text for later parts, so no other match needs to be tried.
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}

/// The role of the experts that a router chooses from.
const EXPERTS: &str = "experts";
/// The role of what chooses them, and of what weighs the shared expert.
const ROUTER: &str = "router";

/// A linear layer of a decoder layer.
struct Place<'a> {
    /// The role of the layer, such as `attention`, or the part of the model that it belongs to, such as `vision`.
    role: &'static str,
    /// `layers.3.self_attn.q_proj`.
    name: &'a str,
    /// `self_attn.q_proj`.
    relative: &'a str,
}

impl Place<'_> {
    fn is_selected_by(&self, pattern: &str) -> bool {
        let mut names = vec![self.role, self.relative, self.name];
        let short = match self.role {
            // The last name alone means the layer that all tokens use, because adapters of these are a hundred times as
            // large.
            EXPERTS => self.relative.strip_prefix("mlp."),
            _ => self.relative.rsplit('.').next(),
        };
        names.extend(short);
        names.iter().any(|name| matches(pattern, name)) || self.is_called_by_mlx(pattern)
    }

    /// Returns whether the pattern is the name that mlx-lm gives the layer.
    fn is_called_by_mlx(&self, pattern: &str) -> bool {
        let others = [self.relative, self.name].map(|name| name.replace("mlp.experts.", "mlp.switch_mlp."));
        self.role == EXPERTS && others.iter().any(|name| matches(pattern, name))
    }

    /// Returns whether it is adapted where nothing is named.
    fn is_default(&self) -> bool {
        !matches!(self.role, EXPERTS | ROUTER)
    }
}

/// Adapters on their way into a model.
struct Adding<'a> {
    options: &'a LoraOptions,
    /// Whether each pattern has matched a layer.
    used: Vec<bool>,
    /// The full names of the adapted layers.
    adapted: Vec<String>,
    key: Key,
}

impl Adding<'_> {
    /// Adapts the linear layers of `tree`, whose names begin with `path`. Without patterns it adapts all of them, if
    /// `by_default`, else none.
    fn walk(&mut self, tree: &mut impl Parameters<Mode = Stored>, mut path: Path, by_default: bool) -> Result<()> {
        let place = path.to_string();
        let (mut role, mut failure) = ("", None);
        tree.nodes(&mut path, &mut |path, node| {
            if let Some(found) = role_of(node) {
                let chosen_from = matches!(found, EXPERTS | ROUTER);
                role = if place == MULTI_TOKEN && !chosen_from { MULTI_TOKEN } else { found };
            }
            let adapted = if let Some(linear) = node.downcast_mut::<Linear<Stored>>() {
                linear as &mut dyn Adaptable
            } else if let Some(linear) = node.downcast_mut::<ExpertLinear<Stored>>() {
                linear
            } else {
                return;
            };
            let name = path.as_str();
            let relative = name.strip_prefix(&place).and_then(|rest| rest.strip_prefix('.')).unwrap_or(name);
            let place = Place { role, name, relative };
            let mut chosen = by_default && place.is_default() && self.options.targets == LoraTargets::All;
            for (used, pattern) in self.used.iter_mut().zip(patterns(&self.options.targets)) {
                if place.is_selected_by(pattern) {
                    (chosen, *used) = (true, true);
                }
            }
            if chosen && failure.is_none() {
                failure = adapted.adapt(place.name, self.options, &mut self.key).err();
                self.adapted.push(place.name.to_owned());
            }
        });
        failure.map_or(Ok(()), Err)
    }
}

/// Returns the name that layers of a type have as a target.
fn role_of(node: &dyn Any) -> Option<&'static str> {
    if node.is::<Attention<Stored>>() {
        Some("attention")
    } else if node.is::<GatedDeltaNet<Stored>>() {
        Some("linear_attention")
    } else if node.is::<Mlp<Stored>>() {
        Some("mlp")
    } else if node.is::<MixtureOfExperts<Stored>>() {
        Some(ROUTER)
    } else if node.is::<Experts<Stored>>() {
        Some(EXPERTS)
    } else if node.is::<VisionBlock<Stored>>() || node.is::<Merger<Stored>>() {
        Some("vision")
    } else if node.is::<MultiTokenHead<Stored>>() {
        Some(MULTI_TOKEN)
    } else {
        None
    }
}

impl Model<Stored> {
    /// Gives the targeted linear layers an adapter with `A` uniform in ±1/sqrt(inputs) and `B` zero, as mlx-lm does: the
    /// model computes what it did before.
    ///
    /// Returns the full names of the adapted layers.
    ///
    /// # Errors
    /// [`Error::Other`] if the rank is not positive, a pattern matches nothing, or an adapter is already there.
    pub fn add_adapters(&mut self, options: &LoraOptions, key: &Key) -> Result<Vec<String>> {
        if options.rank < 1 {
            return Err(Error::Other(format!("the rank of an adapter is {}, expected at least 1", options.rank)));
        }
        let first = options.last_layers.map_or(0, |last| self.layers.len().saturating_sub(last));
        let mut adding = Adding {
            options,
            used: vec![false; patterns(&options.targets).len()],
            adapted: Vec::new(),
            key: key.clone(),
        };
        for (layer, block) in self.layers.iter_mut().enumerate().skip(first) {
            let mut path = Path::new(<Self as Stack>::BLOCKS);
            path.push_index(layer);
            adding.walk(block, path, true)?;
        }
        if let Some(tower) = &mut self.visual {
            for (index, block) in tower.blocks.iter_mut().enumerate() {
                let mut path = Path::new("visual.blocks");
                path.push_index(index);
                adding.walk(block, path, true)?;
            }
            adding.walk(&mut tower.merger, Path::new("visual.merger"), false)?;
            for (index, merger) in tower.deepstack_merger_list.iter_mut().enumerate() {
                let mut path = Path::new("visual.deepstack_merger_list");
                path.push_index(index);
                adding.walk(merger, path, false)?;
            }
        }
        if let Some(head) = &mut self.mtp {
            adding.walk(&mut **head, Path::new(MULTI_TOKEN), true)?;
        }
        let names_head = patterns(&options.targets).iter().any(|pattern| pattern == HEAD);
        match &mut self.lm_head {
            Some(head) if names_head => adding.walk(head, Path::new(HEAD), false)?,
            None if names_head => {
                return Err(Error::Other(format!(
                    "the adapter target `{HEAD}` is the embedding in this model, which takes no adapter\n\
                     help: name layers (`mlp`, `attention`), or give the checkpoint a head of its own: `lm_head.weight`, with \
                     `tie_word_embeddings` false in `config.json`"
                )));
            }
            _ => {}
        }
        let Adding { used, adapted, .. } = adding;
        match patterns(&options.targets).iter().zip(&used).find(|(_, used)| !**used) {
            Some((pattern, _)) => Err(Error::Other(format!(
                "the adapter target `{}` matches no linear layer; use a role (attention, linear_attention, mlp, experts, router, \
                 vision, mtp), a name such as `q_proj` or `mlp.down_proj`, or a pattern with `*`",
                quoted(pattern)
            ))),
            None => Ok(adapted),
        }
    }

    /// Replaces adapter tensors, and tensors of the head of multi-token prediction, by the named ones; all others stay.
    ///
    /// # Errors
    /// [`Error::Parameter`] if a name is that of neither, or a shape differs.
    pub fn set_adapters(&mut self, tensors: &BTreeMap<String, Tensor<Stored>>) -> Result<()> {
        let mut unused: std::collections::BTreeSet<&str> = tensors.keys().map(String::as_str).collect();
        let replaced = self.convert::<Stored>(&mut Path::root(), &mut |path, old| {
            let may_be = is_adapter(path.as_str()) || path.as_str().starts_with("mtp.");
            let Some(new) = tensors.get(path.as_str()).filter(|_| may_be) else {
                return Ok(old.clone());
            };
            unused.remove(path.as_str());
            if new.shape() != old.shape() {
                return Err(Error::Parameter {
                    name: path.to_string(),
                    message: format!("found shape {:?}, expected {:?}", new.shape(), old.shape()),
                });
            }
            new.cast(old.dtype())
        })?;
        if let Some(name) = unused.first() {
            return Err(Error::Parameter {
                name: (*name).to_owned(),
                message: "is no adapter tensor of this model; adapt the same layers as when it was saved".into(),
            });
        }
        *self = replaced;
        Ok(())
    }

    /// Returns whether there are experts that a router chooses from, and none of them has an adapter.
    pub fn leaves_experts_as_they_are(&mut self) -> bool {
        let (mut any, mut adapted) = (false, false);
        self.nodes(&mut Path::root(), &mut |_, node| {
            if let Some(linear) = node.downcast_ref::<ExpertLinear<Stored>>() {
                any = true;
                adapted |= linear.adapter.is_some();
            }
        });
        any && !adapted
    }

    /// The adapters' tensors by full name.
    pub fn adapters(&self) -> BTreeMap<String, Tensor<Stored>> {
        self.named(is_adapter)
    }

    /// The tensors that `select` picks by full name.
    pub fn named(&self, select: impl Fn(&str) -> bool) -> BTreeMap<String, Tensor<Stored>> {
        let mut named = BTreeMap::new();
        self.visit(&mut Path::root(), &mut |path, tensor| {
            if select(path.as_str()) {
                named.insert(path.to_string(), tensor.clone());
            }
        });
        named
    }

    /// The adapters as the parameters that train.
    ///
    /// # Errors
    /// None of its own: adapters are floats.
    pub fn adapters_trainable(&self) -> Result<Trainable> {
        Trainable::new(self, is_adapter)
    }

    /// The head of multi-token prediction as what trains: its adapters, or all of it where it has none.
    ///
    /// # Errors
    /// [`Error::Refused`] if it is not loaded, or would train whole and is packed codes, which never train.
    pub fn multi_token_head_trainable(&self) -> Result<Trainable> {
        let adapted = self.count(|name| is_adapter(name) && name.starts_with("mtp.")) > 0;
        let mut codes = None;
        self.leaves(&mut Path::root(), &mut |path, leaf| {
            if leaf.is_frozen && path.as_str().starts_with("mtp.") {
                codes.get_or_insert_with(|| path.to_string());
            }
        });
        match codes.filter(|_| !adapted) {
            Some(name) => Err(Error::Parameter {
                name,
                message: "is packed codes, which never train\nhelp: train adapters of the head, by the target `mtp`"
                    .into(),
            }),
            None => Trainable::new(self, |name| name.starts_with("mtp.") && (is_adapter(name) || !adapted)),
        }
    }
}

/// The name of the head of multi-token prediction in the tree, and its role.
const MULTI_TOKEN: &str = "mtp";

pub(super) fn is_adapter(name: &str) -> bool {
    name.ends_with(".lora_a") || name.ends_with(".lora_b")
}

fn patterns(targets: &LoraTargets) -> &[String] {
    match targets {
        LoraTargets::All => &[],
        LoraTargets::Patterns(patterns) => patterns,
    }
}

/// A layer that can get an adapter.
trait Adaptable {
    /// Draws an adapter from `key`, which moves on.
    fn adapt(&mut self, name: &str, options: &LoraOptions, key: &mut Key) -> Result<()>;
}

/// `A` of this shape for a layer with this number of inputs, drawn from `key`.
fn drawn(inputs: i32, shape: &[i32], key: &mut Key) -> Result<Tensor<Stored>> {
    let (draw, next) = key.split()?;
    *key = next;
    let bound = (inputs as f32).powf(-0.5);
    draw.uniform(-bound, bound, shape)
}

fn refuse_second(name: &str, is_adapted: bool) -> Result<()> {
    if is_adapted { Err(Error::Other(format!("`{name}` has an adapter already"))) } else { Ok(()) }
}

impl Adaptable for Linear<Stored> {
    fn adapt(&mut self, name: &str, options: &LoraOptions, key: &mut Key) -> Result<()> {
        refuse_second(name, self.adapter.is_some())?;
        self.adapter = Some(LowRank {
            lora_a: drawn(self.inputs(), &[self.inputs(), options.rank], key)?,
            lora_b: Tensor::zeros(&[options.rank, self.outputs()], Dtype::F32)?,
            scale: options.scale,
        });
        Ok(())
    }
}

impl Adaptable for ExpertLinear<Stored> {
    fn adapt(&mut self, name: &str, options: &LoraOptions, key: &mut Key) -> Result<()> {
        refuse_second(name, self.adapter.is_some())?;
        let (experts, inputs, outputs) = (self.experts(), self.weight.inputs(), self.weight.outputs());
        self.adapter = Some(ExpertLowRank {
            lora_a: drawn(inputs, &[experts, options.rank, inputs], key)?,
            lora_b: Tensor::zeros(&[experts, outputs, options.rank], Dtype::F32)?,
            scale: options.scale,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cotangent::Plan;

    use crate::checkpoint::HostTensor;
    use crate::config::TextConfig;

    use super::*;

    #[test]
    fn a_target_is_a_role_a_name_or_a_pattern() {
        for (pattern, role, name, expected) in [
            ("attention", "attention", "layers.3.self_attn.q_proj", true),
            ("attention", "linear_attention", "layers.3.linear_attn.in_proj_qkv", false),
            ("linear_attention", "linear_attention", "layers.0.linear_attn.in_proj_qkv", true),
            ("mlp", "mlp", "layers.0.mlp.up_proj", true),
            ("q_proj", "attention", "layers.3.self_attn.q_proj", true),
            ("proj", "attention", "layers.3.self_attn.q_proj", false),
            ("in_proj_*", "linear_attention", "layers.0.linear_attn.in_proj_a", true),
            ("mlp.down_proj", "mlp", "layers.7.mlp.down_proj", true),
            ("layers.3.*", "mlp", "layers.3.mlp.down_proj", true),
            ("layers.3.*", "mlp", "layers.13.mlp.down_proj", false),
            ("layers.*.self_attn.v_proj", "attention", "layers.13.self_attn.v_proj", true),
            ("*", "mlp", "layers.0.mlp.up_proj", true),
            ("*proj", "mlp", "layers.0.mlp.up_proj", true),
            ("mlp.*_*_proj", "mlp", "layers.0.mlp.up_proj", false),
            ("*up*proj", "mlp", "layers.0.mlp.up_proj", true),
            ("*up_proj*proj", "mlp", "layers.0.mlp.up_proj", false),
            ("up_proj", "mlp", "layers.0.mlp.shared_expert.up_proj", true),
            ("up_proj", "experts", "layers.0.mlp.experts.up_proj", false),
            ("experts", "experts", "layers.0.mlp.experts.up_proj", true),
            ("experts.up_proj", "experts", "layers.0.mlp.experts.up_proj", true),
            ("mlp.switch_mlp.up_proj", "experts", "layers.0.mlp.experts.up_proj", true),
            ("layers.0.mlp.*", "experts", "layers.0.mlp.experts.up_proj", true),
            ("mlp", "experts", "layers.0.mlp.experts.up_proj", false),
            ("mlp.gate", "router", "layers.0.mlp.gate", true),
            ("shared_expert_gate", "router", "layers.0.mlp.shared_expert_gate", true),
            ("router", "router", "layers.0.mlp.shared_expert_gate", true),
        ] {
            let relative = name.splitn(3, '.').nth(2).unwrap();
            assert_eq!(Place { role, name, relative }.is_selected_by(pattern), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn the_head_is_adapted_by_its_name_alone() {
        let adapted = |tied: bool, target: &str| {
            let mut json: serde_json::Value = serde_json::from_str(include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../tests/reference/fixtures/dense-tied/config.json"
            )))
            .unwrap();
            json["tie_word_embeddings"] = tied.into();
            let config = TextConfig::from_json(&json, std::path::Path::new("config.json")).unwrap();
            let mut zeros = |_: &str, plan: &Plan| Ok(HostTensor::from_f32(&plan.shape, &vec![0.0; plan.size()]));
            let mut model = Model::from_source(&config, Dtype::F32, &mut zeros).unwrap();
            let targets = LoraTargets::Patterns(vec![target.into()]);
            let options = LoraOptions { targets, ..LoraOptions::default() };
            model.add_adapters(&options, &Key::new(0).unwrap()).map_err(|error| error.to_string())
        };
        assert_eq!(adapted(false, "lm_head").unwrap(), ["lm_head"]);
        assert!(!adapted(false, "*").unwrap().contains(&"lm_head".to_owned()));
        assert!(adapted(true, "lm_head").unwrap_err().contains("`lm_head` is the embedding in this model"));
    }

    #[test]
    fn a_pattern_of_many_stars_is_compared_in_no_time() {
        assert!(!matches(&format!("{}x", "*".repeat(100_000)), "mlp.up_proj"));
        assert!(!matches(&format!("{}x", "*r".repeat(50)), &"r".repeat(10_000)));
    }
}

//! Plans which stored tensors make which parameters, before anything is loaded.

use std::collections::BTreeMap;

use cotangent::{Plan, Storage};
use safetensors::Dtype;

use super::layout::{stored_shape, to_hugging_face};
use super::names::{TensorRole, classify, is_quantisation_detail};
use super::source::Source;
use super::{Checkpoint, CheckpointError, HostTensor, Layout, Mismatch};

const EMBEDDING: &str = "embed_tokens.weight";
const HEAD: &str = "lm_head.weight";
/// The tensors that a matrix is stored as, the last two if it is quantized.
const PARTS: [&str; 3] = ["weight", "scales", "biases"];

/// The stored tensors that provide the parameters of a model. The plan is made before anything is loaded, so that a
/// checkpoint that does not fit is refused as a whole.
#[derive(Debug)]
pub struct LoadPlan<'a> {
    checkpoint: &'a Checkpoint,
    /// The plan and the source of each parameter that the model expects, by name.
    sources: BTreeMap<String, (Plan, Source)>,
    layout: Layout,
    skipped: Skipped,
}

/// Tensors of the checkpoint that the text model has no use for, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Skipped {
    /// Tensors of the multi-token prediction head (`mtp.*`).
    pub multi_token_prediction: usize,
    /// Tensors of the vision tower.
    pub vision: usize,
    /// Stored tables that follow from the configuration, and a head that equals the embedding it is tied to.
    pub redundant: usize,
}

impl<'a> LoadPlan<'a> {
    /// Finds a tensor for each of the `expected` parameters of a model, as [`Plan::all`] lists them.
    ///
    /// # Errors
    /// With all missing, extra and misshapen tensors in one error; or if two tensors claim to be the same parameter,
    /// the checkpoint is quantized, or its layout cannot be recognised.
    pub fn new(checkpoint: &'a Checkpoint, expected: Vec<(String, Plan)>) -> Result<Self, CheckpointError> {
        Self::in_layout(checkpoint, expected, None)
    }

    /// Plans as [`new`](Self::new) does, with tensors in a layout that is known, or must be found.
    pub(super) fn in_layout(
        checkpoint: &'a Checkpoint,
        expected: Vec<(String, Plan)>,
        layout: Option<Layout>,
    ) -> Result<Self, CheckpointError> {
        let mut expected: BTreeMap<String, Plan> = expected.into_iter().collect();
        let mut skipped = Skipped::default();
        let expects = |prefix: &str| expected.keys().any(|name| name.starts_with(prefix));
        let (has_tower, has_head) = (expects("visual."), expects("mtp."));
        let mut found = checkpoint.sources(|stored, role| {
            match role {
                TensorRole::MultiTokenPrediction(_) if !has_head => skipped.multi_token_prediction += 1,
                TensorRole::Vision(_) if !has_tower => skipped.vision += 1,
                TensorRole::Buffer => skipped.redundant += 1,
                TensorRole::Vision(name) | TensorRole::MultiTokenPrediction(name) | TensorRole::Parameter(name) => {
                    if is_quantisation_detail(stored) && !is_expected(&expected, &name) {
                        return Err(quantised(checkpoint, stored));
                    }
                    return Ok(Some(name));
                }
            }
            Ok(None)
        })?;

        if !expected.contains_key(HEAD) {
            // Some exports store the tied table twice, some only under the head's name.
            let twice = found.contains_key(EMBEDDING);
            for part in PARTS {
                if let Some(head) = found.remove(&format!("lm_head.{part}")) {
                    if twice {
                        skipped.redundant += 1;
                    } else {
                        found.insert(format!("embed_tokens.{part}"), head);
                    }
                }
            }
        }

        let layout = layout.map_or_else(|| find_layout(checkpoint, &expected, &found), Ok)?;
        let mut mismatch = Mismatch { dir: checkpoint.dir().to_owned(), ..Mismatch::default() };
        for (name, plan) in &expected {
            if !found.contains_key(name) {
                mismatch.missing.push((name.clone(), plan.shape.clone()));
            }
        }
        for (name, source) in &found {
            let Some(expected) = expected.get(name) else {
                for stored in source.tensors() {
                    let shape = checkpoint.get(stored).map(|info| info.shape.to_vec());
                    mismatch.extra.push((stored.to_owned(), shape.unwrap_or_default()));
                }
                continue;
            };
            source.check_experts(checkpoint, name, expected)?;
            for stored in source.tensors() {
                let Some(info) = checkpoint.get(stored) else { continue };
                if !source.may_be(layout, expected, info.shape) {
                    let expected = source.stored_shape(layout, expected);
                    mismatch.misshapen.push((stored.to_owned(), info.shape.to_vec(), expected));
                }
                // Codes were compared when they were planned.
                if expected.dtype.is_float() && !matches!(info.dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16) {
                    mismatch.not_float.push((stored.to_owned(), info.dtype.to_string()));
                }
            }
        }
        if !mismatch.is_empty() {
            return Err(CheckpointError::Mismatch(Box::new(mismatch)));
        }
        let source = |(name, source): (String, Source)| Some((expected.remove_entry(&name)?, source));
        let sources =
            found.into_iter().filter_map(source).map(|((name, plan), source)| (name, (plan, source))).collect();
        Ok(Self { checkpoint, sources, layout, skipped })
    }

    /// Reads the parameter called `name`, in Hugging Face layout, in the stored dtype (the norms of an MLX
    /// checkpoint: f32).
    ///
    /// # Errors
    /// If the plan has no such parameter, or the file cannot be read any more.
    pub fn read(&self, name: &str) -> Result<HostTensor, CheckpointError> {
        let Some((plan, source)) = self.sources.get(name) else {
            return Err(CheckpointError::tensor(self.checkpoint.dir(), name, "is no parameter of the model"));
        };
        Ok(to_hugging_face(self.layout, plan, source.read(self.checkpoint)?))
    }

    /// The dtype in which the parameter called `name` is stored.
    pub fn stored_dtype(&self, name: &str) -> Option<Dtype> {
        let (_, source) = self.sources.get(name)?;
        self.checkpoint.get(source.first()).map(|info| info.dtype)
    }

    /// The layout of the checkpoint, which `read` undoes.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Returns the number of tensors that are left out.
    pub fn skipped(&self) -> Skipped {
        self.skipped
    }
}

impl Checkpoint {
    /// Returns whether both an embedding and a head are stored, and differ. Then they are not tied, whatever
    /// `config.json` says: so does transformers (`PreTrainedModel.tie_weights`).
    ///
    /// # Errors
    /// If a file cannot be read any more.
    pub fn has_head_of_its_own(&self) -> Result<bool, CheckpointError> {
        let stored = |wanted: &str| {
            self.names().find(|name| matches!(classify(name), TensorRole::Parameter(parameter) if parameter == wanted))
        };
        let (Some(embedding), Some(head)) = (stored(EMBEDDING), stored(HEAD)) else { return Ok(false) };
        let file = |name: &str| &self.files[self.tensors[name]];
        if file(embedding).same(embedding, file(head), head)? {
            return Ok(false);
        }
        // A head with the same values in another dtype is still the embedding.
        Ok(match (self.get(embedding), self.get(head)) {
            (Some(left), Some(right)) if left.dtype != right.dtype && left.shape == right.shape => {
                self.read(embedding)?.to_f32() != self.read(head)?.to_f32()
            }
            _ => true,
        })
    }
}

/// Returns whether the model has a parameter of this name, or the name is that of a head tied to the embedding.
fn is_expected(expected: &BTreeMap<String, Plan>, name: &str) -> bool {
    let tied = name.strip_prefix("lm_head.").map(|part| format!("embed_tokens.{part}"));
    expected.contains_key(name) || tied.is_some_and(|name| expected.contains_key(&name))
}

fn quantised(checkpoint: &Checkpoint, stored: &str) -> CheckpointError {
    let file = checkpoint.get(stored).map_or(checkpoint.dir(), |info| info.file);
    let reason = "belongs to a quantized model of a kind that is not supported for now\n\
                  help: use the original bf16 or f32 checkpoint, or one that mlx-lm or mlx-vlm quantized";
    CheckpointError::tensor(file, stored, reason)
}

fn find_layout(
    checkpoint: &Checkpoint,
    expected: &BTreeMap<String, Plan>,
    found: &BTreeMap<String, Source>,
) -> Result<Layout, CheckpointError> {
    let mut layout = None;
    let is_convolution = |plan: &Plan| plan.storage == Storage::ChannelsLast;
    for (name, plan) in expected.iter().filter(|(_, plan)| is_convolution(plan)) {
        let Some(info) = found.get(name).and_then(|source| checkpoint.get(source.first())) else { continue };
        let here = if info.shape == plan.shape {
            Layout::HuggingFace
        } else if info.shape == stored_shape(Layout::Mlx, plan) {
            Layout::Mlx
        } else {
            continue;
        };
        if layout.is_some_and(|layout| layout != here) {
            let reason = format!(
                "has the shape {:?} of the {here:?} layout, other convolutions have that of the other one: \
                 whether norms are stored as w or 1 + w cannot be recognised",
                info.shape
            );
            return Err(CheckpointError::tensor(info.file, found[name].first(), reason));
        }
        layout = Some(here);
    }
    match layout {
        Some(layout) => Ok(layout),
        None if checkpoint.written_by_mlx() && expected.values().any(|plan| plan.storage == Storage::ZeroCentred) => {
            let reason = "was written by MLX and has no convolution: whether norms are stored as w or 1 + w cannot be \
                          recognised\nhelp: use the original Hugging Face checkpoint";
            Err(CheckpointError::damaged(checkpoint.dir(), reason))
        }
        None => Ok(Layout::HuggingFace),
    }
}

//! The head of multi-token prediction in a converted checkpoint: not quantized, in a file that MLX's programs ignore.

use std::collections::BTreeMap;

use cotangent::CodeFormat;

use crate::checkpoint::{
    Checkpoint, CheckpointError, Dtype, HeadPlace, HostTensor, Layout, TensorPlan, TensorRole, classify, name_in_mlx,
};
use crate::config::Quantization;
use crate::qwen35::LoadError;

/// The beginning of the head's names.
const PREFIX: &str = "mtp.";

/// The tensors of a head.
pub(super) struct Head<'a> {
    checkpoint: &'a Checkpoint,
    tensors: Vec<Tensor>,
    /// The matrices that are packed codes, by the canonical name of the module, where mlx-vlm made them so.
    pub(super) codes: BTreeMap<String, CodeFormat>,
}

struct Tensor {
    stored: String,
    plan: TensorPlan,
    /// Whether it is the scale `w` of a norm, which MLX's layout has as `1 + w`.
    adds_one: bool,
}

impl<'a> Head<'a> {
    /// Returns the head of a `checkpoint` in this layout; `place` is the head's place.
    ///
    /// # Errors
    /// If the configuration beside a head in a folder of its own is wrong.
    pub(super) fn new(checkpoint: &'a Checkpoint, place: &'a HeadPlace, layout: Layout) -> Result<Self, LoadError> {
        let (checkpoint, layout, quantization) = match place {
            HeadPlace::Inside => (checkpoint, layout, None),
            HeadPlace::Folder(folder) => (folder, folder.layout_of_head(), Quantization::load(folder.dir())?),
        };
        let mut head = Head { checkpoint, tensors: Vec::new(), codes: BTreeMap::new() };
        for stored in checkpoint.names() {
            let own = match (classify(stored), place) {
                (TensorRole::MultiTokenPrediction(name), _) => name,
                (TensorRole::Parameter(name), HeadPlace::Folder(_)) => format!("{PREFIX}{name}"),
                _ => continue,
            };
            let Some(info) = checkpoint.get(stored) else { continue };
            if let (Some(quantization), Some(module)) = (&quantization, own.strip_suffix(".scales"))
                && let Some(format) = quantization.format_of(&module[PREFIX.len()..])
            {
                head.codes.insert(module.to_owned(), format);
            }
            let adds_one = layout == Layout::HuggingFace && own.contains("norm");
            // In float32 the sum loses nothing.
            let dtype = if adds_one { Dtype::F32 } else { info.dtype };
            let plan = TensorPlan { name: name_in_mlx(&own, false), dtype, shape: info.shape.to_vec() };
            head.tensors.push(Tensor { stored: stored.to_owned(), plan, adds_one });
        }
        Ok(head)
    }

    /// Returns the plans of the tensors to be written.
    pub(super) fn plans(&self) -> impl Iterator<Item = TensorPlan> {
        self.tensors.iter().map(|tensor| tensor.plan.clone())
    }

    /// The tensors by name, read one at a time.
    pub(super) fn tensors(&self) -> impl Iterator<Item = Result<(&str, HostTensor), CheckpointError>> {
        self.tensors.iter().map(|Tensor { stored, plan, adds_one }| {
            let tensor = self.checkpoint.read(stored)?;
            let tensor = match tensor.to_f32().filter(|_| *adds_one) {
                Some(values) => HostTensor::from_f32(&plan.shape, &values.iter().map(|w| 1.0 + w).collect::<Vec<_>>()),
                None => tensor,
            };
            Ok((plan.name.as_str(), tensor))
        })
    }
}

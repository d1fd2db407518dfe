//! Finds the matrices of a checkpoint that are packed codes, and checks that its configuration names the same ones.

use std::collections::BTreeMap;

use cotangent::parameters::Path;
use cotangent::{CodeFormat, Dtype, Parameters, Plan, Planned};

use crate::config::Quantization;
use crate::weight::Weight;

use super::names::TensorRole;
use super::source::Source;
use super::{Checkpoint, CheckpointError, TensorInfo};

/// The embedding, and the head that may be tied to it: some exports store a tied one under the head's name alone.
const EMBEDDING: &str = "embed_tokens";
const HEAD: &str = "lm_head";

/// The matrices that a module is stored as.
struct Module<'a> {
    checkpoint: &'a Checkpoint,
    /// The sources of the checkpoint's parameters, by canonical name.
    sources: &'a BTreeMap<String, Source>,
    name: &'a str,
}

/// One of the tensors of a matrix.
struct Stored<'a> {
    /// The tensor that messages name.
    name: &'a str,
    info: TensorInfo<'a>,
    /// The shape of the whole part, if it is made of several tensors.
    shape: Vec<usize>,
}

impl Checkpoint {
    /// Plans as codes the matrices of `model` that the checkpoint stores as such: those that have scales beside them. How the
    /// codes must be read is what `quantization` says.
    ///
    /// # Errors
    /// If codes and scales do not fit each other or the configuration.
    pub fn plan_codes(
        &self,
        model: &mut impl Parameters<Mode = Planned>,
        quantization: Option<&Quantization>,
    ) -> Result<(), CheckpointError> {
        let sources = self.sources(|_, role| {
            Ok(match role {
                TensorRole::Parameter(name) | TensorRole::Vision(name) | TensorRole::MultiTokenPrediction(name) => {
                    Some(name)
                }
                _ => None,
            })
        })?;
        let mut failure = None;
        model.nodes(&mut Path::root(), &mut |path, node| {
            let Some(weight) = node.downcast_mut::<Weight<Planned>>() else { return };
            let Weight::Dense(dense) = &*weight else { return };
            let plan = dense.weight.plan();
            let is_stored = |name: &str| sources.contains_key(&format!("{name}.weight"));
            let name = if path.as_str() == EMBEDDING && !is_stored(EMBEDDING) { HEAD } else { path.as_str() };
            match (Module { checkpoint: self, sources: &sources, name }).format(plan, quantization) {
                Ok(Some(format)) => *weight = weight.quantized(format),
                Ok(None) => {}
                Err(error) => failure = failure.take().or(Some(error)),
            }
        });
        failure.map_or(Ok(()), Err)
    }
}

impl Module<'_> {
    fn part(&self, part: &str) -> Option<Stored<'_>> {
        let source = self.sources.get(&format!("{}.{part}", self.name))?;
        let name = source.first();
        Some(Stored { name, info: self.checkpoint.get(name)?, shape: source.shape(self.checkpoint)? })
    }

    /// The format of the module's codes; `None` if it is dense.
    fn format(&self, plan: &Plan, quantization: Option<&Quantization>) -> Result<Option<CodeFormat>, CheckpointError> {
        let fail =
            |stored: &Stored<'_>, reason: String| Err(CheckpointError::tensor(stored.info.file, stored.name, reason));
        let Some(words) = self.part("weight") else {
            return match self.part("scales") {
                Some(scales) => {
                    fail(&scales, format!("is there without `{}.weight`\nhelp: fetch the checkpoint again", self.name))
                }
                None => Ok(None),
            };
        };
        let Some(scales) = self.part("scales") else {
            if words.info.dtype == safetensors::Dtype::U32 {
                let reason = format!(
                    "holds packed codes, but `{}.scales` is missing\nhelp: fetch the checkpoint again",
                    self.name
                );
                return fail(&words, reason);
            }
            return Ok(None);
        };
        if let Some(global) = self.part("global_scale") {
            let reason = "is a scale of a whole matrix, which is not supported for now\n\
                          help: quantize the original checkpoint by mlx-lm without it";
            return fail(&global, reason.into());
        }
        let Some(quantization) = quantization else {
            let reason = "belongs to a quantized model, but `config.json` has no `quantization` that says how\n\
                          help: fetch `config.json` of the same model";
            return fail(&scales, reason.into());
        };
        let Some(format) = quantization.format_of(self.name) else {
            let reason = "is the scales of a module that `quantization` of `config.json` calls dense\n\
                          help: take `config.json` and the safetensors files from the same model";
            return fail(&scales, reason.into());
        };
        let [outer @ .., columns] = plan.shape.as_slice() else { return Ok(None) };
        for source in
            ["weight", "scales", "biases"].iter().filter_map(|part| self.sources.get(&format!("{}.{part}", self.name)))
        {
            source.check_experts(self.checkpoint, self.name, plan)?;
        }
        if !columns.is_multiple_of(format.group_size()) {
            let reason = format!(
                "is a matrix of {columns} columns, expected a multiple of {}, the `group_size` that `config.json` says",
                format.group_size()
            );
            return fail(&words, reason);
        }
        let expected = [outer, &[format.words(*columns)]].concat();
        let expected_scales = [outer, &[columns / format.group_size()]].concat();
        if words.shape != expected || scales.shape != expected_scales || words.info.dtype != safetensors::Dtype::U32 {
            let reason = format!(
                "holds {} {:?} with scales {:?}, expected U32 {expected:?} with scales {expected_scales:?}, as `config.json` \
                 says {format}\nhelp: take `config.json` and the safetensors files from the same model",
                words.info.dtype, words.shape, scales.shape
            );
            return fail(&words, reason);
        }
        let is_float = |stored: &Stored<'_>| {
            matches!(stored.info.dtype, safetensors::Dtype::F32 | safetensors::Dtype::BF16 | safetensors::Dtype::F16)
        };
        let fits = match format.dtype_of_scales(Dtype::F32) {
            Dtype::F32 => is_float(&scales),
            _ => scales.info.dtype == safetensors::Dtype::U8,
        };
        if !fits {
            let kind = if format.has_biases() { "floats" } else { "U8" };
            let reason = format!("is {}, expected {kind}, as `config.json` says {format}", scales.info.dtype);
            return fail(&scales, reason);
        }
        match (self.part("biases"), format.has_biases()) {
            (Some(biases), false) => fail(&biases, format!("is in the checkpoint, but {format} have no biases")),
            (None, true) => {
                let reason = format!("has no `{}.biases` beside it, expected for {format}", self.name);
                fail(&scales, reason)
            }
            _ => Ok(Some(format)),
        }
    }
}

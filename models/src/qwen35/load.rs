//! Loads a model from a checkpoint.

use std::path::Path;

use cotangent::{Dtype, Parameters, Plan, Planned, Stored, Tensor, parameters};

use crate::checkpoint::{
    Checkpoint, CheckpointError, Checksum, HeadPlace, HostTensor, LoadPlan, Skipped, TensorRole, classify, to_mlx,
};
use crate::config::{ConfigError, Quantization, TextConfig};

use crate::transfer::from_host;
use crate::vision::VisionTower;

use super::model::Model;
use super::multi_token::MultiTokenHead;

/// The reason why a model could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// `config.json` is at fault.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tensors are at fault.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The device refused.
    #[error("loading parameter `{name}`: {source}")]
    Device {
        /// The parameter's canonical name.
        name: String,
        /// The error of the device or operation.
        source: cotangent::Error,
    },
}

/// The facts that were found in a checkpoint beside a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Findings {
    /// The numbers of tensors that the text model has no use for.
    pub skipped: Skipped,
    /// Whether the head is not tied to the embedding although `config.json` says so, because a stored one differs from it.
    pub own_head: bool,
    /// The checksum of the configuration and of all parameters as stored: two checkpoints with one fingerprint are the
    /// same model.
    pub fingerprint: Checksum,
    /// The checksum of the norms of the text model, as MLX's converters round them. A checkpoint and its conversions
    /// have the same one, unless the quantizer folded scales into the norms, as AWQ does.
    pub norms: Checksum,
}

impl Findings {
    /// Counts a parameter in, which it returns.
    fn add(&mut self, name: &str, tensor: HostTensor) -> Result<HostTensor, CheckpointError> {
        self.fingerprint.add_bytes(name.as_bytes());
        self.fingerprint.add_bytes(&tensor.bytes);
        Ok(tensor)
    }
}

impl Model<Stored> {
    /// Reads `config.json` and the safetensors of the folder `dir`. Matrices are held in `dtype`; norms, filters, `A_log`
    /// and `dt_bias` always in float32.
    ///
    /// # Errors
    /// If the configuration or any tensor is wrong: the whole checkpoint is refused before anything is loaded.
    pub fn load(dir: &Path, dtype: Dtype) -> Result<(Self, TextConfig, Findings), LoadError> {
        Self::load_observed(dir, dtype, &mut |_, _| {})
    }

    /// Loads as [`load`](Self::load) does; `observe` gets the number of parameters read and the number of all, after
    /// each.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_observed(
        dir: &Path,
        dtype: Dtype,
        observe: &mut dyn FnMut(usize, usize),
    ) -> Result<(Self, TextConfig, Findings), LoadError> {
        Self::load_config(dir, TextConfig::load(dir)?, dtype, observe)
    }

    /// Loads as [`load_observed`](Self::load_observed) does, with the vision tower if the checkpoint has one.
    ///
    /// # Errors
    /// As [`load`](Self::load).
    pub fn load_with_vision(
        dir: &Path,
        dtype: Dtype,
        observe: &mut dyn FnMut(usize, usize),
    ) -> Result<(Self, TextConfig, Findings), LoadError> {
        Self::load_config(dir, TextConfig::load_with_vision(dir)?, dtype, observe)
    }

    /// Adds the vision tower of the checkpoint in `dir` to a model of its text, whose configuration and `findings` then
    /// describe it.
    ///
    /// # Errors
    /// As [`load`](Self::load); or if the checkpoint has no tower.
    pub fn load_tower(
        &mut self,
        dir: &Path,
        config: &mut TextConfig,
        dtype: Dtype,
        findings: &mut Findings,
    ) -> Result<(), LoadError> {
        let Some(vision) = TextConfig::load_with_vision(dir)?.vision else {
            return Err(LoadError::Device {
                name: "visual".into(),
                source: cotangent::Error::Other(
                    "`config.json` has no `vision_config`: the model reads text only".into(),
                ),
            });
        };
        let tower = VisionTower::planned(&vision, dtype);
        let described = TextConfig { vision: Some(vision), has_multi_token_head: false, ..config.clone() };
        let checkpoint = Checkpoint::open(dir)?;
        let mut planned = Model::planned(&described, dtype);
        checkpoint.plan_codes(&mut planned, Quantization::load(dir)?.as_ref())?;
        let plan = LoadPlan::new(&checkpoint, Plan::all(&planned))?;
        self.visual = Some(Box::new(loaded(&tower, "visual", &mut |name, _| findings.add(name, plan.read(name)?))?));
        findings.skipped.vision = plan.skipped().vision;
        config.vision = described.vision;
        Ok(())
    }

    /// Adds the head of multi-token prediction of the checkpoint in `dir` to its model, whose configuration and `findings`
    /// then describe it.
    ///
    /// # Errors
    /// As [`load`](Self::load); or if the checkpoint has no such head.
    pub fn load_multi_token_head(
        &mut self,
        dir: &Path,
        config: &mut TextConfig,
        dtype: Dtype,
        findings: &mut Findings,
    ) -> Result<(), LoadError> {
        let mut checkpoint = Checkpoint::open(dir)?;
        let mut head = MultiTokenHead::planned(config, dtype);
        let head = match checkpoint.find_multi_token_head()? {
            None => return Err(checkpoint.without_multi_token_head().into()),
            Some(HeadPlace::Inside) => {
                // The head is planned within the whole model, because all tensors of a checkpoint are checked together.
                let mut planned = Model { mtp: Some(Box::new(head)), ..Model::planned(config, dtype) };
                checkpoint.plan_codes(&mut planned, Quantization::load(dir)?.as_ref())?;
                let plan = LoadPlan::new(&checkpoint, Plan::all(&planned))?;
                findings.skipped.multi_token_prediction = plan.skipped().multi_token_prediction;
                planned.mtp.map(|head| loaded(&*head, "mtp", &mut |name, _| findings.add(name, plan.read(name)?)))
            }
            Some(HeadPlace::Folder(folder)) => {
                folder.plan_codes(&mut head, Quantization::load(folder.dir())?.as_ref())?;
                let (plan, prefix) = LoadPlan::from_head_folder(&folder, Plan::all(&head))?;
                Some(loaded(&head, prefix, &mut |name, _| findings.add(name, plan.read(name)?)))
            }
        };
        self.mtp = head.transpose()?.map(Box::new);
        config.has_multi_token_head = true;
        Ok(())
    }

    fn load_config(
        dir: &Path,
        mut config: TextConfig,
        dtype: Dtype,
        observe: &mut dyn FnMut(usize, usize),
    ) -> Result<(Self, TextConfig, Findings), LoadError> {
        let checkpoint = Checkpoint::open(dir)?;
        let own_head = correct(&mut config, &checkpoint)?;
        let mut planned = Model::planned(&config, dtype);
        let quantization = Quantization::load(dir)?;
        checkpoint.plan_codes(&mut planned, quantization.as_ref())?;
        let parameters = Plan::all(&planned);
        let count = parameters.len();
        let plan = LoadPlan::new(&checkpoint, parameters)?;
        let mut fingerprint = Checksum::default();
        fingerprint.add_bytes(format!("{config:?}").as_bytes());
        if let Some(quantization) = &quantization {
            fingerprint.add_bytes(format!("{quantization:?}").as_bytes());
        }
        let mut read = 0;
        let mut norms = Checksum::default();
        let model = loaded(&planned, "", &mut |name, planned| {
            let tensor = plan.read(name)?;
            let is_of_text = !["visual.", "mtp."].iter().any(|part| name.starts_with(part));
            if is_of_text && name.ends_with("norm.weight") {
                let rounded = to_mlx(planned, tensor.clone()).cast(safetensors::Dtype::BF16);
                norms.add_bytes(name.as_bytes());
                norms.add_bytes(rounded.as_ref().map_or(&[], |rounded| &rounded.bytes));
            }
            fingerprint.add_bytes(name.as_bytes());
            fingerprint.add_bytes(&tensor.bytes);
            read += 1;
            observe(read, count);
            Ok(tensor)
        })?;
        Ok((model, config, Findings { skipped: plan.skipped(), own_head, fingerprint, norms }))
    }

    /// The model of `config` whose parameters `source` gives by name, in the shapes of their plans. They are read one at a
    /// time, so that at most one tensor is in memory twice: as a file's bytes and on the device.
    ///
    /// # Errors
    /// What `source` returns, and what the device says.
    pub fn from_source(
        config: &TextConfig,
        dtype: Dtype,
        source: &mut dyn FnMut(&str, &Plan) -> Result<HostTensor, CheckpointError>,
    ) -> Result<Self, LoadError> {
        loaded(&Model::planned(config, dtype), "", source)
    }
}

/// Takes from a configuration what the checkpoint does not have, and returns whether it has a head of its own although the
/// configuration ties it to the embedding.
pub(crate) fn correct(config: &mut TextConfig, checkpoint: &Checkpoint) -> Result<bool, CheckpointError> {
    // Exports of the text model alone sometimes keep the description of the tower.
    let has_tower = || checkpoint.names().any(|name| matches!(classify(name), TensorRole::Vision(_)));
    config.vision = config.vision.take().filter(|_| has_tower());
    let own_head = config.tie_word_embeddings && checkpoint.has_head_of_its_own()?;
    config.tie_word_embeddings &= !own_head;
    Ok(own_head)
}

/// The tree of plans `planned`, whose names begin with `prefix`, with the parameters that `source` gives.
fn loaded<P: Parameters<Mode = Planned>>(
    planned: &P,
    prefix: &str,
    source: &mut dyn FnMut(&str, &Plan) -> Result<HostTensor, CheckpointError>,
) -> Result<P::In<Stored>, LoadError> {
    let mut failure = None;
    let tree = planned.map(&mut parameters::Path::new(prefix), &mut |path, leaf| {
        let plan = leaf.tensor.plan();
        source(path.as_str(), plan).map_err(LoadError::from).and_then(|host| held(path, &host, plan)).map_err(|error| {
            let message = error.to_string();
            failure = Some(error);
            cotangent::Error::Other(message)
        })
    });
    tree.map_err(|source| failure.unwrap_or(LoadError::Device { name: "of the model".into(), source }))
}

/// A tensor of a file, on the device, in the dtype of its plan.
fn held(path: &parameters::Path, host: &HostTensor, plan: &Plan) -> Result<Tensor<Stored>, LoadError> {
    let device = |source| LoadError::Device { name: path.to_string(), source };
    let tensor = from_host(host).map_err(device)?;
    if tensor.dtype() == plan.dtype { Ok(tensor) } else { tensor.cast(plan.dtype).map_err(device) }
}

//! A checkpoint folder, loaded whole: weights, configuration, tokenizer and chat template that fit together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cotangent::random::Key;
use cotangent::{Backend, Dtype, Parameters as _, Plan, Session, Stored, Tensor, parameters};
use cotangent_models::checkpoint::{CheckpointError, HostTensor, checkpoint_folder};
use cotangent_models::config::TextConfig;
use cotangent_models::quoting::quoted_path;
use cotangent_models::qwen35::{Findings, LoadError, LoraOptions, LoraTargets, Model};
use cotangent_models::transfer::from_host;

use crate::adapter::{Adapter, AdapterConfig, AdapterError, AdapterFile, Parts};
use crate::data::{ChatFormat, DataError, VisionFormat};

/// A model and what belongs to it.
pub struct BaseModel {
    /// The folder that holds the files.
    pub dir: PathBuf,
    /// The weights.
    pub model: Model<Stored>,
    /// The sizes of the model.
    pub config: TextConfig,
    /// The chat format of the model.
    pub format: ChatFormat,
    /// The dtype in which the weights are held and computed.
    pub dtype: Dtype,
    /// The other facts that were found in the checkpoint.
    pub findings: Findings,
}

/// The reason why a checkpoint folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BaseModelError {
    /// The weights or the configuration are at fault.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The checkpoint folder is at fault.
    #[error(transparent)]
    Folder(#[from] CheckpointError),
    /// The tokenizer or the chat template is at fault.
    #[error(transparent)]
    Format(#[from] DataError),
    /// An adapter is at fault.
    #[error(transparent)]
    Adapter(#[from] AdapterError),
    /// An adapter is sound, but not one for this model or this run.
    #[error("`{file}`: {reason}", file = quoted_path(file))]
    AdapterDoesNotFit {
        /// The adapter's weights.
        file: PathBuf,
        /// The message: what was found, what was expected, and the remedy.
        reason: String,
    },
    /// The tokenizer and the model do not fit each other.
    #[error(
        "`{file}`: found the token {largest}, expected less than {vocab_size}, the `vocab_size` of `config.json`\n\
         help: take both files from the same model",
        file = quoted_path(file)
    )]
    Vocabulary {
        /// The tokenizer's file.
        file: PathBuf,
        /// The tokenizer's largest token.
        largest: u32,
        /// The rows of the embedding.
        vocab_size: usize,
    },
}

impl BaseModel {
    /// Loads the checkpoint folder `dir`, or the newest snapshot in it where it is a model of Hugging Face's cache: in
    /// float32 on CPUs, which compute in nothing shorter, else in bfloat16. `observe` gets the number of parameters read
    /// and that of all after each.
    ///
    /// # Errors
    /// If a file is absent or damaged, or they do not fit each other.
    pub fn load(session: &Session, dir: &Path, observe: &mut dyn FnMut(usize, usize)) -> Result<Self, BaseModelError> {
        let dtype = compute_dtype(session);
        // Small files come first, so that their faults are not reported after minutes of reading weights.
        let (dir, _, format) = load_format(dir)?;
        let (model, config, findings) = Model::load_observed(&dir, dtype, observe)?;
        Ok(BaseModel { dir, model, config, format, dtype, findings })
    }

    /// Adds adapters to train, and returns the configuration to save with them.
    ///
    /// # Errors
    /// If a target matches no linear layer.
    pub fn add_adapters(&mut self, options: &LoraOptions, seed: u64) -> cotangent::Result<AdapterConfig> {
        self.model.add_adapters(options, &Key::new(seed)?)?;
        let adapters = self.model.adapters();
        let rank = options.rank.unsigned_abs() as usize;
        // The number is converted by its decimal digits, because 0.1 must not become 0.10000000149.
        let scale = options.scale.to_string().parse().unwrap_or(f64::from(options.scale));
        let mut config = AdapterConfig::from_tensors(adapters.keys().map(String::as_str), rank, scale);
        config.num_layers = options.last_layers;
        config.base_norms = Some(self.findings.norms.to_string());
        Ok(config)
    }

    /// Replaces the values of the adapters by those that were read from a file.
    ///
    /// # Errors
    /// If these have another rank or are on other layers.
    pub fn set_adapters(&mut self, from: &AdapterFile) -> Result<(), BaseModelError> {
        let fail = |reason: String| BaseModelError::AdapterDoesNotFit { file: from.file.clone(), reason };
        let tensors = device_tensors(&from.tensors).map_err(|error| fail(error.to_string()))?;
        let expected = self.model.adapters();
        let of_head: Vec<&str> = from.head().collect();
        let is_known = |name: &str| expected.contains_key(name) || of_head.contains(&name);
        if let Some(name) = tensors.keys().find(|name| !is_known(name)) {
            return Err(fail(format!(
                "tensor `{name}` is on a layer that is not adapted\nhelp: leave out `--target` and `--num-layers`, or name \
                 its layer too"
            )));
        }
        self.model.set_adapters(&tensors).map_err(|error| fail(error.to_string()))
    }

    /// Returns the properties of model and adapters that must not change if a run goes on where another stopped, by the
    /// names of the command's options.
    pub fn identity(&self, adapters: &AdapterConfig) -> BTreeMap<String, String> {
        let names = self.model.adapters();
        // Blocks of a list with the same module share an entry: `attn.qkv of visual.blocks 0 1`.
        let mut targets: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
        for name in names.keys().filter_map(|name| name.strip_suffix(".lora_a")) {
            let (list, index, module) = split_at_block(name).unwrap_or((name, "", ""));
            targets.entry((list, module)).or_default().push(index);
        }
        let described = |((list, module), blocks): (&(&str, &str), &Vec<&str>)| match *module {
            "" => (*list).to_owned(),
            module => format!("{module} of {list} {}", blocks.join(" ")),
        };
        let targets: Vec<String> = targets.iter().map(described).collect();
        [
            ("--rank", adapters.rank.to_string()),
            ("--scale", adapters.scale.to_string()),
            ("--target or --num-layers", targets.join(", ")),
            ("--model (the checksum of its weights)", self.findings.fingerprint.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// Returns the number of elements of the model's parameters, without adapters. A code of a quantized matrix counts
    /// as one.
    pub fn size(&self) -> usize {
        Plan::all(&Model::planned(&self.config, self.dtype)).iter().map(|(_, plan)| plan.size()).sum()
    }

    /// The first parameter that holds a number that is not finite, by name.
    ///
    /// # Errors
    /// If values cannot be read.
    pub fn first_not_finite(&self) -> cotangent::Result<Option<String>> {
        let (mut found, mut failed) = (None, None);
        self.model.leaves(&mut parameters::Path::root(), &mut |path, parameters::Leaf { tensor, .. }| {
            if found.is_some() || failed.is_some() || !tensor.dtype().is_float() {
                return;
            }
            match tensor.cast(Dtype::F32).and_then(|tensor| tensor.to_vec::<f32>()) {
                Ok(values) if values.iter().all(|value| value.is_finite()) => {}
                Ok(_) => found = Some(path.to_string()),
                Err(error) => failed = Some(error),
            }
        });
        failed.map_or(Ok(found), Err)
    }

    /// Loads the head of multi-token prediction to train whole: in float32, as small steps are lost in 16 bits.
    ///
    /// # Errors
    /// If the checkpoint has none, or it is damaged.
    pub fn load_multi_token_head_to_train(&mut self) -> Result<(), BaseModelError> {
        let BaseModel { dir, model, config, findings, .. } = self;
        Ok(model.load_multi_token_head(dir, config, Dtype::F32, findings)?)
    }

    /// Loads what is `wanted` and not there: the vision tower for pictures or for adapters of it, the head of multi-token
    /// prediction to train it or for adapters of it.
    ///
    /// # Errors
    /// If the checkpoint has none, or it is damaged.
    pub fn load_parts(&mut self, wanted: Parts) -> Result<(), BaseModelError> {
        let BaseModel { dir, model, config, dtype, findings, .. } = self;
        Ok(load_parts(model, config, findings, *dtype, dir, wanted)?)
    }

    /// Returns how the model reads pictures, if its tower is loaded.
    pub fn vision(&self) -> Option<&VisionFormat> {
        self.model.visual.as_ref().and_then(|_| self.format.vision().ok())
    }

    /// Adds the adapter of folder `dir`, as it was saved, and returns its configuration.
    ///
    /// # Errors
    /// If a file is absent or damaged, or the adapter is one of another model.
    pub fn attach(&mut self, dir: &Path) -> Result<AdapterConfig, BaseModelError> {
        let adapter = Adapter::load(dir)?;
        self.load_parts(adapter.parts())?;
        attach(&mut self.model, &self.config, &adapter)?;
        Ok(adapter.config)
    }
}

/// Loads parts as [`BaseModel::load_parts`] does, for a model without a tokenizer.
///
/// # Errors
/// As [`BaseModel::load_parts`].
pub fn load_parts(
    model: &mut Model<Stored>,
    config: &mut TextConfig,
    findings: &mut Findings,
    dtype: Dtype,
    dir: &Path,
    wanted: Parts,
) -> Result<(), LoadError> {
    if wanted.tower && model.visual.is_none() {
        model.load_tower(dir, config, dtype, findings)?;
    }
    if wanted.multi_token_head && model.mtp.is_none() {
        model.load_multi_token_head(dir, config, dtype, findings)?;
    }
    Ok(())
}

/// `visual.blocks.0.attn.qkv` as `visual.blocks`, `0` and `attn.qkv`.
fn split_at_block(name: &str) -> Option<(&str, &str, &str)> {
    let index = name.split('.').find(|segment| segment.bytes().all(|byte| byte.is_ascii_digit()))?;
    let (list, module) = name.split_once(&format!(".{index}."))?;
    Some((list, index, module))
}

/// Loads all of the checkpoint folder `dir` but its weights: the folder, or the newest snapshot in it; the sizes of the
/// model; how it writes conversations.
///
/// # Errors
/// If a file is absent or damaged, or they do not fit each other.
pub fn load_format(dir: &Path) -> Result<(PathBuf, TextConfig, ChatFormat), BaseModelError> {
    let dir = checkpoint_folder(dir)?;
    let config = TextConfig::load(&dir).map_err(LoadError::from)?;
    let format = ChatFormat::load(&dir)?;
    let largest = format.tokenizer().largest_id();
    if largest as usize >= config.vocab_size {
        let file = format.tokenizer().file().to_owned();
        return Err(BaseModelError::Vocabulary { file, largest, vocab_size: config.vocab_size });
    }
    Ok((dir, config, format))
}

/// Returns the dtype in which weights are held and computed: float32 on CPUs, which compute in nothing shorter, else
/// bfloat16.
pub fn compute_dtype(session: &Session) -> Dtype {
    match session.backend() {
        Backend::Cpu | Backend::Emulated => Dtype::F32,
        Backend::Metal | Backend::Cuda => Dtype::BF16,
    }
}

/// Adds an adapter to a model in which every part that it adapts is loaded.
///
/// # Errors
/// If it is one of another model.
pub fn attach(model: &mut Model<Stored>, config: &TextConfig, adapter: &Adapter) -> Result<(), BaseModelError> {
    adapter.check_fits(config)?;
    let options = LoraOptions {
        rank: adapter.config.rank as i32,
        scale: adapter.config.scale as f32,
        targets: LoraTargets::Patterns(adapter.layers()),
        last_layers: None,
    };
    let add = |model: &mut Model<Stored>| {
        model.add_adapters(&options, &Key::new(0)?)?;
        model.set_adapters(&device_tensors(&adapter.tensors)?)
    };
    add(model)
        .map_err(|error| BaseModelError::AdapterDoesNotFit { file: adapter.file.clone(), reason: error.to_string() })
}

fn device_tensors(host: &BTreeMap<String, HostTensor>) -> cotangent::Result<BTreeMap<String, Tensor<Stored>>> {
    host.iter().map(|(name, tensor)| Ok((name.clone(), from_host(tensor)?))).collect()
}

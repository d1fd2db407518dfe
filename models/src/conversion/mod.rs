//! Quantized checkpoints in the layout of mlx-lm and mlx-vlm, from checkpoints in floats.
//!
//! Names, layout, rounding, codes, scales and biases are those that their converters write (mlx-lm 0.32.2). The tower
//! of a vision-language model stays in floats, as in mlx-vlm; mlx-lm skips it. The head of multi-token prediction stays
//! in floats too, in a file of its own that neither program reads, because codes would not train.

mod configuration;
mod files;
mod multi_token;
mod scheme;

use std::collections::BTreeMap;
use std::path::Path;

use cotangent::{CodeFormat, Dtype, Parameters as _, Plan, Planned, parameters};
use serde_json::{Map, Value};

pub use scheme::{Recipe, Scheme};

use crate::checkpoint::{
    Checkpoint, CheckpointError, Dtype as HostDtype, HostTensor, LoadPlan, MULTI_TOKEN_FILE, ShardWriter, TensorPlan,
    mlx_shape, name_in_mlx, to_mlx, write_atomically, write_folder_atomically,
};
use crate::config::{Quantization, TextConfig, read_json};
use crate::qwen35::{LoadError, Model, correct};
use crate::transfer::{from_host, to_host};
use crate::weight::Weight;

use configuration::Changes;
use multi_token::Head;

/// The most bytes of tensors in a file, as mlx-lm's converter takes.
const SHARD_BYTES: u64 = 5 << 30;

/// The counts and bytes of what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Converted {
    /// Matrices of codes.
    pub quantized: usize,
    /// Matrices of the text model that stay in floats: their columns are no multiple of a group.
    pub dense: usize,
    /// Safetensors files.
    pub files: usize,
    /// Bytes of all tensors.
    pub bytes: u64,
    /// Whether there is a head of multi-token prediction, in [`MULTI_TOKEN_FILE`].
    pub multi_token_head: bool,
}

/// Writes the checkpoint in the folder `source` to the new folder `target`, its matrices quantized by `scheme`. One
/// tensor at a time is in memory. `go_on` gets the number of parameters written and the number of all, and returns
/// whether to go on. If it says no, `None` is returned and no file is left.
///
/// # Errors
/// If the checkpoint cannot be loaded as a model, is quantized already, or `target` is there or cannot be written.
pub fn convert(
    source: &Path,
    target: &Path,
    scheme: &Scheme,
    go_on: &mut dyn FnMut(usize, usize) -> bool,
) -> Result<Option<Converted>, LoadError> {
    let file = source.join("config.json");
    let mut config = TextConfig::load_with_vision(source)?;
    if Quantization::load(source)?.is_some() {
        let reason = "says that the model is quantized already\nhelp: give the original checkpoint, in floats".into();
        return Err(CheckpointError::Damaged { file, reason }.into());
    }
    let mut checkpoint = Checkpoint::open(source)?;
    let place = checkpoint.find_multi_token_head()?;
    correct(&mut config, &checkpoint)?;
    let mut model = Model::planned(&config, Dtype::F32);
    let parameters = Plan::all(&model);
    let load = LoadPlan::new(&checkpoint, parameters.clone())?;
    let head = place.as_ref().map(|place| Head::new(&checkpoint, place, load.layout())).transpose()?;
    let json = match read_json(&file)? {
        Value::Object(json) => json,
        _ => Map::new(),
    };
    let is_nested = json.get("model_type").and_then(Value::as_str) != Some("qwen3");
    let matrices = Matrices::plan(&mut model, scheme, config.layers.len())?;
    let dtypes = Dtypes { load: &load, model: dtype_of_model(&json) };
    let tensors = Plan::all(&model).into_iter().map(|(name, plan)| TensorPlan {
        dtype: dtypes.of(&name, &plan),
        shape: mlx_shape(&plan),
        name: name_in_mlx(&name, is_nested),
    });
    let tensors = tensors.collect();
    let named = matrices.codes.iter().filter(|(name, _)| scheme.names(name));
    let named = named.chain(head.iter().flat_map(|head| &head.codes));
    let changes = Changes {
        scheme,
        codes: &named.map(|(name, format)| (name_of_module(name, is_nested), *format)).collect(),
        has_vision: config.vision.is_some(),
        is_tied: config.tie_word_embeddings,
    };
    let configuration = configuration::converted(json, &changes);

    write_folder_atomically(target, |dir| {
        let mut writer = ShardWriter::create(dir, tensors, SHARD_BYTES)?;
        let total = parameters.len() + head.as_ref().map_or(0, |head| head.plans().count());
        for (index, (name, plan)) in parameters.iter().enumerate() {
            if !go_on(index, total) {
                return Ok(None);
            }
            // MLX adds 1 to the scale of a norm in the dtype in which it is stored.
            let tensor = to_mlx(plan, load.read(name)?).cast(load.stored_dtype(name).unwrap_or(HostDtype::F32));
            let tensor = tensor.and_then(|tensor| tensor.cast(dtypes.of(name, plan))).ok_or_else(|| {
                let reason = "holds no floats".into();
                CheckpointError::Tensor { file: source.to_owned(), tensor: name.clone(), reason }
            })?;
            match name.strip_suffix(".weight").and_then(|module| Some((module, matrices.codes.get(module)?))) {
                Some((module, format)) => {
                    for (part, tensor) in codes(name, &tensor, *format)? {
                        writer.write(&name_in_mlx(&format!("{module}.{part}"), is_nested), &tensor)?;
                    }
                }
                None => writer.write(&name_in_mlx(name, is_nested), &tensor)?,
            }
        }
        let (mut files, mut bytes) = writer.size();
        writer.finish(parameters.iter().map(|(_, plan)| plan.size()).sum())?;
        if let Some(head) = &head {
            let mut writer = ShardWriter::beside(dir, MULTI_TOKEN_FILE, head.plans().collect())?;
            for (index, read) in head.tensors().enumerate() {
                if !go_on(parameters.len() + index, total) {
                    return Ok(None);
                }
                let (name, tensor) = read?;
                writer.write(name, &tensor)?;
            }
            (files, bytes) = (files + 1, bytes + writer.size().1);
            writer.finish(0)?;
        }
        write_atomically(&dir.join("config.json"), |file| write!(file, "{configuration:#}"))?;
        files::copy(source, dir)?;
        let (quantized, dense) = (matrices.codes.len(), matrices.dense);
        Ok(Some(Converted { quantized, dense, files, bytes, multi_token_head: head.is_some() }))
    })
}

/// The matrices of a text model.
struct Matrices {
    /// The matrices that become codes, by the canonical name of the module.
    codes: BTreeMap<String, CodeFormat>,
    /// The number of all other matrices.
    dense: usize,
}

impl Matrices {
    /// Plans as codes the matrices of `model` that `scheme` quantizes.
    fn plan(model: &mut Model<Planned>, scheme: &Scheme, layers: usize) -> Result<Self, LoadError> {
        let (mut matrices, mut failure) = (Matrices { codes: BTreeMap::new(), dense: 0 }, None);
        model.nodes(&mut parameters::Path::root(), &mut |path, node| {
            let name = path.as_str();
            let Some(weight) = node.downcast_mut::<Weight<Planned>>() else { return };
            let Weight::Dense(dense) = &*weight else { return };
            if name.starts_with("visual.") {
                return;
            }
            let columns = dense.weight.plan().shape.last().copied().unwrap_or_default();
            match scheme.format_of(name, columns, layers) {
                Ok(Some(format)) => {
                    *weight = weight.quantized(format);
                    matrices.codes.insert(name.to_owned(), format);
                }
                Ok(None) => matrices.dense += 1,
                Err(source) => failure = Some(LoadError::Device { name: name.to_owned(), source }),
            }
        });
        failure.map_or(Ok(matrices), Err)
    }
}

/// The dtypes in which the tensors of a converted checkpoint are stored.
struct Dtypes<'a> {
    load: &'a LoadPlan<'a>,
    /// The dtype that the configuration gives the whole model.
    model: Option<HostDtype>,
}

impl Dtypes<'_> {
    /// Returns the dtype of the tensor `name`. Codes and their scales keep the dtypes of their format, and `A_log`
    /// keeps its stored dtype. All others take the dtype of the configuration, or else their stored one; scales and
    /// biases follow their matrix.
    fn of(&self, name: &str, plan: &Plan) -> HostDtype {
        match plan.dtype {
            Dtype::U32 => return HostDtype::U32,
            Dtype::U8 => return HostDtype::U8,
            _ => {}
        }
        let stored = || {
            let module = name.rsplit_once('.').map_or(name, |(module, _)| module);
            self.load.stored_dtype(name).or_else(|| self.load.stored_dtype(&format!("{module}.weight")))
        };
        let of_model = self.model.filter(|_| !name.ends_with("A_log"));
        of_model.or_else(stored).unwrap_or(HostDtype::F32)
    }
}

/// `dtype` of a configuration, where MLX's converters look for it and where transformers writes it since.
fn dtype_of_model(json: &Map<String, Value>) -> Option<HostDtype> {
    let text = json.get("text_config").and_then(Value::as_object);
    let places = [Some(json), text].into_iter().flatten();
    let mut named = places.flat_map(|place| ["torch_dtype", "dtype"].map(|key| place.get(key).and_then(Value::as_str)));
    match named.find_map(|name| name)? {
        "float32" => Some(HostDtype::F32),
        "bfloat16" => Some(HostDtype::BF16),
        "float16" => Some(HostDtype::F16),
        _ => None,
    }
}

/// Returns the name that MLX's converters give a module.
fn name_of_module(module: &str, is_nested: bool) -> String {
    let name = name_in_mlx(&format!("{module}.weight"), is_nested);
    name.strip_suffix(".weight").unwrap_or(&name).to_owned()
}

/// The parts of a matrix in codes, by their names.
fn codes(name: &str, matrix: &HostTensor, format: CodeFormat) -> Result<Vec<(&'static str, HostTensor)>, LoadError> {
    let quantized = || {
        let parts = from_host(matrix)?.quantize(format)?;
        parts.iter().map(to_host).collect::<cotangent::Result<Vec<_>>>()
    };
    let parts = quantized().map_err(|source| LoadError::Device { name: name.to_owned(), source })?;
    Ok(["weight", "scales", "biases"].into_iter().zip(parts).collect())
}

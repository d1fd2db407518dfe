//! The tensors of an adapter, under the names that different programs give them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use cotangent_models::checkpoint::{
    CheckpointError, Dtype, HostTensor, SafetensorsFile, TensorRole, classify, name_in_mlx, write_safetensors,
};

use super::peft_experts::Wrappers;
use super::{AdapterConfig, AdapterError};

/// The beginning of the model's names of the vision tower.
const TOWER: &str = "visual.";

/// The beginning of the model's names of the head of multi-token prediction.
pub(super) const MULTI_TOKEN: &str = "mtp.";

/// The head, which is in no layer.
const HEAD: &str = "lm_head";

/// Returns the file beside `file` for the tensors of a head of multi-token prediction. They have their own, because mlx-lm and mlx-vlm
/// refuse a file with tensors of modules that they do not have.
pub(crate) fn head_file(file: &Path) -> PathBuf {
    file.with_extension("mtp.safetensors")
}

/// Writes the tensors of an adapter, by the model's names, to the safetensors `file`. Those of a head of multi-token prediction go
/// to another file beside it, which is removed if there are none: its adapters, or all of the head as Hugging Face's checkpoints
/// have it. Each file is replaced atomically.
///
/// # Errors
/// If a name is not an adapter's, or a file cannot be written.
pub fn write_tensors(file: &Path, tensors: &BTreeMap<String, HostTensor>) -> Result<(), AdapterError> {
    let (mut of_head, mut others) = (BTreeMap::new(), BTreeMap::new());
    for (name, tensor) in tensors {
        let is_adapter = split_name(name).is_some();
        if name.starts_with(MULTI_TOKEN) {
            of_head.insert(name_in_mlx(name, is_adapter), tensor.clone());
        } else if is_adapter {
            others.insert(stored_name(name), tensor.clone());
        } else {
            return Err(tensor_error(file, name, "is no tensor of an adapter".into()));
        }
    }
    let head = head_file(file);
    if !of_head.is_empty() {
        write_safetensors(&head, &of_head, &BTreeMap::new())?;
    }
    write_safetensors(file, &others, &BTreeMap::new())?;
    if of_head.is_empty()
        && let Err(source) = fs::remove_file(&head)
        && source.kind() != io::ErrorKind::NotFound
    {
        return Err(CheckpointError::Io { file: head, source }.into());
    }
    Ok(())
}

/// Reads the tensors of an adapter from the safetensors `file` and from that of the head of multi-token prediction beside it, by
/// the model's names and in mlx-lm's layout. PEFT's names and layout (`base_model.model.{path}.lora_A.weight`, `[rank, inputs]`)
/// are read too, and with the configuration `config` PEFT's adapters of stacked experts. If one of these cannot be split into an adapter
/// of gate and one of up, and has twice the rank, all adapters get that rank.
///
/// # Errors
/// If a file is absent or damaged, holds a tensor that is not an adapter's, or half of a pair.
pub fn load_tensors(file: &Path, config: Option<&AdapterConfig>) -> Result<BTreeMap<String, HostTensor>, AdapterError> {
    let mut tensors = BTreeMap::new();
    let mut wrappers = Wrappers::default();
    read_into(&mut tensors, &mut wrappers, file)?;
    let head = head_file(file);
    if head.exists() {
        let mut of_head = BTreeMap::new();
        read_into(&mut of_head, &mut wrappers, &head)?;
        if let Some(name) = of_head.keys().find(|name| !name.starts_with(MULTI_TOKEN)) {
            return Err(tensor_error(&head, name, "is not of the head of multi-token prediction".into()));
        }
        check_pairs(&head, &of_head)?;
        tensors.append(&mut of_head);
    }
    let (rank, stacked) = config.map(|config| (config.rank, config.stacked.clone())).unwrap_or_default();
    for (name, tensor) in wrappers.split(rank, &stacked).map_err(|(name, reason)| tensor_error(file, &name, reason))? {
        if tensors.insert(name.clone(), tensor).is_some() {
            return Err(tensor_error(file, &name, "is there twice, by itself and in a stack".into()));
        }
    }
    if stacked.gate_up_is_doubled {
        pad(&mut tensors);
    }
    if tensors.is_empty() {
        let reason = "holds no tensors, expected those of an adapter".into();
        return Err(CheckpointError::Damaged { file: file.to_owned(), reason }.into());
    }
    check_pairs(file, &tensors)?;
    Ok(tensors)
}

/// Gives all adapters the largest rank among them: zeros add nothing.
fn pad(tensors: &mut BTreeMap<String, HostTensor>) {
    let is_factor = |name: &str| split_name(name).is_some();
    let ranks = tensors.iter().filter(|(name, _)| is_factor(name)).map(|(name, tensor)| rank(name, tensor));
    let Some(largest) = ranks.max() else { return };
    for (name, tensor) in tensors.iter_mut().filter(|(name, _)| is_factor(name)) {
        let (axis, own) = (rank_axis(name), rank(name, tensor));
        let run = tensor.bytes.len() / tensor.shape[..axis].iter().product::<usize>();
        let zeros = vec![0; run / own * (largest - own)];
        tensor.bytes = tensor.bytes.chunks(run).flat_map(|run| run.iter().chain(&zeros)).copied().collect();
        tensor.shape[axis] = largest;
    }
}

/// Reads the tensors of one file into `tensors`, those of stacked experts into `wrappers`.
fn read_into(
    tensors: &mut BTreeMap<String, HostTensor>,
    wrappers: &mut Wrappers,
    file: &Path,
) -> Result<(), AdapterError> {
    let weights = SafetensorsFile::open(file)?;
    for stored in weights.names() {
        let fail = |reason: String| Err(tensor_error(file, stored, reason));
        let (name, layout) = match canonical_name(stored) {
            Ok(found) => found,
            Err(reason) => return fail(reason),
        };
        let tensor = weights.read(stored)?;
        if !matches!(tensor.dtype, Dtype::F32 | Dtype::BF16 | Dtype::F16) {
            return fail(format!("has dtype {}, expected F32, BF16 or F16", tensor.dtype));
        }
        let tensor = match layout {
            FactorLayout::Peft => wrappers.take(&name, tensor),
            FactorLayout::Mlx => Some(tensor),
        };
        let Some(tensor) = tensor else { continue };
        let (axes, expected) = match is_of_experts(&name) {
            true => (3, "[experts, rank, inputs] or [experts, outputs, rank]"),
            false => (2, "[inputs, rank] or [rank, outputs]"),
        };
        if split_name(&name).is_some() && (tensor.shape.len() != axes || tensor.shape.contains(&0)) {
            return fail(format!("has shape {:?}, expected {expected}", tensor.shape));
        }
        let tensor = if layout == FactorLayout::Peft { transposed(&tensor) } else { tensor };
        if tensors.insert(name.clone(), tensor).is_some() {
            return fail(format!("is the same as another tensor, `{name}`"));
        }
    }
    Ok(())
}

/// The rank that all adapters in `tensors` have, which are read from `file`; `None` if there are none.
///
/// # Errors
/// If two differ: one number describes the adapter.
pub(super) fn common_rank(file: &Path, tensors: &BTreeMap<String, HostTensor>) -> Result<Option<usize>, AdapterError> {
    let mut ranks = tensors.iter().filter(|(name, _)| name.ends_with(".lora_a")).map(|(name, a)| (name, rank(name, a)));
    let Some((first, first_rank)) = ranks.next() else { return Ok(None) };
    match ranks.find(|(_, other)| *other != first_rank) {
        Some((name, other)) => {
            let reason =
                format!("has rank {other}, but `{first}` has {first_rank}: one rank for all is supported only");
            Err(tensor_error(file, name, reason))
        }
        None => Ok(Some(first_rank)),
    }
}

fn check_pairs(file: &Path, tensors: &BTreeMap<String, HostTensor>) -> Result<(), AdapterError> {
    for (name, tensor) in tensors.iter().filter(|(name, _)| split_name(name).is_some()) {
        let other = match name.strip_suffix("lora_a") {
            Some(module) => format!("{module}lora_b"),
            None => format!("{}lora_a", name.trim_end_matches("lora_b")),
        };
        let Some(other_tensor) = tensors.get(&other) else {
            return Err(tensor_error(file, name, format!("is there without `{other}`")));
        };
        let experts = |tensor: &HostTensor| is_of_experts(name).then(|| tensor.shape[0]);
        if rank(name, tensor) != rank(&other, other_tensor) || experts(tensor) != experts(other_tensor) {
            let reason =
                format!("has shape {:?}, which does not go with {:?} of `{other}`", tensor.shape, other_tensor.shape);
            return Err(tensor_error(file, name, reason));
        }
    }
    Ok(())
}

/// Returns whether the tensor of this name has an axis of experts.
fn is_of_experts(name: &str) -> bool {
    name.contains(".mlp.experts.")
}

/// The inner dimension of the factor of this name.
pub(super) fn rank(name: &str, tensor: &HostTensor) -> usize {
    tensor.shape[rank_axis(name)]
}

/// Returns the axis of the inner dimension: the second of `lora_a`; of `lora_b` the first, or the last if each expert has its own.
fn rank_axis(name: &str) -> usize {
    match (name.ends_with("lora_a"), is_of_experts(name)) {
        (true, _) => 1,
        (false, true) => 2,
        (false, false) => 0,
    }
}

/// The way in which the two factors are stored, in all layers but those of experts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FactorLayout {
    /// `lora_a` is `[inputs, rank]`, `lora_b` is `[rank, outputs]`.
    Mlx,
    /// `lora_A` is `[rank, inputs]`, `lora_B` is `[outputs, rank]`.
    Peft,
}

/// The model's name of a stored tensor, and its layout; or what is wrong with it.
fn canonical_name(stored: &str) -> Result<(String, FactorLayout), String> {
    let peft = stored
        .strip_prefix("base_model.model.")
        .and_then(|name| name.strip_suffix(".weight"))
        .and_then(|name| name.rsplit_once('.'));
    let (name, layout) = match peft {
        Some((module, "lora_A")) => (format!("{module}.lora_a"), FactorLayout::Peft),
        Some((module, "lora_B")) => (format!("{module}.lora_b"), FactorLayout::Peft),
        _ => (stored.to_owned(), FactorLayout::Mlx),
    };
    match classify(&name) {
        TensorRole::Parameter(name) | TensorRole::Vision(name) | TensorRole::MultiTokenPrediction(name)
            if split_name(&name).is_some() =>
        {
            Ok((name, layout))
        }
        TensorRole::MultiTokenPrediction(name) if layout == FactorLayout::Mlx => Ok((name, layout)),
        _ if stored.ends_with(".base_layer.weight") => {
            Err("is a parameter of the base model, which PEFT saves beside an adapter of \
             the head\nhelp: save it with `save_pretrained(.., save_embedding_layers=False)`"
                .into())
        }
        _ => Err("expected a name like `language_model.model.layers.0.mlp.up_proj.lora_a` or \
                  `base_model.model.model.layers.0.mlp.up_proj.lora_A.weight`"
            .into()),
    }
}

/// A matrix with its axes exchanged.
pub(super) fn transposed(matrix: &HostTensor) -> HostTensor {
    let (rows, columns) = (matrix.shape[0], matrix.shape[1]);
    let size = matrix.bytes.len() / (rows * columns);
    let element = |row: usize, column: usize| &matrix.bytes[(row * columns + column) * size..][..size];
    let bytes = (0..columns).flat_map(|column| (0..rows).flat_map(move |row| element(row, column))).copied().collect();
    HostTensor { dtype: matrix.dtype, shape: vec![columns, rows], bytes }
}

/// The parts of the name of an adapter's tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AdapterName<'a> {
    /// The layer of the text model; `None` in the vision tower, in the head and in that of multi-token prediction.
    pub(super) layer: Option<usize>,
    /// The module within the layer, or within the whole model.
    pub(super) module: &'a str,
    /// `lora_a` or `lora_b`.
    pub(super) factor: &'a str,
}

/// The parts of `layers.{i}.{module}.lora_a` or `.lora_b`; or of the head, or a name that begins with `visual.` or `mtp.`.
pub(super) fn split_name(name: &str) -> Option<AdapterName<'_>> {
    let (path, factor) = name.rsplit_once('.')?;
    let (layer, module) = match path.strip_prefix("layers.") {
        Some(rest) => {
            let (layer, module) = rest.split_once('.')?;
            (Some(layer.parse().ok().filter(|number: &usize| number.to_string() == layer)?), module)
        }
        None => {
            let is_adapted = path == HEAD || [TOWER, MULTI_TOKEN].iter().any(|part| path.starts_with(part));
            (None, is_adapted.then_some(path)?)
        }
    };
    (!module.is_empty() && matches!(factor, "lora_a" | "lora_b")).then_some(AdapterName { layer, module, factor })
}

/// A module or tensor of the model, as mlx-lm and mlx-vlm call it.
pub(super) fn stored_name(name: &str) -> String {
    name_in_mlx(name, true)
}

pub(super) fn tensor_error(file: &Path, tensor: &str, reason: String) -> AdapterError {
    CheckpointError::Tensor { file: file.to_owned(), tensor: tensor.to_owned(), reason }.into()
}

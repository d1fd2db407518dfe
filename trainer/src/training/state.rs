//! The state of a run in one file, so that it can go on as if it had never stopped.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cotangent::optimizer::{AdamW, AdamWOptions, Rule as _};
use cotangent::{Stored, Tensor};
use cotangent_models::checkpoint::{Checksum, Dtype as HostDtype, HostTensor, SafetensorsFile, write_safetensors};
use cotangent_models::quoting::quoted;
use cotangent_models::transfer::{from_host, to_host};

use super::{RoutingMeans, TrainingError};
use crate::loss_curve::LossCurve;

/// The file's name in the output folder.
pub const STATE_FILE: &str = "training_state.safetensors";

const FORMAT: &str = "cotangent training state 4";
const FORMAT_KEY: &str = "format";
const CHECKSUM_KEY: &str = "checksum";
const ITERATION_KEY: &str = "iteration";
const TRAINED_TOKENS_KEY: &str = "trained_tokens";
const VALIDATED_KEY: &str = "validated";
/// The sum of each loss, and over how many predictions.
const UNREPORTED_KEYS: [[&str; 2]; 2] =
    [["unreported_loss", "unreported_targets"], ["unreported_mtp_loss", "unreported_mtp_targets"]];
/// The sums over tokens of the routers' loss and of the share of each expert, and the number of tokens.
const ROUTING: &str = "unreported_routing";
const ROUTING_TOKENS_KEY: &str = "unreported_routing_tokens";
const CURVES: [&str; 2] = ["curve.training", "curve.validation"];
const OPTION_PREFIX: &str = "option.";
const ADAPTER_PREFIX: &str = "adapter.";
const OPTIMIZER_PREFIX: &str = "optimizer.";

const BEGIN_AGAIN: &str =
    "help: leave out `--resume`; `--resume-adapter-file` with `--overwrite` begins a new run with the adapter";

/// Everything that a run depends on apart from its options, its model and its data. The random key is the seed, and what
/// batch comes next follows from the iteration: neither has a state of its own.
#[derive(Debug)]
pub struct TrainingState {
    /// Iterations done.
    pub iteration: usize,
    /// Predictions that the loss has counted.
    pub trained_tokens: usize,
    /// The tensors of the adapters by name, and those of a head of multi-token prediction that trains whole.
    pub adapters: BTreeMap<String, Tensor<Stored>>,
    /// The optimizer's, as [`AdamW::state`] gives them.
    pub optimizer: BTreeMap<String, Tensor<Stored>>,
    /// Whether the validation that was due after the last iteration was made; a signal may have cut it short.
    pub validated: bool,
    /// The summed losses since the last report, and over how many predictions: of the next token, of the token after it.
    pub unreported: [(f64, usize); 2],
    /// The sums over tokens of what the routers did since then, and the number of these tokens.
    pub unreported_routing: (RoutingMeans, usize),
    /// The losses so far.
    pub curve: LossCurve,
}

impl TrainingState {
    /// Writes the state, atomically, with the `options` that must be the same when it is read.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn save(&self, file: &Path, options: &BTreeMap<String, String>) -> Result<(), TrainingError> {
        let mut tensors = BTreeMap::new();
        for (prefix, group) in [(ADAPTER_PREFIX, &self.adapters), (OPTIMIZER_PREFIX, &self.optimizer)] {
            for (name, tensor) in group {
                tensors.insert(format!("{prefix}{name}"), to_host(tensor)?);
            }
        }
        let mut insert = |name: &str, shape: Vec<usize>, values: &[f64]| {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            tensors.insert(name.to_owned(), HostTensor { dtype: HostDtype::F64, shape, bytes });
        };
        for (name, points) in CURVES.iter().zip(self.curve.points()) {
            let values: Vec<f64> = points.iter().flat_map(|(x, y)| [*x, *y]).collect();
            insert(name, vec![points.len(), 2], &values);
        }
        let (RoutingMeans { loss, shares }, of_tokens) = &self.unreported_routing;
        insert(ROUTING, vec![1 + shares.len()], &[&[*loss], shares.as_slice()].concat());
        let mut metadata: BTreeMap<String, String> =
            options.iter().map(|(name, value)| (format!("{OPTION_PREFIX}{name}"), value.clone())).collect();
        metadata.insert(FORMAT_KEY.into(), FORMAT.into());
        metadata.insert(ITERATION_KEY.into(), self.iteration.to_string());
        metadata.insert(TRAINED_TOKENS_KEY.into(), self.trained_tokens.to_string());
        metadata.insert(VALIDATED_KEY.into(), self.validated.to_string());
        metadata.insert(ROUTING_TOKENS_KEY.into(), of_tokens.to_string());
        for ([loss_key, targets_key], (sum, targets)) in UNREPORTED_KEYS.into_iter().zip(self.unreported) {
            // The bits are stored, because decimal digits would have to be exact.
            metadata.insert(loss_key.into(), sum.to_bits().to_string());
            metadata.insert(targets_key.into(), targets.to_string());
        }
        let checksum =
            tensors.iter().fold(checksum_of_metadata(&metadata), |sum, (name, tensor)| with_tensor(sum, name, tensor));
        metadata.insert(CHECKSUM_KEY.into(), checksum.to_string());
        Ok(write_safetensors(file, &tensors, &metadata)?)
    }

    /// Reads a state that was saved by a run of the same `options`.
    ///
    /// # Errors
    /// If the file is absent, damaged, or of a run of other options.
    pub fn load(file: &Path, options: &BTreeMap<String, String>) -> Result<Self, TrainingError> {
        let fail = |reason: String| TrainingError::State { file: file.to_owned(), reason };
        if !file.exists() {
            return Err(fail(
                "found no file, expected the state of a run to go on with\nhelp: leave out `--resume`".into(),
            ));
        }
        let opened = SafetensorsFile::open(file)?;
        let metadata = opened.metadata();
        if metadata.get(FORMAT_KEY).map(String::as_str) != Some(FORMAT) {
            return Err(fail(format!(
                "is no `{FORMAT}`, which this version of the program goes on with\n{BEGIN_AGAIN}"
            )));
        }
        let mut checksum = checksum_of_metadata(metadata);
        let mut tensors = Vec::new();
        for name in opened.names() {
            let tensor = opened.read(name)?;
            checksum = with_tensor(checksum, name, &tensor);
            tensors.push((name, tensor));
        }
        let (expected, found) = (metadata.get(CHECKSUM_KEY).map_or("none", String::as_str), checksum.to_string());
        if found != expected {
            return Err(fail(format!("is damaged: its checksum is {found}, expected {expected}\n{BEGIN_AGAIN}")));
        }
        let different: Vec<String> = options
            .iter()
            .filter_map(|(name, now)| {
                let before = metadata.get(&format!("{OPTION_PREFIX}{name}")).map_or("not set", String::as_str);
                (before != now).then(|| format!("{name} was {before} and is {now}"))
            })
            .collect();
        if !different.is_empty() {
            return Err(fail(format!(
                "belongs to another run: {}\nhelp: give the same model, options and data, or begin a new run with its \
                 adapter by `--resume-adapter-file`",
                different.join(", ")
            )));
        }
        let number = |key: &str| {
            let value = metadata.get(key).and_then(|value| value.parse::<u64>().ok());
            value.ok_or_else(|| fail(format!("its metadata has no number `{key}`\n{BEGIN_AGAIN}")))
        };
        let count = |key: &str| number(key).map(|number| number as usize);

        let (mut adapters, mut optimizer) = (BTreeMap::new(), BTreeMap::new());
        let mut curves = [Vec::new(), Vec::new()];
        let mut routing = RoutingMeans::default();
        for (name, tensor) in &tensors {
            if *name == ROUTING {
                let mut values = numbers(tensor).into_iter();
                routing = RoutingMeans { loss: values.next().unwrap_or_default(), shares: values.collect() };
                continue;
            }
            if let Some(which) = CURVES.iter().position(|curve| curve == name) {
                curves[which] = points(tensor);
                continue;
            }
            let (group, short) = if let Some(short) = name.strip_prefix(ADAPTER_PREFIX) {
                (&mut adapters, short)
            } else if let Some(short) = name.strip_prefix(OPTIMIZER_PREFIX) {
                (&mut optimizer, short)
            } else {
                return Err(fail(format!("tensor `{}` is no part of a state", quoted(name))));
            };
            let tensor = from_host(tensor).map_err(|error| fail(format!("tensor `{name}`: {error}")))?;
            group.insert(short.to_owned(), tensor);
        }
        let [training, validation] = curves;
        let unreported =
            |[loss, targets]: [&str; 2]| Ok::<_, TrainingError>((f64::from_bits(number(loss)?), count(targets)?));
        let [of_next, of_mtp] = UNREPORTED_KEYS;
        Ok(TrainingState {
            iteration: count(ITERATION_KEY)?,
            trained_tokens: count(TRAINED_TOKENS_KEY)?,
            adapters,
            optimizer,
            validated: metadata.get(VALIDATED_KEY).is_some_and(|validated| validated == "true"),
            unreported: [unreported(of_next)?, unreported(of_mtp)?],
            unreported_routing: (routing, count(ROUTING_TOKENS_KEY)?),
            curve: LossCurve::from_points(training, validation),
        })
    }

    /// The optimizer, as it was.
    ///
    /// # Errors
    /// If its state is incomplete, or does not fit the adapters.
    pub fn resume_optimizer(&self, options: AdamWOptions) -> cotangent::Result<AdamW> {
        for (name, moment) in &self.optimizer {
            let Some((parameter, _)) = name.rsplit_once('.').filter(|(_, kept)| options.state_names().contains(kept))
            else {
                continue;
            };
            let expected = self.adapters.get(parameter).map(Tensor::shape);
            if expected != Some(moment.shape()) {
                return Err(cotangent::Error::Parameter {
                    name: name.clone(),
                    message: format!("found shape {:?}, expected that of the adapter, {expected:?}", moment.shape()),
                });
            }
        }
        AdamW::resume(options, &self.optimizer)
    }
}

/// Returns the checksum of all entries but the one of the checksum itself.
fn checksum_of_metadata(metadata: &BTreeMap<String, String>) -> Checksum {
    let mut checksum = Checksum::default();
    for (key, value) in metadata.iter().filter(|(key, _)| *key != CHECKSUM_KEY) {
        checksum.add_bytes(key.as_bytes());
        checksum.add_bytes(value.as_bytes());
    }
    checksum
}

fn with_tensor(mut checksum: Checksum, name: &str, tensor: &HostTensor) -> Checksum {
    checksum.add_bytes(name.as_bytes());
    checksum.add_bytes(format!("{} {:?}", tensor.dtype, tensor.shape).as_bytes());
    checksum.add_bytes(&tensor.bytes);
    checksum
}

/// The pairs of a tensor of float64.
fn points(tensor: &HostTensor) -> Vec<(f64, f64)> {
    numbers(tensor).as_chunks::<2>().0.iter().map(|[x, y]| (*x, *y)).collect()
}

/// The elements of a tensor of float64.
fn numbers(tensor: &HostTensor) -> Vec<f64> {
    tensor.bytes.as_chunks::<8>().0.iter().copied().map(f64::from_le_bytes).collect()
}

/// The state's place in an output folder.
pub fn state_file(output: &Path) -> PathBuf {
    output.join(STATE_FILE)
}

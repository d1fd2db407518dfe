//! Saving a run and going on with it.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cotangent::{Session, Stored, Tensor};
use cotangent_trainer::adapter::{Adapter, AdapterConfig};
use cotangent_trainer::training::{
    Event, Outcome, Output, Trainer, TrainingOptions, TrainingState, check_folder, state_file,
};

use common::{adapted_model, counting, options};

const LENGTHS: [usize; 9] = [24, 12, 30, 9, 18, 24, 15, 40, 21];

fn output(dir: &Path, options: &TrainingOptions) -> Output {
    let (model, _) = adapted_model();
    let adapters = model.adapters();
    let config = AdapterConfig::of_tensors(adapters.keys().map(String::as_str), 4, 2.0);
    Output::prepare(dir, config, BTreeMap::new(), options.identity(&counting(&LENGTHS))).unwrap()
}

/// Trains until `stop_after` iterations are done; saves to `dir`.
fn run(dir: &Path, options: &TrainingOptions, start: Option<&TrainingState>, stop_after: usize) -> Outcome {
    let mut session = Session::new().unwrap();
    let (mut model, config) = adapted_model();
    let train = counting(&LENGTHS);
    let output = output(dir, options);
    let done = std::cell::Cell::new(start.map_or(0, |state| state.iteration));
    let trainer = Trainer {
        session: &mut session,
        model: &mut model,
        rope: &config.rope,
        train: &train,
        valid: None,
        options,
        output: Some(&output),
    };
    let mut observe = |event: &Event| {
        if let Event::Step(report) = event {
            done.set(report.iteration);
        }
    };
    trainer.run(start, &mut observe, &|| done.get() >= stop_after).unwrap()
}

fn load(dir: &Path, options: &TrainingOptions) -> Result<TrainingState, String> {
    let state = TrainingState::load(&state_file(dir), &options.identity(&counting(&LENGTHS)));
    state.map_err(|error| error.to_string().replace(&format!("{}/", dir.display()), ""))
}

fn bytes(tensors: &BTreeMap<String, Tensor<Stored>>) -> BTreeMap<String, Vec<u8>> {
    tensors.iter().map(|(name, tensor)| (name.clone(), tensor.to_bytes().unwrap())).collect()
}

fn files(dir: &Path) -> Vec<String> {
    let mut files: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    files
}

#[test]
fn a_run_that_was_interrupted_goes_on_bit_for_bit() {
    let (straight, broken) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let options = options(7);
    assert_eq!(run(straight.path(), &options, None, usize::MAX), Outcome::Finished);

    assert_eq!(run(broken.path(), &options, None, 4), Outcome::Interrupted { iteration: 4 });
    let state = load(broken.path(), &options).unwrap();
    assert_eq!(state.iteration, 4);
    assert_eq!(run(broken.path(), &options, Some(&state), usize::MAX), Outcome::Finished);

    let (straight, resumed) = (load(straight.path(), &options).unwrap(), load(broken.path(), &options).unwrap());
    assert_eq!((straight.iteration, straight.trained_tokens), (resumed.iteration, resumed.trained_tokens));
    assert!(bytes(&straight.adapters) == bytes(&resumed.adapters), "the adapters differ");
    assert!(bytes(&straight.optimizer) == bytes(&resumed.optimizer), "the optimizer's states differ");
}

#[test]
fn saves_are_whole_files_under_the_names_of_mlx_lm() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(4);
    run(dir.path(), &options, None, usize::MAX);
    assert_eq!(
        files(dir.path()),
        [
            "0000003_adapters.safetensors",
            "0000004_adapters.safetensors",
            "adapter_config.json",
            "adapters.safetensors",
            "training_state.safetensors",
        ]
    );
    let (adapter, state) = (Adapter::load(dir.path()).unwrap(), load(dir.path(), &options).unwrap());
    assert_eq!((adapter.config.rank, adapter.config.scale), (4, 2.0));
    let stored: BTreeMap<String, Vec<u8>> =
        adapter.tensors.into_iter().map(|(name, tensor)| (name, tensor.bytes)).collect();
    assert!(stored == bytes(&state.adapters));
    let (_, config) = adapted_model();
    Adapter::load(dir.path()).unwrap().check_fits(&config).unwrap();
}

#[test]
fn a_state_is_refused_by_a_run_of_other_options() {
    let dir = tempfile::tempdir().unwrap();
    let before = options(2);
    assert!(load(dir.path(), &before).unwrap_err().starts_with("`training_state.safetensors`: found no file"));
    run(dir.path(), &before, None, usize::MAX);

    let mut other = before.clone();
    (other.batch_size, other.seed) = (1, 9);
    assert_eq!(
        load(dir.path(), &other).unwrap_err(),
        "`training_state.safetensors`: belongs to another run: --batch-size was 2 and is 1, --seed was 3 and is 9\n\
         help: give the same options and data, or start anew from its weights with `--resume-adapter-file`"
    );
    let identity = before.identity(&counting(&[10, 12]));
    let error = TrainingState::load(&state_file(dir.path()), &identity).unwrap_err().to_string();
    assert!(error.contains("the checksum of the training data was"), "{error}");
}

#[test]
fn damaged_states_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(2);
    run(dir.path(), &options, None, usize::MAX);
    let file = state_file(dir.path());
    let whole = fs::read(&file).unwrap();
    for length in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        fs::write(&file, &whole[..length]).unwrap();
        assert!(load(dir.path(), &options).is_err(), "{length} of {} bytes", whole.len());
    }
    fs::copy(dir.path().join("adapters.safetensors"), &file).unwrap();
    assert!(load(dir.path(), &options).unwrap_err().contains("is no `cotangent training state 1`"));
}

#[test]
fn a_save_that_fails_leaves_the_earlier_files_whole() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(2);
    run(dir.path(), &options, None, usize::MAX);
    let before = fs::read(dir.path().join("adapters.safetensors")).unwrap();

    // A folder stands where a file has to go.
    fs::create_dir(dir.path().join("0000009_adapters.safetensors")).unwrap();
    let state = TrainingState { iteration: 9, ..load(dir.path(), &options).unwrap() };
    let error = output(dir.path(), &options).save(&state).unwrap_err().to_string();
    assert!(error.contains("0000009_adapters.safetensors"), "{error}");
    assert_eq!(fs::read(dir.path().join("adapters.safetensors")).unwrap(), before);
    assert!(files(dir.path()).iter().all(|file| !file.starts_with('.')), "{:?}", files(dir.path()));
}

#[test]
fn a_file_is_no_output_folder() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("taken");
    fs::write(&file, "").unwrap();
    assert!(check_folder(&file).unwrap_err().to_string().contains("found a file, expected a folder"));
    check_folder(dir.path()).unwrap();
    check_folder(&dir.path().join("new/folder")).unwrap();
}

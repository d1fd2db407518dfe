//! Saving a run and going on with it.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use cotangent::{Session, Stored, Tensor};
use cotangent_models::checkpoint::SafetensorsFile;
use cotangent_trainer::adapter::{Adapter, AdapterConfig};
use cotangent_trainer::loss_curve::LossCurve;
use cotangent_trainer::training::{
    Claim, Earlier, Event, Outcome, Output, RoutingMeans, Trainer, TrainingOptions, TrainingState, state_file,
};

use common::{adapted_model, counting, options};

const LENGTHS: [usize; 9] = [24, 12, 30, 9, 18, 24, 15, 40, 21];

fn output(dir: &Path, options: &TrainingOptions) -> Output {
    let (model, _) = adapted_model();
    let adapters = model.adapters();
    let config = AdapterConfig::from_tensors(adapters.keys().map(String::as_str), 4, 2.0);
    let claim = Claim::new(dir, Earlier::Resume).unwrap();
    Output::prepare(claim, config, BTreeMap::new(), options.identity(&counting(&LENGTHS))).unwrap()
}

/// Trains until `stop_after` iterations are done; saves to `dir`. Returns the validations made and the saves that failed.
fn run_observed(
    dir: &Path,
    options: &TrainingOptions,
    start: Option<&TrainingState>,
    stop_after: usize,
) -> (Outcome, Vec<usize>, Vec<usize>) {
    let mut session = Session::new().unwrap();
    let (mut model, config) = adapted_model();
    let (train, valid) = (counting(&LENGTHS), counting(&[9]));
    let output = output(dir, options);
    let done = std::cell::Cell::new(start.map_or(0, |state| state.iteration));
    let trainer = Trainer {
        session: &mut session,
        model: &mut model,
        rope: &config.rope,
        vision: None,
        train: &train,
        valid: Some(&valid),
        options,
        output: Some(&output),
        kept: Vec::new(),
        curve: &mut LossCurve::default(),
    };
    let (mut validated, mut failed) = (Vec::new(), Vec::new());
    let mut observe = |event: &Event| match event {
        Event::Step(report) => done.set(report.iteration),
        Event::Validated { iteration, .. } => validated.push(*iteration),
        Event::NotSaved { iteration, .. } => failed.push(*iteration),
        _ => {}
    };
    let outcome = trainer.run(start, &mut observe, &|| done.get() >= stop_after).unwrap();
    (outcome, validated, failed)
}

fn run(dir: &Path, options: &TrainingOptions, start: Option<&TrainingState>, stop_after: usize) -> Outcome {
    run_observed(dir, options, start, stop_after).0
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

/// Stopped after the fourth iteration, whose validation is cut short and made up for, and between two reports.
#[test]
fn a_run_that_was_interrupted_goes_on_bit_for_bit() {
    let straight = tempfile::tempdir().unwrap();
    let options = options(7);
    let (outcome, validated, _) = run_observed(straight.path(), &options, None, usize::MAX);
    assert_eq!((outcome, validated), (Outcome::Finished, vec![0, 4, 7]));
    for stop in [4, 5] {
        let broken = tempfile::tempdir().unwrap();
        let (outcome, before, _) = run_observed(broken.path(), &options, None, stop);
        assert_eq!(outcome, Outcome::Interrupted { iteration: stop });
        let state = load(broken.path(), &options).unwrap();
        assert_eq!((state.iteration, state.validated), (stop, stop != 4));
        let (outcome, after, _) = run_observed(broken.path(), &options, Some(&state), usize::MAX);
        assert_eq!(outcome, Outcome::Finished);
        assert_eq!([before, after].concat(), [0, 4, 7], "validations of a run that stopped after {stop}");

        // The metadata hold the checksum of adapters, optimizer and losses.
        let numbers = |dir: &Path| SafetensorsFile::open(&state_file(dir)).unwrap().metadata().clone();
        assert_eq!(numbers(straight.path()), numbers(broken.path()), "stopped after {stop}");
    }
}

#[test]
fn what_routers_did_since_the_last_report_is_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(2);
    run(dir.path(), &options, None, usize::MAX);
    let state = load(dir.path(), &options).unwrap();
    assert_eq!(state.unreported_routing, (RoutingMeans::default(), 0));
    let routing = RoutingMeans { loss: 17.3, shares: vec![0.1, 5.0, 2.5] };
    let state = TrainingState { unreported_routing: (routing, 9), ..state };
    state.save(&state_file(dir.path()), &options.identity(&counting(&LENGTHS))).unwrap();
    assert_eq!(load(dir.path(), &options).unwrap().unreported_routing, state.unreported_routing);
}

#[test]
fn a_save_that_fails_is_made_up_for_by_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(4);
    options.save_every = 1;
    // A folder has the name of a file that has to be written.
    fs::create_dir(dir.path().join("0000002_adapters.safetensors")).unwrap();
    let (outcome, _, failed) = run_observed(dir.path(), &options, None, usize::MAX);
    assert_eq!((outcome, failed), (Outcome::Finished, vec![2]));
    assert_eq!(load(dir.path(), &options).unwrap().iteration, 4);
}

#[test]
fn a_new_run_replaces_an_earlier_one_once_it_has_saved() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(4);
    run(dir.path(), &options, None, usize::MAX);
    fs::write(dir.path().join("0009999_adapters.safetensors"), "").unwrap();
    let state = load(dir.path(), &options).unwrap();
    let claim = Claim::new(dir.path(), Earlier::Replace).unwrap();
    let config = AdapterConfig::from_tensors(state.adapters.keys().map(String::as_str), 4, 2.0);
    let output = Output::prepare(claim, config, BTreeMap::new(), BTreeMap::new()).unwrap();
    assert!(files(dir.path()).contains(&"0009999_adapters.safetensors".to_owned()));
    output.save(&state).unwrap();
    let expected =
        ["0000004_adapters.safetensors", "adapter_config.json", "adapters.safetensors", "training_state.safetensors"];
    assert_eq!(files(dir.path()), expected);
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
         help: give the same model, options and data, or begin a new run with its adapter by `--resume-adapter-file`"
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
    // Every byte of the header and some of the tensors are damaged.
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    for place in (0..header).step_by(211).chain((header..whole.len()).step_by(whole.len() / 9)) {
        let mut changed = whole.clone();
        changed[place] ^= 0x04;
        fs::write(&file, &changed).unwrap();
        assert!(load(dir.path(), &options).is_err(), "byte {place} of {}", whole.len());
    }
    let mut changed = whole.clone();
    changed[whole.len() - 3] ^= 0x10;
    fs::write(&file, &changed).unwrap();
    let message = load(dir.path(), &options).unwrap_err();
    assert!(message.contains("is damaged: its checksum is ") && message.contains("\nhelp: "), "{message}");
    fs::copy(dir.path().join("adapters.safetensors"), &file).unwrap();
    assert!(load(dir.path(), &options).unwrap_err().contains("is no `cotangent training state 4`"));
}

#[test]
fn a_save_that_fails_leaves_the_earlier_files_whole() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(2);
    run(dir.path(), &options, None, usize::MAX);
    let before = fs::read(dir.path().join("adapters.safetensors")).unwrap();

    // A folder has the name of a file that has to be written.
    fs::create_dir(dir.path().join("0000009_adapters.safetensors")).unwrap();
    let state = TrainingState { iteration: 9, ..load(dir.path(), &options).unwrap() };
    let error = output(dir.path(), &options).save(&state).unwrap_err().to_string();
    assert!(error.contains("0000009_adapters.safetensors"), "{error}");
    assert_eq!(fs::read(dir.path().join("adapters.safetensors")).unwrap(), before);
    assert!(files(dir.path()).iter().all(|file| !file.starts_with('.')), "{:?}", files(dir.path()));

    // This is the last file of a save. If it cannot be written, no numbered adapter of that save is left.
    fs::remove_file(state_file(dir.path())).unwrap();
    fs::create_dir(state_file(dir.path())).unwrap();
    let state = TrainingState { iteration: 8, ..state };
    assert!(output(dir.path(), &options).save(&state).is_err());
    assert!(!files(dir.path()).contains(&"0000008_adapters.safetensors".to_owned()), "{:?}", files(dir.path()));
}

//! What signals leave of a run: whole files, and the exit code that belongs to them.

mod program;

use std::fs;
use std::io::{BufRead, BufReader, Lines, Read};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use cotangent_models::checkpoint::SafetensorsFile;
use cotangent_trainer::adapter::Adapter;

use program::{TRAIN, cotangent, workplace};

const LONG_RUN: &str = "--batch-size 1 --steps-per-report 1 --save-every 1000";

fn spawn(command: &mut Command) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    (child, lines)
}

fn send(signal: &str, process: u32) {
    assert!(Command::new("kill").arg(format!("-{signal}")).arg(process.to_string()).status().unwrap().success());
}

/// Exit code, lines not read yet, standard error.
fn end_of(mut child: Child, lines: Lines<BufReader<ChildStdout>>) -> (Option<i32>, Vec<String>, String) {
    let rest: Vec<String> = lines.map(Result::unwrap).collect();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    (child.wait().unwrap().code(), rest, stderr)
}

fn assert_whole(folder: &Path) {
    for file in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("safetensors") => drop(SafetensorsFile::open(&file).unwrap()),
            _ => assert!(file.ends_with("adapter_config.json"), "{file:?} was left behind"),
        }
    }
    Adapter::load(folder).unwrap();
}

#[test]
fn a_signal_finishes_the_iteration_saves_and_says_so() {
    for (signal, expected) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let workplace = workplace();
        let (child, mut lines) = spawn(&mut cotangent(workplace.path(), &format!("{TRAIN} {LONG_RUN}")));
        assert!(lines.any(|line| line.unwrap().starts_with("Iter 3: Train loss")), "the run ended too early");
        send(signal, child.id());
        let (code, rest, stderr) = end_of(child, lines);
        assert_eq!(code, Some(expected), "{signal}: {stderr}");
        assert!(rest.iter().any(|line| line.contains("Saved adapter weights to out/adapters.safetensors")), "{rest:?}");
        assert!(stderr.contains("Interrupted after iteration "), "{stderr}");
        assert_whole(&workplace.path().join("out"));
    }
}

#[test]
fn under_nohup_a_closed_terminal_stops_nothing() {
    let workplace = workplace();
    let program = cotangent(workplace.path(), &format!("{TRAIN} {LONG_RUN} --iters 12"));
    let mut ignoring = Command::new("sh");
    ignoring.arg("-c").arg("trap '' HUP; exec \"$@\"").arg("sh").arg(program.get_program()).args(program.get_args());
    ignoring.current_dir(workplace.path()).env("OPENBLAS_NUM_THREADS", "1");
    let (child, mut lines) = spawn(&mut ignoring);
    assert!(lines.any(|line| line.unwrap().starts_with("Iter 3: Train loss")), "the run ended too early");
    send("HUP", child.id());
    let (code, rest, stderr) = end_of(child, lines);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(rest.iter().any(|line| line.starts_with("Iter 12: Saved adapter weights")), "{rest:?}");
}

#[test]
fn a_second_signal_ends_the_program_at_once() {
    let workplace = workplace();
    let (mut child, mut lines) =
        spawn(&mut cotangent(workplace.path(), &format!("{TRAIN} --grad-accumulation-steps 100000")));
    assert!(lines.any(|line| line.unwrap().starts_with("Iter 1: Val loss")));
    // The first iteration, which takes hours, begins at once. Meanwhile no other run may use the folder.
    std::thread::sleep(Duration::from_millis(500));
    let output = cotangent(workplace.path(), &format!("{TRAIN} --overwrite")).output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("error: `out`: another run is writing to it"), "{stderr}");

    send("INT", child.id());
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().unwrap().is_none(), "the first signal ended an iteration");
    let asked = Instant::now();
    send("TERM", child.id());
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(asked.elapsed() < Duration::from_secs(20));
}

//! What must not compile, with the message that says why; and what must.
//!
//! Trybuild gets only the former: without a program to run it needs no machine code, and asks for all messages at once.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use cotangent_macros_core::catalogue::{Code, Source};

#[test]
fn messages_are_as_recorded() {
    let cases = trybuild::TestCases::new();
    for stage in ["declaration", "route", "pairing", "body", "text", "cases", "graph", "parameters"] {
        cases.compile_fail(format!("ui/{stage}/*.rs"));
    }
}

#[test]
fn what_is_right_compiles_and_runs() {
    let accepted = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_accepted")).args(arguments).output().unwrap();
        let [text, errors] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
        assert!(output.status.success(), "{arguments:?}\n{text}{errors}");
        text
    };
    let mut files = BTreeSet::new();
    for stage in ["pass", "run"] {
        for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("ui").join(stage)).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            files.extend(name.strip_suffix(".rs").map(|name| format!("{stage}/{name}")));
        }
    }
    let names: BTreeSet<String> = accepted(&[]).lines().map(str::to_owned).collect();
    assert_eq!(names, files, "src/bin/accepted.rs lists other programs than the folders hold");
    for name in &names {
        accepted(&[name]);
    }
}

#[test]
fn every_code_has_a_fixture_and_every_fixture_a_code() {
    let mut codes = BTreeSet::new();
    for stage in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("ui")).unwrap() {
        for file in std::fs::read_dir(stage.unwrap().path()).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            if let Some((code, _)) = name.split_once('_')
                && code.starts_with('C')
            {
                codes.insert(code.to_owned());
            }
        }
    }
    let known: BTreeSet<String> = Code::ALL.iter().map(|code| code.name().to_owned()).collect();
    assert_eq!(codes, known);
}

#[test]
fn what_the_catalogue_is_about_names_its_code() {
    for stage in ["route", "pairing", "body", "cases"] {
        for file in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("ui").join(stage)).unwrap() {
            let name = file.unwrap().file_name().into_string().unwrap();
            let code = Code::ALL.iter().find(|code| name.starts_with(&format!("{code}_")));
            assert!(code.is_some(), "`ui/{stage}/{name}` names no failure of the catalogue");
        }
    }
}

#[test]
fn messages_that_are_ours_carry_their_code() {
    let ui = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui");
    for entry in cotangent_macros_core::catalogue() {
        match entry.source {
            Source::Cotangent => {}
            Source::Compiler => continue,
            Source::Driver => {
                assert!(entry.wrong.contains(&format!("[{}]", entry.code)), "{}", entry.code);
                continue;
            }
        }
        for stage in std::fs::read_dir(&ui).unwrap() {
            for file in std::fs::read_dir(stage.unwrap().path()).unwrap() {
                let path = file.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                if name.starts_with(entry.code.name()) && name.ends_with(".stderr") {
                    let message = std::fs::read_to_string(&path).unwrap();
                    assert!(message.contains(&format!("[{}]", entry.code)), "{name} does not name {}", entry.code);
                }
            }
        }
    }
}

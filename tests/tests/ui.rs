//! What must not compile, with the message that says why; and what must.

use std::collections::BTreeSet;
use std::path::Path;

use cotangent_macros_core::catalogue::{Code, Source};

#[test]
fn messages_are_as_recorded() {
    let cases = trybuild::TestCases::new();
    for stage in ["declaration", "route", "pairing", "body", "text", "cases", "graph", "parameters"] {
        cases.compile_fail(format!("ui/{stage}/*.rs"));
    }
    cases.pass("ui/pass/*.rs");
    // These hold themselves that a driver ends in their error.
    cases.pass("ui/run/*.rs");
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

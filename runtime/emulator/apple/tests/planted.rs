//! Planted defects: one kernel of each. `cotangent-apple --planted` runs all.

use std::path::Path;

use cotangent_apple::planted::{DEFECTS, Kind, Verdict, plant, plant_compiled};
use cotangent_apple::{Llvm, Workshop};
use cotangent_emulator::Emulator;

/// Defects that the emulator finds under another name: an index below zero as the access that it leads to, a lane that
/// has left a loop as one that takes no part.
const UNDER_ANOTHER_NAME: [&str; 4] = [
    "index overflow, an unsigned index below zero",
    "index overflow, the distance of a pointer",
    "index overflow, a variable that becomes an index",
    "divergent collective, loops of different lengths",
];

#[test]
fn planted_defects_are_found_and_their_repairs_are_clean() {
    let emulator = Emulator::with_cache(&Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted")).unwrap();
    for one in plant(&emulator, false) {
        let other = UNDER_ANOTHER_NAME.iter().any(|name| one.name.starts_with(name));
        let expected = if other { matches!(one.verdict, Verdict::AsAnother(_)) } else { one.verdict == Verdict::Found };
        assert!(expected, "{}: {:?}", one.name, one.verdict);
        assert_eq!(one.falsely, None, "{}", one.name);
    }
}

#[test]
fn planted_defects_of_compiled_code_are_found_and_their_repairs_are_clean() {
    let Some(llvm) = Llvm::find() else {
        println!("skipped: {}", Llvm::MISSING);
        return;
    };
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("planted");
    let emulator = Emulator::with_cache(&folder).unwrap();
    let workshop = Workshop::new(llvm, &emulator, &folder).unwrap();
    for one in plant_compiled(&workshop, true).unwrap() {
        assert_eq!((one.verdict, one.falsely), (Verdict::Found, None), "{}", one.name);
    }
}

#[test]
fn ten_defects_of_each_kind_are_planted() {
    for kind in Kind::ALL {
        let planted: usize =
            DEFECTS.iter().filter(|defect| defect.kind == kind).map(|defect| defect.frames.len()).sum();
        assert!(planted >= 10, "{planted} of {}", kind.title());
    }
}

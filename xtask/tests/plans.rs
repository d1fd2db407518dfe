//! Records the plan of each kernel of the project, without the generated Rust. `INSTA_UPDATE=always` writes the records
//! again.

use cargo_cotangent::{expand, source};
use std::path::{Path, PathBuf};

/// The crates whose kernels are the project's; tests have kernels too, some of them wrong on purpose.
const CRATES: [&str; 3] = ["kernels", "examples", "models"];

#[test]
fn every_kernel_of_the_project_is_planned_as_recorded() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.parent().unwrap();
    let folders: Vec<PathBuf> = CRATES.iter().map(|folder| root.join(folder).join("src")).collect();
    let mut recorded = Vec::new();
    for kernel in source::find_all(root, &folders).unwrap() {
        let name = kernel.name();
        let plan = cotangent_macros_core::in_file(&root.join(&kernel.file), || expand::plan(&kernel));
        let plan = plan.unwrap_or_else(|mistakes| panic!("{}: {mistakes:?}", kernel.place));
        insta::with_settings!({
            snapshot_path => "plans",
            omit_expression => true,
            prepend_module_to_snapshot => false,
        }, { insta::assert_snapshot!(name.clone(), plan.to_string()) });
        recorded.push(format!("{name}.snap"));
    }
    for file in std::fs::read_dir(here.join("tests/plans")).unwrap() {
        let name = file.unwrap().file_name().into_string().unwrap();
        assert!(recorded.contains(&name), "`{name}` is the plan of no kernel any more: remove it");
    }
}

//! The shim is read once for all kernels of the same build; what was made of it may be lost or damaged.

use std::fs;
use std::path::{Path, PathBuf};

use cotangent_emulator::{Buffer, Dtype, Emulator, KernelText, Launch};

/// The results of `y = x + addend` for 1 and 2, compiled with the files of `folder`.
fn sums(folder: &Path, addend: u32) -> Vec<u8> {
    let body = format!("y[thread_position_in_grid.x] = x[thread_position_in_grid.x] + {addend};");
    let kernel = KernelText::new("k", body).input("x", Dtype::I32).output("y", Dtype::I32);
    let launch = Launch {
        inputs: vec![Buffer::from_values(Dtype::I32, [2], [1.0, 2.0])],
        output_shapes: vec![vec![2]],
        grid: [2, 1, 1],
        threadgroup: [2, 1, 1],
        ..Launch::default()
    };
    let run = Emulator::with_cache(folder).unwrap().run(&kernel, &launch).unwrap();
    assert_eq!(run.findings, [], "{}", run.findings[0]);
    run.outputs.into_iter().next().unwrap()
}

fn precompiled(folder: &Path) -> Vec<PathBuf> {
    let shims = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let files = shims.flat_map(|shim| fs::read_dir(shim).unwrap().map(|entry| entry.unwrap().path()));
    files.filter(|path| path.extension().is_some_and(|extension| extension == "gch")).collect()
}

#[test]
fn kernels_compile_with_a_damaged_precompiled_shim() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(sums(folder.path(), 1), [2, 0, 0, 0, 3, 0, 0, 0]);
    let [file] = &precompiled(folder.path())[..] else { panic!("one build, one file") };
    let whole = fs::read(file).unwrap();
    for (addend, left) in [(2, &whole[..whole.len() / 2]), (3, &whole[..0]), (4, b"no such thing")] {
        fs::write(file, left).unwrap();
        assert_eq!(sums(folder.path(), addend), [1 + addend as u8, 0, 0, 0, 2 + addend as u8, 0, 0, 0]);
    }
}

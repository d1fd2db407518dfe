//! OpenBLAS in the place of the reference BLAS that MLX's wheel brings.
//!
//! MLX calls plain names (`cblas_sgemm`, `spotrf_`); the OpenBLAS published as a wheel has them with the prefix `scipy_`.
//! A small library jumps from the ones to the others, under the file name of the library it replaces.

use super::folder::Installation;
use super::pins::Architecture;
use super::tools::Compiler;
use crate::program;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

const OPENBLAS: &str = "libscipy_openblas.so";

/// All that MLX calls: the undefined names of this kind in its `libmlx.so`.
const NAMES: [&str; 24] = [
    "cblas_cgemm",
    "cblas_dgemm",
    "cblas_sgemm",
    "cgeev_",
    "cgesdd_",
    "cheevd_",
    "dgeev_",
    "dgeqrf_",
    "dgesdd_",
    "dgetrf_",
    "dgetri_",
    "dorgqr_",
    "dpotrf_",
    "dsyevd_",
    "dtrtri_",
    "sgeev_",
    "sgeqrf_",
    "sgesdd_",
    "sgetrf_",
    "sgetri_",
    "sorgqr_",
    "spotrf_",
    "ssyevd_",
    "strtri_",
];

/// Replaces BLAS and LAPACK in an unpacked wheel of MLX.
pub fn replace(compiler: &Compiler, architecture: Architecture, installation: &Installation) -> Result<()> {
    let folder = installation.bundled_libraries();
    let blas = bundled(&folder, "libblas-")?;
    let lapack = bundled(&folder, "liblapack-")?;

    let openblas = folder.join(OPENBLAS);
    fs::rename(installation.openblas_wheel().join("scipy_openblas32/lib").join(OPENBLAS), &openblas)
        .with_context(|| format!("cannot write `{}`", openblas.display()))?;
    fs::remove_dir_all(installation.openblas_wheel()).context("cannot remove the rest of OpenBLAS' wheel")?;

    let assembly = installation.build().join("blas.s");
    fs::write(&assembly, trampolines(architecture))
        .with_context(|| format!("cannot write `{}`", assembly.display()))?;
    for library in [&blas, &lapack] {
        fs::remove_file(folder.join(library)).with_context(|| format!("cannot replace `{library}`"))?;
    }
    program::output(
        compiler
            .command()
            .args(["-shared", "-nostdlib", "-o"])
            .arg(folder.join(&blas))
            .args([&assembly, &openblas])
            .arg(format!("-Wl,-soname,{blas}"))
            .args(["-Wl,-rpath,$ORIGIN", "-Wl,--no-undefined"]),
    )
    .context("cannot link OpenBLAS in the place of MLX's BLAS")?;
    // One library serves under both names. The dynamic linker loads a file once, whatever names it has.
    std::os::unix::fs::symlink(&blas, folder.join(&lapack)).with_context(|| format!("cannot replace `{lapack}`"))
}

/// The name of the one file in `folder` that starts with `prefix`.
fn bundled(folder: &Path, prefix: &str) -> Result<String> {
    let names: Vec<PathBuf> = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.file_name().into())).collect())
        .with_context(|| format!("cannot read `{}`", folder.display()))?;
    let mut names = names.iter().filter_map(|name| name.to_str()).filter(|name| name.starts_with(prefix));
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name.to_owned()),
        _ => bail!("expected one file `{prefix}*` in MLX's wheel, in `{}`", folder.display()),
    }
}

/// The assembly text of the library.
fn trampolines(architecture: Architecture) -> String {
    let jump = match architecture {
        Architecture::X86_64 => |name: &str| format!("jmp scipy_{name}@PLT"),
        Architecture::Aarch64 => |name: &str| format!("b scipy_{name}"),
    };
    let mut text = String::from("\t.text\n");
    for name in NAMES {
        text += &format!("\t.globl {name}\n\t.type {name}, %function\n{name}:\n\t{}\n", jump(name));
    }
    // Without this section the linker would ask for an executable stack.
    text + "\t.section .note.GNU-stack,\"\",%progbits\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_jumps_to_its_prefixed_namesake() {
        for (architecture, jump) in [
            (Architecture::X86_64, "\nspotrf_:\n\tjmp scipy_spotrf_@PLT\n"),
            (Architecture::Aarch64, "\nspotrf_:\n\tb scipy_spotrf_\n"),
        ] {
            let text = trampolines(architecture);
            assert!(text.contains(jump), "{text}");
            assert_eq!(text.matches("scipy_").count(), NAMES.len());
        }
    }

    #[test]
    fn the_bundled_library_is_found_by_its_prefix() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("libgfortran-12.so.5"), "").unwrap();
        assert!(bundled(folder.path(), "libblas-").unwrap_err().to_string().contains("expected one file `libblas-*`"));
        fs::write(folder.path().join("libblas-ab.so.3"), "").unwrap();
        assert_eq!(bundled(folder.path(), "libblas-").unwrap(), "libblas-ab.so.3");
        fs::write(folder.path().join("libblas-cd.so.3"), "").unwrap();
        assert!(bundled(folder.path(), "libblas-").is_err());
    }
}

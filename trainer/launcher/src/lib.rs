//! Starts `cotangent` in the archive for CUDA, after a look at what MLX's CUDA build needs of the machine.
//!
//! The program itself cannot say what is missing: it is linked to MLX, so that without CUDA's libraries it does not reach its
//! `main`. The launcher asks the system's dynamic linker what that would find. With `COTANGENT_BACKEND=cpu` it takes MLX's
//! library for the CPU instead.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The libraries that must be on the machine: the file that MLX loads, and its name.
pub const NEEDED: [(&str, &str); 7] = [
    ("libcuda.so.1", "NVIDIA's driver 580 or newer"),
    ("libcublasLt.so.13", "cuBLAS 13"),
    ("libcufft.so.12", "cuFFT 12"),
    ("libnvrtc.so.13", "NVRTC 13"),
    ("libcudnn.so.9", "cuDNN 9"),
    ("libnccl.so.2", "NCCL 2"),
    (HEADER, "CUDA 13's headers"),
];

/// One of the headers with which MLX has kernels compiled when they first run.
const HEADER: &str = "cuda_fp16.h";

/// The variable with which a person chooses the backend.
pub const BACKEND: &str = "COTANGENT_BACKEND";

/// The variable with the folders in which the dynamic linker looks first.
const SEARCH: &str = "LD_LIBRARY_PATH";

/// The program, ready to start, with what it needs of the folder `lib` of the archive.
///
/// `variable` tells the environment.
///
/// # Errors
/// The sentence that says what of CUDA is missing, and what to do.
pub fn command(lib: &Path, variable: impl Fn(&str) -> Option<OsString>) -> Result<Command, String> {
    let (backend, search) = (variable(BACKEND), variable(SEARCH));
    let program = lib.join("cotangent");
    let mut command = Command::new(&program);
    if backend.as_deref() == Some(OsStr::new("cpu")) {
        let first = [lib.join("cpu/mlx/lib")];
        let rest = search
            .as_deref()
            .map(std::env::split_paths)
            .into_iter()
            .flatten()
            .filter(|path| !path.as_os_str().is_empty());
        let search = joined(first.into_iter().chain(rest).collect())?;
        command.env(SEARCH, search);
        return Ok(command);
    }
    let listed = Command::new(&program).env("LD_TRACE_LOADED_OBJECTS", "1").output();
    let listed = listed.map_err(|error| format!("cannot start `{}`: {error}", program.display()))?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    let mut missing = missing(&listed);
    if !headers(lib, &variable).iter().any(|folder| folder.join(HEADER).is_file()) {
        missing.push(HEADER);
    }
    if !missing.is_empty() {
        return Err(sentence(&missing));
    }
    // A missing GPU is an error, and no reason to compute on the CPU.
    if backend.is_none() {
        command.env(BACKEND, "cuda");
    }
    Ok(command)
}

/// Returns where MLX looks for CUDA's headers: in the folder of Python's packages that its own lies in, then in that of
/// CUDA.
fn headers(lib: &Path, variable: &impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let packages = ["nvidia/cu13/include", "nvidia/cuda_runtime/include"].map(|folder| lib.join(folder));
    let named = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable).map(PathBuf::from);
    let homes = named.chain([PathBuf::from("/usr/local/cuda")]).map(|home| home.join("include"));
    packages.into_iter().chain(homes).collect()
}

fn joined(paths: Vec<PathBuf>) -> Result<OsString, String> {
    std::env::join_paths(paths).map_err(|error| format!("the archive's own path cannot be in {SEARCH}: {error}"))
}

/// The libraries that the dynamic linker does not find, once each: `libcuda.so.1 => not found`.
fn missing(listed: &str) -> Vec<&str> {
    let mut missing: Vec<&str> = Vec::new();
    for name in listed.lines().filter_map(|line| line.trim().strip_suffix(" => not found")) {
        if !missing.contains(&name) {
            missing.push(name);
        }
    }
    missing
}

fn sentence(missing: &[&str]) -> String {
    let named = missing.iter().map(|file| {
        let known = NEEDED.iter().find(|(needed, _)| needed == file);
        known.map_or_else(|| (*file).to_owned(), |(file, what)| format!("{what} ({file})"))
    });
    let verb = if missing.len() == 1 { "is" } else { "are" };
    format!(
        "{} {verb} not found on this machine, which MLX needs for CUDA 13: install what is missing, or name its folder in {SEARCH} \
         (of headers, CUDA's folder in CUDA_HOME), or set {BACKEND}=cpu to go on with the CPU",
        named.collect::<Vec<_>>().join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: &str = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibmlxc.so => /opt/lib/libmlxc.so (0x00007f)\n\
                          \tlibcuda.so.1 => not found\n\tlibcudnn.so.9 => not found\n\tlibcuda.so.1 => not found\n";

    #[test]
    fn what_is_missing_is_said_in_one_sentence() {
        assert_eq!(
            sentence(&missing(LISTED)),
            "NVIDIA's driver 580 or newer (libcuda.so.1), cuDNN 9 (libcudnn.so.9) are not found on this machine, which MLX needs \
             for CUDA 13: install what is missing, or name its folder in LD_LIBRARY_PATH (of headers, CUDA's folder in \
             CUDA_HOME), or set COTANGENT_BACKEND=cpu to go on with the CPU"
        );
        assert!(sentence(&["libother.so.1"]).starts_with("libother.so.1 is not found"));
    }

    #[test]
    fn on_the_cpu_nothing_of_cuda_is_looked_for() {
        let variable = |name: &str| match name {
            BACKEND => Some("cpu".into()),
            SEARCH => Some("/a::/b".into()),
            _ => None,
        };
        let command = command(Path::new("/no such/lib"), variable).unwrap();
        let variables: Vec<_> = command.get_envs().collect();
        assert_eq!(variables, [(OsStr::new(SEARCH), Some(OsStr::new("/no such/lib/cpu/mlx/lib:/a:/b")))]);
    }

    #[test]
    fn headers_are_looked_for_where_mlx_does() {
        let variable = |name: &str| (name == "CUDA_PATH").then(|| OsString::from("/opt/cuda"));
        assert_eq!(
            headers(Path::new("/a/lib"), &variable),
            [
                "/a/lib/nvidia/cu13/include",
                "/a/lib/nvidia/cuda_runtime/include",
                "/opt/cuda/include",
                "/usr/local/cuda/include"
            ]
            .map(PathBuf::from)
        );
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        let error = command(Path::new("/no such/lib"), |_| None).unwrap_err();
        assert!(error.starts_with("cannot start `/no such/lib/cotangent`"), "{error}");
    }
}

//! mlx-c, MLX's C interface: its sources are part of mlx-sys, and become one shared library.

use super::folder::Installation;
use super::tools::Compiler;
use super::{digest, pins, sources};
use crate::program;
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::fs;
use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The sources of mlx-c, found to be the ones that this set-up was made for.
pub struct Source {
    folder: PathBuf,
}

impl Source {
    /// `mlx_sys` is the folder of the sources of mlx-sys.
    pub fn open(mlx_sys: &Path) -> Result<Self> {
        let source = Self::unchecked(mlx_sys);
        let cmake = source.folder.join("CMakeLists.txt");
        let cmake = fs::read_to_string(&cmake).with_context(|| format!("cannot read `{}`", cmake.display()))?;
        if pinned_mlx(&cmake) != Some(pins::MLX) {
            bail!(
                "mlx-sys {} is made for MLX {}, but set-up for {}\n  help: correct cargo-cotangent/src/setup/pins.rs",
                pins::MLX_SYS,
                pinned_mlx(&cmake).unwrap_or("of no version it names"),
                pins::MLX
            );
        }
        if bound_headers(sources::BINDINGS.text) != Some(source.headers_digest()?.as_str()) {
            bail!(
                "cargo-cotangent/mlx/bindings.rs was made from other headers than those of mlx-sys {}\n  \
                 help: make it again with `cargo run -p xtask --features bindgen -- bindings`",
                pins::MLX_SYS
            );
        }
        Ok(source)
    }

    pub fn unchecked(mlx_sys: &Path) -> Self {
        Self { folder: mlx_sys.join("src/mlx-c") }
    }

    /// Returns where the sources lie, and their licence.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The public headers, in the order of their names.
    pub fn headers(&self) -> Result<Vec<PathBuf>> {
        self.files("h")
    }

    /// Digest of all public headers.
    pub fn headers_digest(&self) -> Result<String> {
        let digests: Result<Vec<_>> = self.headers()?.iter().map(|header| digest::file_sha256(header)).collect();
        Ok(digest::sha256(digests?.join("\n").as_bytes()))
    }

    fn files(&self, extension: &str) -> Result<Vec<PathBuf>> {
        let folder = self.folder.join("mlx/c");
        let mut files: Vec<PathBuf> = fs::read_dir(&folder)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
            .with_context(|| format!("cannot read `{}`", folder.display()))?;
        files.retain(|file| file.extension() == Some(OsStr::new(extension)));
        files.sort();
        Ok(files)
    }

    /// Compiles mlx-c, what it lacks on Linux, and the smoke test, to object files, on all cores.
    pub fn compile(&self, compiler: &Compiler, installation: &Installation) -> Result<()> {
        let build = installation.build();
        let mut jobs = Vec::new();
        for source in self.files("cpp")?.into_iter().chain([build.join(sources::MACH_TIME.name)]) {
            let mut command = compiler.command();
            command
                .args(["-std=c++20", "-O2", "-fPIC", "-w", "-include"])
                .arg(build.join(sources::BEFORE_MLX_C.name))
                .arg("-I")
                .arg(&self.folder)
                .arg("-I")
                .arg(installation.include())
                .arg("-o")
                .arg(build.join(source.file_name().context("a source has a name")?).with_extension("o"))
                .arg("-c")
                .arg(source);
            jobs.push(command);
        }
        let mut smoke_test = compiler.command();
        smoke_test.args(["-x", "c", "-O1", "-I"]).arg(&self.folder).arg("-c").arg(build.join(sources::SMOKE_TEST.name));
        smoke_test.arg("-o").arg(smoke_test_object(installation));
        jobs.push(smoke_test);
        run_in_parallel(jobs, "compiling MLX's C interface")
    }
}

/// The version in the line `GIT_TAG v0.32.2)`.
fn pinned_mlx(cmake: &str) -> Option<&str> {
    cmake.lines().find_map(|line| line.trim().strip_prefix("GIT_TAG v")?.split([')', ' ']).next())
}

/// The beginning of the bindings' second line, after a line on their origin.
pub const HEADERS_MARK: &str = "// Made from headers with the digest ";

fn bound_headers(bindings: &str) -> Option<&str> {
    bindings.lines().take(5).find_map(|line| line.strip_prefix(HEADERS_MARK))
}

fn smoke_test_object(installation: &Installation) -> PathBuf {
    installation.build().join("smoke_test").with_extension("o")
}

/// Links the object files in `unfinished`, which is going to be renamed to `installation`.
pub fn link(compiler: &Compiler, unfinished: &Installation, installation: &Installation) -> Result<()> {
    let smoke_test = smoke_test_object(unfinished);
    let mut objects: Vec<PathBuf> = fs::read_dir(unfinished.build())?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .context("cannot list the object files")?;
    objects.retain(|path| path.extension() == Some(OsStr::new("o")) && *path != smoke_test);
    objects.sort();
    let rpath = format!("-Wl,-rpath,{}", installation.libmlx_folder().display());
    program::output(
        compiler
            .command()
            .args(["-shared", "-o"])
            .arg(unfinished.libmlxc())
            .args(objects)
            .arg("-L")
            .arg(unfinished.libmlx_folder())
            .arg("-lmlx")
            // With an absolute name every program finds the library without a search path.
            .arg(format!("-Wl,-soname,{}", installation.libmlxc().display()))
            .args([&rpath, "-Wl,--no-undefined"]),
    )
    .context("cannot link MLX's C interface")?;
    program::output(
        compiler
            .command()
            .arg("-o")
            .arg(unfinished.build().join("smoke_test"))
            .args([&smoke_test, &unfinished.libmlxc()])
            .arg("-lm")
            .arg("-L")
            .arg(unfinished.libmlx_folder())
            // The library's name does not exist yet. The libraries that it needs are searched when the program runs.
            .args([&rpath, "-Wl,--allow-shlib-undefined", "-Wl,--unresolved-symbols=ignore-in-shared-libs"]),
    )
    .context("cannot link the smoke test")
    .map(drop)
}

/// Runs all `jobs`, as many at a time as there are cores, and stops at the first that fails.
fn run_in_parallel(jobs: Vec<Command>, what: &str) -> Result<()> {
    let total = jobs.len();
    let jobs: Vec<_> = jobs.into_iter().map(Mutex::new).collect();
    let (next, done, failure) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(None));
    let terminal = stderr().is_terminal();
    if !terminal {
        eprintln!("  {what} ({total} files)");
    }
    let work = || {
        while let Some(job) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let mut job = job.lock().expect("each job is taken once");
            if let Err(error) = program::output(&mut job) {
                next.store(total, Ordering::Relaxed);
                failure.lock().expect("no holder panics").get_or_insert(error);
                return;
            }
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if terminal {
                eprint!("\r  {what}: {done} of {total} files");
            }
        }
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        for _ in 0..workers.min(total) {
            scope.spawn(work);
        }
    });
    if terminal {
        eprintln!();
    }
    match failure.into_inner().expect("no holder panics") {
        Some(error) => Err(error).with_context(|| format!("{what} failed")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_version_is_read_from_cmake() {
        let cmake = "FetchContent_Declare(\n    mlx\n    GIT_REPOSITORY \"…/mlx.git\"\n    GIT_TAG v0.32.2)\n";
        assert_eq!(pinned_mlx(cmake), Some("0.32.2"));
        assert_eq!(pinned_mlx("GIT_TAG main)"), None);
    }

    #[test]
    fn the_committed_bindings_name_their_headers() {
        assert_eq!(bound_headers(sources::BINDINGS.text).map(str::len), Some(64));
    }

    fn shell(script: String) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        command
    }

    #[test]
    fn all_jobs_run() {
        let folder = tempfile::tempdir().unwrap();
        let jobs = (0..9).map(|job| shell(format!("touch '{}/{job}'", folder.path().display()))).collect();
        run_in_parallel(jobs, "touching").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 9);
    }

    #[test]
    fn a_failing_job_is_quoted() {
        let jobs = ["true", "echo 'no <concepts>' >&2; false", "true"].map(|script| shell(script.to_owned()));
        let error = format!("{:?}", run_in_parallel(jobs.into(), "compiling").unwrap_err());
        assert!(error.starts_with("compiling failed") && error.contains("no <concepts>"), "{error}");
    }
}

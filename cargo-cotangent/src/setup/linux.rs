//! Set-up on Linux, where mlx-sys cannot build MLX: MLX is downloaded, its C interface is compiled here, and Cargo is
//! configured to use both instead of mlx-sys' build script.

use super::folder::{Installation, SetupFolder};
use super::pins::{self, Architecture, Build};
use super::problem;
use super::python::Python;
use super::stamp::{self, Stamp};
use super::tools::{self, Compiler};
use super::{blas, cargo_config, cuda, download, mlx_c, sources};
use crate::{cargo, program};
use anyhow::{Context, Result, bail};
use std::fs::{self, File, TryLockError};
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// When to say something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Report {
    Always,
    /// Reports only if there is work to do.
    Work,
}

pub fn set_up(root: &Path, build: Option<Build>, force: bool, report: Report) -> Result<()> {
    let architecture = supported_architecture()?;
    check_path(root)?;
    check_locked_version(root)?;
    let home = SetupFolder::new(root);
    fs::create_dir_all(&home.folder).with_context(|| format!("cannot create `{}`", home.folder.display()))?;
    let _lock = lock(&home.lock())?;

    let build = build.unwrap_or_else(|| stamp::build_in(&fs::read_to_string(home.stamp()).unwrap_or_default()));
    let (version, stamp) = (build.version(), Stamp::current(root, build, architecture));
    let reason = if force { Some("asked for".to_owned()) } else { outdated(&home, build, &stamp) };
    let Some(reason) = reason else {
        if report == Report::Always {
            eprintln!("MLX {version} is set up.");
        }
        return Ok(());
    };
    let start = Instant::now();
    eprintln!("Setting up MLX {version} ({reason}) …");
    let unfinished = home.unfinished(build);
    install(root, architecture, &home, &unfinished)?;
    finish(&home, &unfinished, architecture, &stamp)?;
    let seconds = start.elapsed().as_secs();
    eprintln!("MLX {version} is set up, in {seconds} s. `cargo build` and `cargo test` work now.");
    Ok(())
}

fn supported_architecture() -> Result<Architecture> {
    match Architecture::host() {
        Some(architecture) if cfg!(target_env = "gnu") => Ok(architecture),
        Some(_) => bail!(
            "this Rust toolchain builds for musl, but MLX is published for glibc\n  \
             help: use a distribution with glibc {}.{} or newer, and its `-gnu` toolchain",
            pins::GLIBC.0,
            pins::GLIBC.1
        ),
        None => bail!(
            "MLX is published for x86_64 and aarch64 Linux, not for {}\n  help: use a machine of these kinds",
            std::env::consts::ARCH
        ),
    }
}

/// The path goes into a linker argument, where commas separate, and into Cargo's configuration, which is UTF-8.
fn check_path(root: &Path) -> Result<()> {
    match root.to_str() {
        Some(text) if !text.contains(',') => Ok(()),
        _ => bail!(
            "the checkout's path `{}` has a comma in it or is not UTF-8\n  help: move the checkout to a plainer path",
            root.display()
        ),
    }
}

fn check_locked_version(root: &Path) -> Result<()> {
    let path = root.join("Cargo.lock");
    let lock = fs::read_to_string(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
    match cargo::locked_version(&lock, "mlx-sys") {
        Some(pins::MLX_SYS) => Ok(()),
        found => bail!(
            "Cargo.lock has mlx-sys {}, but set-up is made for {}\n  \
             help: follow \"A new version of MLX\" in CONTRIBUTING.md, or take Cargo.lock back",
            found.unwrap_or("not once"),
            pins::MLX_SYS
        ),
    }
}

/// Held until dropped; the system drops it when the program ends, however it ends.
pub(super) fn lock(path: &Path) -> Result<File> {
    let context = || format!("cannot lock `{}`", path.display());
    let file = File::options().create(true).truncate(false).write(true).open(path).with_context(context)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("Waiting for another set-up of this checkout to end …");
            file.lock().with_context(context)?;
        }
        Err(TryLockError::Error(error)) => return Err(error).with_context(context),
    }
    Ok(file)
}

/// Returns why there is work to do, or nothing if the set-up is up to date.
fn outdated(home: &SetupFolder, build: Build, stamp: &Stamp) -> Option<String> {
    let Ok(found) = fs::read_to_string(home.stamp()) else {
        let begun = home.unfinished(build).folder.exists();
        return Some(if begun { "the last set-up was interrupted" } else { "first time here" }.to_owned());
    };
    stamp.difference(&found).or_else(|| {
        let complete = home.installation(build).is_complete() && home.cargo_config().is_file();
        (!complete).then(|| "files in `.mlx` are missing".to_owned())
    })
}

fn install(root: &Path, architecture: Architecture, home: &SetupFolder, unfinished: &Installation) -> Result<()> {
    let wheels = [pins::mlx(unfinished.build, architecture), pins::openblas(architecture)];
    let (compiler, python) = (Compiler::find(), Python::find());
    let (glibc, disk) = (tools::glibc_problem(), tools::disk_problem(&home.folder, unfinished.build));
    let problems = [compiler.as_ref().err(), python.as_ref().err(), glibc.as_ref(), disk.as_ref()];
    problem::report(&problems.into_iter().flatten().collect::<Vec<_>>())?;
    let (compiler, python) = (compiler?, python?);

    let mut paths = Vec::new();
    for wheel in &wheels {
        paths.push(download::fetch(wheel, &home.downloads(), |wheel, folder| {
            eprintln!("  downloading {} {} ({} MB)", wheel.project, wheel.version, wheel.megabytes);
            python.download(wheel, folder, &home.python())
        })?);
    }

    remove_if_there(&home.python())?;
    remove_if_there(&unfinished.folder)?;
    create(&unfinished.folder)?;
    eprintln!("  unpacking");
    python.unzip(&paths[0], &unfinished.wheel())?;
    python.unzip(&paths[1], &unfinished.openblas_wheel())?;
    for folder in [unfinished.build(), unfinished.library_folder(), unfinished.bindings_folder()] {
        create(&folder)?;
    }
    for source in sources::ALL {
        source.write_into(&unfinished.build())?;
    }
    blas::replace(&compiler, architecture, unfinished)?;
    if unfinished.build == Build::Cuda {
        cuda::use_libraries_of(&python, unfinished)?;
    }

    let mlx_sys = cargo::source_of(root, "mlx-sys", pins::MLX_SYS)?;
    let mlx_c = mlx_c::Source::open(&mlx_sys)?;
    mlx_c.compile(&compiler, unfinished)?;
    mlx_c::link(&compiler, unfinished, &home.installation(unfinished.build))?;
    fs::write(unfinished.bindings(), sources::BINDINGS.text).context("cannot write the bindings of mlx-c")
}

/// Puts the new installation in the old one's place. Whenever this is interrupted, Cargo either finds a whole
/// installation or says that MLX is not set up.
fn finish(home: &SetupFolder, unfinished: &Installation, architecture: Architecture, stamp: &Stamp) -> Result<()> {
    let installation = home.installation(unfinished.build);
    remove_if_there(&home.stamp())?;
    remove_if_there(&home.cargo_config())?;
    remove_if_there(&installation.folder)?;
    fs::rename(&unfinished.folder, &installation.folder)
        .with_context(|| format!("cannot rename `{}`", unfinished.folder.display()))?;
    eprintln!("  trying it");
    try_out(&installation)?;
    fs::remove_dir_all(installation.build()).context("cannot remove what was only needed to compile")?;
    write_whole(&home.cargo_config(), &cargo_config::text(architecture.target(), &installation, stamp.inputs()))?;
    write_whole(&home.stamp(), &stamp.text())
}

fn try_out(installation: &Installation) -> Result<()> {
    let program = installation.build().join("smoke_test");
    let version = program::output(&mut Command::new(program)).with_context(|| match installation.build {
        Build::Cpu => "MLX was compiled but does not run".to_owned(),
        Build::Cuda => cuda::missing_libraries().to_string(),
    })?;
    if version.trim() != pins::MLX {
        bail!("set up MLX {}, but it says that it is {}", pins::MLX, version.trim());
    }
    Ok(())
}

fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create `{}`", folder.display()))
}

pub(super) fn remove_if_there(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove `{}`", path.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a file that is never seen half written.
pub(super) fn write_whole(path: &Path, text: &str) -> Result<()> {
    let unfinished = path.with_extension("unfinished");
    fs::write(&unfinished, text)
        .and_then(|()| fs::rename(&unfinished, path))
        .with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Checkout(tempfile::TempDir);

    impl Checkout {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn home(&self) -> SetupFolder {
            SetupFolder::new(self.0.path())
        }

        fn stamp(&self) -> Stamp {
            Stamp::current(self.0.path(), Build::Cpu, Architecture::X86_64)
        }

        fn set_up(&self) {
            let (home, installation) = (self.home(), self.home().installation(Build::Cpu));
            for file in
                [installation.libmlxc(), installation.bindings(), installation.libmlx_folder().join("libmlx.so")]
            {
                create(file.parent().unwrap()).unwrap();
                fs::write(file, "").unwrap();
            }
            write_whole(&home.cargo_config(), "").unwrap();
            write_whole(&home.stamp(), &self.stamp().text()).unwrap();
        }

        fn outdated(&self) -> Option<String> {
            outdated(&self.home(), Build::Cpu, &self.stamp())
        }
    }

    #[test]
    fn a_finished_set_up_holds() {
        let checkout = Checkout::new();
        checkout.set_up();
        assert_eq!(checkout.outdated(), None);
    }

    #[test]
    fn a_new_checkout_and_an_interrupted_set_up_are_distinguished() {
        let checkout = Checkout::new();
        assert_eq!(checkout.outdated().as_deref(), Some("first time here"));
        create(&checkout.home().unfinished(Build::Cpu).folder).unwrap();
        assert_eq!(checkout.outdated().as_deref(), Some("the last set-up was interrupted"));
    }

    #[test]
    fn missing_files_are_noticed() {
        for missing in [SetupFolder::cargo_config, |home: &SetupFolder| home.installation(Build::Cpu).libmlxc()] {
            let checkout = Checkout::new();
            checkout.set_up();
            fs::remove_file(missing(&checkout.home())).unwrap();
            assert_eq!(checkout.outdated().as_deref(), Some("files in `.mlx` are missing"));
        }
    }

    #[test]
    fn a_path_that_cannot_go_into_a_linker_argument_is_refused() {
        assert!(check_path(Path::new("/home/ada/my projects/cotangent")).is_ok());
        let error = check_path(Path::new("/home/ada/a,b")).unwrap_err().to_string();
        assert!(error.contains("`/home/ada/a,b` has a comma"), "{error}");
    }

    #[test]
    fn another_mlx_sys_is_refused() {
        let checkout = Checkout::new();
        let lock = checkout.0.path().join("Cargo.lock");
        fs::write(&lock, "[[package]]\nname = \"mlx-sys\"\nversion = \"0.8.0\"\n").unwrap();
        let error = check_locked_version(checkout.0.path()).unwrap_err().to_string();
        assert!(error.starts_with("Cargo.lock has mlx-sys 0.8.0, but set-up is made for 0.7.0"), "{error}");
    }

    #[test]
    fn the_lock_is_held_until_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let held = lock(&path).unwrap();
        assert!(File::open(&path).unwrap().try_lock().is_err());
        drop(held);
        assert!(File::open(&path).unwrap().try_lock().is_ok());
    }
}

//! `cargo xtask dist`: an archive with the `cotangent` program and MLX's libraries beside it.
//!
//! ```text
//! bin/cotangent       the program; with CUDA, the launcher
//! lib/                libmlxc.so, libstdc++.so.6, libgcc_s.so.1; with CUDA, the program
//! lib/mlx, ..libs     MLX's package, laid out as its library expects
//! lib/cpu             with CUDA: MLX's package for the CPU
//! demo, licences, README
//! ```
//!
//! Libraries find each other by their place. The machine on which the archive runs needs only the C library, and for
//! CUDA also what `cotangent-launcher` names.

mod elf;
mod licences;

use anyhow::{Context, Result, bail, ensure};
use cargo_cotangent::setup::{self, Parts};
use cargo_cotangent::{cargo, program};
use elf::Entry;
use licences::{copy, write_file};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The option with which the linker writes into the program that libraries lie in the folder beside its own.
const SEARCH: &str = "link-arg=-Wl,-rpath,$ORIGIN/../lib";

/// Libraries of a C++ compiler's run time, which not every machine has.
const RUNTIME: [&str; 2] = ["libstdc++.so.6", "libgcc_s.so.1"];

/// Parts of the C library, which every machine has.
const C_LIBRARY: [&str; 7] = ["linux-vdso", "libc.so", "libm.so", "libdl.so", "libpthread.so", "librt.so", "ld-linux"];

/// Makes the archive below `target/dist`, and says what it needs.
pub fn run(root: &Path, cuda: bool) -> Result<ExitCode> {
    if std::env::consts::OS != "linux" {
        bail!(
            "archives are made on Linux\n  help: on macOS, `cargo install --path trainer` builds the program with MLX in it"
        );
    }
    setup::ensure(root)?;
    let parts = setup::parts(root)?;
    let name = format!(
        "cotangent-{}-linux-{}{}",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        if cuda { "-cuda13" } else { "" }
    );
    let folder = root.join("target/dist").join(&name);
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("cannot remove `{}`", folder.display()))?;
    }
    eprintln!("building the program");
    let program = build(root, "cotangent-trainer", "cotangent")?;
    let library = folder.join("lib");
    if cuda {
        let launcher = build(root, "cotangent-launcher", "cotangent-launcher")?;
        copy(&launcher, &folder.join("bin/cotangent"))?;
        relocated(&program, &library.join("cotangent"), &[(Entry::Needed, "libmlxc.so", "libmlxc.so")])?;
        setup::unpack_cuda(root, &library)?;
        copy_package(&parts, &library.join("cpu"))?;
        // OpenBLAS and Fortran's runtime are the same in both.
        let of_cuda = library.join("mlx_cuda_13.libs");
        fs::remove_dir_all(&of_cuda).context("MLX's package for CUDA has no libraries of its own any more")?;
        symlink("cpu/mlx_cpu.libs", &of_cuda).context("cannot link to the libraries of MLX's package")?;
    } else {
        relocated(&program, &folder.join("bin/cotangent"), &[(Entry::Needed, "libmlxc.so", "libmlxc.so")])?;
        copy_package(&parts, &library)?;
    }
    let places = [(Entry::Name, "libmlxc.so", "libmlxc.so"), (Entry::SearchPath, "mlx/lib", "$ORIGIN/mlx/lib:$ORIGIN")];
    relocated(&parts.library, &library.join("libmlxc.so"), &places)?;
    for name in RUNTIME {
        copy(&compiler_library(name)?, &library.join(name))?;
    }
    copy_tree(&root.join("demo"), &folder.join("demo"), &|path| !path.ends_with("demo/make"))?;
    write_licences(root, &parts, &folder.join("licences"))?;
    let (major, minor) = glibc_of(&folder)?.context("no file names a version of glibc")?;
    write_file(&folder.join("README"), &readme(cuda, (major, minor)))?;
    if !cuda {
        try_out(&folder)?;
    }
    let archive = pack(&folder, &name)?;
    let size = |bytes: u64| format!("{:.0} MB", bytes as f64 / 1e6);
    println!(
        "{}: {} ({} unpacked); needs {} Linux with glibc {major}.{minor} or newer",
        archive.display(),
        size(fs::metadata(&archive)?.len()),
        size(size_of(&folder)?),
        std::env::consts::ARCH,
    );
    Ok(ExitCode::SUCCESS)
}

/// Builds a program of this workspace as people run it, and returns its file.
fn build(root: &Path, package: &str, binary: &str) -> Result<PathBuf> {
    let target = root.join("target");
    let status = cargo::cargo()
        .current_dir(root)
        .args(["rustc", "--release", "--package", package, "--bin", binary, "--", "-C", SEARCH])
        .env("CARGO_TARGET_DIR", &target)
        .status()
        .context("cannot start `cargo`")?;
    ensure!(status.success(), "`{package}` does not compile");
    Ok(target.join("release").join(binary))
}

/// Copies a program or library, with other names for libraries: each of a kind that ends as given.
fn relocated(from: &Path, to: &Path, names: &[(Entry, &str, &str)]) -> Result<()> {
    copy(from, to)?;
    let mut file = fs::read(to).with_context(|| format!("cannot read `{}`", to.display()))?;
    for (kind, end, new) in names {
        elf::rename(&mut file, *kind, |name| name.ends_with(end), new)
            .with_context(|| format!("cannot change where `{}` looks for libraries", from.display()))?;
    }
    fs::write(to, file).with_context(|| format!("cannot write `{}`", to.display()))
}

/// MLX's library and those beside it, at the places that they have in its package.
fn copy_package(parts: &Parts, into: &Path) -> Result<()> {
    copy(&parts.wheel.join("mlx/lib/libmlx.so"), &into.join("mlx/lib/libmlx.so"))?;
    copy_tree(&parts.wheel.join("mlx_cpu.libs"), &into.join("mlx_cpu.libs"), &|_| true)
}

fn compiler_library(library: &str) -> Result<PathBuf> {
    let argument = format!("-print-file-name={library}");
    let path = PathBuf::from(program::output(Command::new("c++").arg(argument))?.trim());
    ensure!(path.is_absolute(), "the C++ compiler does not say where `{library}` lies\n  help: use g++");
    Ok(path)
}

fn write_licences(root: &Path, parts: &Parts, folder: &Path) -> Result<()> {
    licences::write(root, "cotangent-trainer", parts.target, folder)?;
    ensure!(licences::copy_licences(&parts.mlx_c, &folder.join("mlx-c"))? > 0, "mlx-c has no licence in its folder");
    setup::unpack_licences(root, folder)?;
    // The parts of GCC that the wheels contain have the same licence.
    let debian = Path::new("/usr/share/doc/libstdc++6/copyright");
    let gcc = folder.join("libstdc++-and-libgcc");
    if debian.is_file() {
        return copy(debian, &gcc.join("copyright"));
    }
    let words = "libstdc++.so.6 and libgcc_s.so.1 are parts of GCC: GNU General Public License 3 with the GCC Runtime Library \
                 Exception 3.1, https://www.gnu.org/licenses/gcc-exception-3.1.html\n";
    write_file(&gcc.join("copyright"), words)
}

fn readme(cuda: bool, (major, minor): (u32, u32)) -> String {
    let mut text = format!(
        "cotangent {}, which fine-tunes Qwen3.5 models\n\n\
         Needs Linux with glibc {major}.{minor} or newer, and nothing else. Put the folder where you like; to try it:\n\n    \
         bin/cotangent demo --demo demo --output /tmp/demo-output\n\n\
         `bin/cotangent --help` lists the commands. The licences of all that is inside lie in `licences`.\n",
        env!("CARGO_PKG_VERSION"),
    );
    if cuda {
        text += &format!(
            "\nFor NVIDIA GPUs. Needs, in the system or in folders that LD_LIBRARY_PATH names: {}. Python's packages of CUDA \
             will do: link their folder `nvidia` as `lib/nvidia`. The program says what it misses; with COTANGENT_BACKEND=cpu it \
             goes on with the CPU.\n",
            cotangent_launcher::NEEDED.map(|(file, what)| format!("{what} ({file})")).join(", ")
        );
    }
    text
}

/// Starts the program as it would start elsewhere, and holds that it loads nothing but the archive's files and the C library.
fn try_out(folder: &Path) -> Result<()> {
    let loaded = program::output(Command::new(folder.join("bin/cotangent")).env("LD_TRACE_LOADED_OBJECTS", "1"))?;
    let strange = loaded_from_elsewhere(&loaded, &folder.canonicalize()?);
    ensure!(strange.is_empty(), "the program loads what is not in the archive: {}", strange.join(", "));
    program::output(Command::new(folder.join("bin/cotangent")).arg("--version")).map(drop)
}

/// The lines of the dynamic linker's list that name neither the C library nor a file in `folder`:
/// `libm.so.6 => /lib/libm.so.6 (0x7f00)`, or `/lib64/ld-linux-x86-64.so.2 (0x7f00)`.
fn loaded_from_elsewhere<'l>(list: &'l str, folder: &Path) -> Vec<&'l str> {
    let is_elsewhere = |line: &&str| {
        let (name, file) = line.split_once(" => ").unwrap_or((line, line));
        let file_name = name.rsplit('/').next().unwrap_or(name);
        let is_inside = |file: &str| Path::new(file).canonicalize().is_ok_and(|file| file.starts_with(folder));
        !C_LIBRARY.iter().any(|known| file_name.starts_with(known))
            && !is_inside(file.split(" (").next().unwrap_or(file))
    };
    list.lines().map(str::trim).filter(is_elsewhere).collect()
}

/// The newest glibc that a program or library in `folder` asks for.
fn glibc_of(folder: &Path) -> Result<Option<(u32, u32)>> {
    let mut newest = None;
    for path in files(folder)? {
        let file = fs::read(&path).with_context(|| format!("cannot read `{}`", path.display()))?;
        if file.starts_with(b"\x7fELF") {
            newest = newest.max(elf::glibc(&file));
        }
    }
    Ok(newest)
}

fn size_of(folder: &Path) -> Result<u64> {
    files(folder)?.iter().map(|file| Ok(fs::metadata(file)?.len())).sum()
}

/// All files below `folder`; what a link leads to is left out.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot list `{}`", folder.display());
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).with_context(context)? {
        let entry = entry.with_context(context)?;
        let kind = entry.file_type().with_context(context)?;
        if kind.is_dir() {
            found.extend(files(&entry.path())?);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}

/// Copies a folder, links as what they are.
fn copy_tree(from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<()> {
    let context = || format!("cannot copy `{}`", from.display());
    fs::create_dir_all(to).with_context(context)?;
    for entry in fs::read_dir(from).with_context(context)? {
        let entry = entry.with_context(context)?;
        let (path, kind) = (entry.path(), entry.file_type().with_context(context)?);
        let to = to.join(entry.file_name());
        if !wanted(&path) {
            continue;
        }
        if kind.is_dir() {
            copy_tree(&path, &to, wanted)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(&path).with_context(context)?, to).with_context(context)?;
        } else {
            copy(&path, &to)?;
        }
    }
    Ok(())
}

fn pack(folder: &Path, name: &str) -> Result<PathBuf> {
    let above = folder.parent().context("the folder lies in `target`")?;
    let archive = above.join(format!("{name}.tar.gz"));
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "-C"]).arg(above).arg("-czf").arg(&archive);
    program::output(tar.arg(name)).map(|_| archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_names_what_cuda_needs() {
        let text = readme(true, (2, 35));
        assert!(text.contains("glibc 2.35 or newer"), "{text}");
        assert!(cotangent_launcher::NEEDED.iter().all(|(file, _)| text.contains(file)), "{text}");
        assert!(!readme(false, (2, 35)).contains("NVIDIA"));
    }

    #[test]
    fn only_the_c_library_may_lie_elsewhere() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().canonicalize().unwrap();
        write_file(&folder.join("libmlxc.so"), "").unwrap();
        let list = format!(
            "\tlinux-vdso.so.1 (0x7f00)\n\tlibmlxc.so => {}/libmlxc.so (0x7f00)\n\tlibm.so.6 => /lib/libm.so.6 (0x7f00)\n\
             \tlibblas.so.3 => /usr/lib/libblas.so.3 (0x7f00)\n\tlibgfortran.so.5 => not found\n\
             \t/lib64/ld-linux-x86-64.so.2 (0x7f00)\n",
            folder.display()
        );
        assert_eq!(
            loaded_from_elsewhere(&list, &folder),
            ["libblas.so.3 => /usr/lib/libblas.so.3 (0x7f00)", "libgfortran.so.5 => not found"]
        );
    }

    #[test]
    fn a_tree_is_copied_with_its_links() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        write_file(&from.join("a/file"), "text").unwrap();
        write_file(&from.join("left/out"), "text").unwrap();
        symlink("a/file", from.join("link")).unwrap();
        copy_tree(&from, &to, &|path| !path.ends_with("left")).unwrap();
        assert_eq!(fs::read_link(to.join("link")).unwrap(), Path::new("a/file"));
        assert_eq!(files(&to).unwrap(), [to.join("a/file")]);
    }
}

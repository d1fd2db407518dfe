//! The system's C++ compiler and how it is called.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Checks, Error};

/// Flags that give the same bits from every C++ compiler: no folding of calls, no fused multiply-add.
pub const SAME_BITS: [&str; 5] =
    ["-fno-builtin", "-fno-math-errno", "-ffp-contract=off", "-fno-strict-aliasing", "-fsigned-char"];

/// Options of clang's passes. Without them clang omits the read of `y[i] += …`, and merges two equal accesses in different
/// branches, whose finding then has no line.
const CLANG_PASSES: [&str; 3] =
    ["-tsan-instrument-read-before-write=1", "-simplifycfg-hoist-common=false", "-simplifycfg-sink-common=false"];

/// The way in which a kernel is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Build {
    pub checks: Checks,
    /// Whether the text casts pointers.
    pub casts: bool,
    /// Whether `float` is compiled as `double`.
    pub double: bool,
    /// Whether the text is a whole file, without what MLX puts in front of bodies.
    pub whole: bool,
}

impl Build {
    /// Returns the way in which the hooks are compiled.
    pub fn for_hooks(checks: Checks) -> Self {
        Build { checks, casts: false, double: false, whole: false }
    }
}

/// A C++ compiler that answered.
#[derive(Clone, Debug)]
pub(crate) struct Compiler {
    program: OsString,
    /// The compiler's report of its version, so that a new version compiles again.
    pub version: String,
    is_clang: bool,
    /// Whether a product and what is added to it are rounded once.
    contracts: bool,
}

impl Compiler {
    /// `COTANGENT_CXX` if set, else the first of clang++ and g++ that runs.
    pub fn find() -> Result<Self, Error> {
        let candidates: Vec<OsString> = match std::env::var_os("COTANGENT_CXX") {
            Some(program) => vec![program],
            None => ["clang++", "g++", "c++"].map(OsString::from).to_vec(),
        };
        let tried = candidates.iter().map(|c| c.to_string_lossy().into_owned()).collect::<Vec<_>>().join(", ");
        candidates.into_iter().find_map(Compiler::ask).ok_or(Error::NoCompiler { tried })
    }

    /// A clang that contracts: the one in `COTANGENT_CLANG` or `COTANGENT_CXX`, or the first of the usual names.
    pub fn find_contracting() -> Result<Self, Error> {
        let named = ["COTANGENT_CLANG", "COTANGENT_CXX"].into_iter().filter_map(std::env::var_os);
        let candidates: Vec<OsString> = named.chain(["clang++-19", "clang++"].map(OsString::from)).collect();
        let tried = candidates.iter().map(|c| c.to_string_lossy().into_owned()).collect::<Vec<_>>().join(", ");
        let found = candidates.into_iter().filter_map(Compiler::ask).find(|compiler| compiler.is_clang);
        found
            .filter(|_| fuses())
            .map(|compiler| Compiler { contracts: true, ..compiler })
            .ok_or(Error::NoCompiler { tried })
    }

    fn ask(program: OsString) -> Option<Self> {
        let output = Command::new(&program).arg("--version").output().ok().filter(|o| o.status.success())?;
        let version = String::from_utf8_lossy(&output.stdout).into_owned();
        let is_clang = version.contains("clang");
        Some(Compiler { program, version, is_clang, contracts: false })
    }

    /// Returns all options except file names; they are part of the cache's key.
    pub fn flags(&self, Build { checks, casts, double, whole }: Build) -> Vec<&'static str> {
        let mut flags = vec![
            "-std=c++17",
            "-g1",
            "-fPIC",
            "-fno-exceptions",
            "-fno-rtti",
            "-fno-threadsafe-statics",
            "-fvisibility=hidden",
            "-fno-delete-null-pointer-checks",
            "-ftrivial-auto-var-init=pattern",
            "-Werror=vla",
            "-Werror=return-type",
            // A lane's stack is 256 KiB, and no GPU has as much private memory as this allows.
            "-Wframe-larger-than=32768",
        ];
        flags.extend(SAME_BITS);
        flags.push(if self.is_clang { "-Werror=frame-larger-than" } else { "-Werror=frame-larger-than=32768" });
        flags.extend(match checks {
            Checks::Off => &["-O2", "-fwrapv"][..],
            Checks::On => &[
                "-O1",
                "-fsanitize=thread",
                "-fsanitize=integer-divide-by-zero,signed-integer-overflow,float-cast-overflow",
            ][..],
        });
        if self.contracts {
            flags.extend(["-ffp-contract=on", "-DMETAL_CONTRACTS"]);
            flags.extend(cfg!(target_arch = "x86_64").then_some("-mfma"));
        }
        // Each access is looked at, which few kernels need: memory is aligned for the types that it is declared with.
        if casts && checks == Checks::On {
            flags.extend(["-fsanitize=alignment", "-DMETAL_CASTS"]);
        }
        if double {
            flags.push("-DMETAL_DOUBLE");
        }
        if whole {
            flags.push("-DMETAL_WHOLE");
        }
        match (checks, self.is_clang) {
            (Checks::Off, _) => {}
            (Checks::On, true) => {
                flags.push("-fsanitize=array-bounds");
                flags.extend(CLANG_PASSES.into_iter().flat_map(|option| ["-mllvm", option]));
            }
            (Checks::On, false) => flags.push("-fsanitize=bounds-strict"),
        }
        flags
    }

    /// Compiles `source` to the shared object `object`, with `hooks` linked in. The shim is read from `precompiled`, a
    /// header that [`Compiler::precompile`] went over. On failure returns the compiler's errors.
    pub fn compile(
        &self,
        source: &Path,
        object: &Path,
        include: &Path,
        (hooks, precompiled): (&Path, &Path),
        build: Build,
    ) -> io::Result<Result<(), String>> {
        let command = |precompiled: Option<&Path>| {
            let mut command = self.command(object, include, build);
            if cfg!(target_os = "macos") {
                command.args(["-undefined", "dynamic_lookup"]);
            }
            if self.is_clang && build.checks == Checks::On {
                command.arg("-fno-sanitize-link-runtime");
            }
            if let Some(header) = precompiled {
                command.arg("-include").arg(header);
            }
            command.args(["-shared", "-nostdlib"]).arg(source).arg(hooks).arg("-lm");
            command
        };
        // What fails is compiled without the precompiled header: its messages name the place, whichever compiler it is,
        // and a compiler that cannot use its own header here still compiles kernels.
        match run(&mut command(Some(precompiled)))? {
            Ok(()) => Ok(Ok(())),
            Err(_) => run(&mut command(None)),
        }
    }

    /// Compiles the hooks, `source`, to the object file `object`.
    pub fn compile_hooks(
        &self,
        source: &Path,
        object: &Path,
        include: &Path,
        checks: Checks,
    ) -> io::Result<Result<(), String>> {
        run(self.command(object, include, Build::for_hooks(checks)).args(["-O2", "-c"]).arg(source))
    }

    /// Returns what the preprocessor makes of `source`. Metal's own headers are empty files of the shim.
    pub fn preprocess(&self, source: &Path, shim: &Path, folders: &[PathBuf]) -> io::Result<Result<String, String>> {
        let mut command = Command::new(&self.program);
        command.args(["-std=c++17", "-x", "c++", "-E", "-nostdinc", "-D__METAL__", "-D__METAL_VERSION__=320"]);
        command.arg("-DMETAL_FUNC=inline __attribute__((always_inline))").arg("-I").arg(shim.join("metal"));
        for folder in folders {
            command.arg("-I").arg(folder);
        }
        let output = command.arg(source).output()?;
        Ok(match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        })
    }

    /// Reads the header `source` once for all kernels of the same build. A compiler takes what it made of `x.h` from
    /// `x.h.gch` beside it, if that fits the call.
    pub fn precompile(
        &self,
        source: &Path,
        object: &Path,
        include: &Path,
        build: Build,
    ) -> io::Result<Result<(), String>> {
        run(self.command(object, include, build).args(["-x", "c++-header"]).arg(source))
    }

    fn command(&self, object: &Path, include: &Path, build: Build) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.flags(build)).arg("-I").arg(include).arg("-o").arg(object);
        command
    }
}

/// Returns whether this machine multiplies and adds in one instruction.
fn fuses() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("fma");
    #[cfg(not(target_arch = "x86_64"))]
    return true;
}

fn run(command: &mut Command) -> io::Result<Result<(), String>> {
    let output = command.output()?;
    let messages = String::from_utf8_lossy(&output.stderr);
    Ok(match output.status.success() {
        true => Ok(()),
        false => Err(messages.into_owned()),
    })
}

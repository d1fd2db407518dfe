//! LLVM's tools as programs: from bitcode to a shared object that the emulator runs.

use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cotangent_emulator::{Emulator, Location, Object, SAME_BITS};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::lower::{ArgumentRole, Lowered, Options, Refusal, lower};

/// The version of LLVM whose text form is read and written.
const VERSION: &str = "19";

/// The passes that replace function constants by their values and remove what these decide against.
const SPECIALISING: &str = "globalopt,function(sccp,instsimplify,simplifycfg,adce),";
/// The passes that announce accesses to memory.
const PASSES: &str = "function(bounds-checking,tsan)";
/// The option that announces a read before a write to the same place: nothing may have been written there.
const READS: &str = "-tsan-instrument-read-before-write=1";

/// LLVM's tools.
#[derive(Clone, Debug)]
pub struct Llvm {
    folder: PathBuf,
}

impl Llvm {
    /// The tools in `COTANGENT_LLVM`, or where distributions put them. `None` if they are not there.
    pub fn find() -> Option<Self> {
        let named = std::env::var_os("COTANGENT_LLVM").map(PathBuf::from);
        let usual = ["/usr/lib/llvm-19/bin", "/opt/homebrew/opt/llvm@19/bin", "/usr/local/opt/llvm@19/bin"];
        let folders = named.map_or_else(|| usual.map(PathBuf::from).to_vec(), |folder| vec![folder]);
        let has =
            |folder: &PathBuf| ["llvm-dis", "opt", "llc", "clang++"].iter().all(|tool| folder.join(tool).exists());
        folders.into_iter().find(has).map(|folder| Llvm { folder })
    }

    /// The message if the tools are missing.
    pub const MISSING: &'static str = "LLVM 19 is not here: install it (Debian: `llvm-19 clang-19`), or name the folder \
                                       of its programs in COTANGENT_LLVM";

    fn run(&self, tool: &str, arguments: &[&OsStr], input: &[u8]) -> Result<Vec<u8>, Failure> {
        let failed = |what: String| Failure::Tool { tool: tool.to_owned(), what };
        let mut command = Command::new(self.folder.join(tool));
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| failed(e.to_string()))?;
        let mut stdin = child.stdin.take();
        let output = std::thread::scope(|scope| {
            scope.spawn(|| stdin.take().map(|mut stdin| stdin.write_all(input)));
            child.wait_with_output()
        });
        let output = output.map_err(|e| failed(e.to_string()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        if !output.status.success() || said.contains("exceeds limit") {
            let first: Vec<&str> = said.lines().take(6).collect();
            return Err(failed(if first.is_empty() { output.status.to_string() } else { first.join("\n") }));
        }
        Ok(output.stdout)
    }

    /// The text form of bitcode.
    ///
    /// # Errors
    /// If LLVM does not read it.
    pub fn disassemble(&self, bitcode: &[u8]) -> Result<String, Failure> {
        let text = self.run("llvm-dis", &["-".as_ref(), "-o".as_ref(), "-".as_ref()], bitcode)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}

/// The reason why there is no object of a kernel.
#[derive(Debug)]
pub enum Failure {
    /// A source is refused, with what is said of it.
    Source(String),
    /// The module is not lowered.
    Refused(Refusal),
    /// A program failed.
    Tool {
        /// The name of the program.
        tool: String,
        /// The message of the program.
        what: String,
    },
    /// A file could not be written.
    File(PathBuf, std::io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Source(what) => f.write_str(what),
            Failure::Refused(refusal) => refusal.fmt(f),
            Failure::Tool { tool, what } => write!(f, "`{tool}` failed: {what}"),
            Failure::File(path, error) => write!(f, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for Failure {}

/// A kernel that is ready to run.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// The object for [`Emulator::run_object`].
    pub object: Object,
    /// The lowered module.
    pub lowered: Lowered,
}

/// Compiles kernels into a folder.
pub struct Workshop<'e> {
    llvm: Llvm,
    emulator: &'e Emulator,
    folder: PathBuf,
    /// The compiled shim.
    shim: PathBuf,
}

impl<'e> Workshop<'e> {
    /// A workshop that keeps objects in `folder`.
    ///
    /// # Errors
    /// If the folder cannot be made, or the shim does not compile.
    pub fn new(llvm: Llvm, emulator: &'e Emulator, folder: &Path) -> Result<Self, Failure> {
        fs::create_dir_all(folder).map_err(|e| Failure::File(folder.to_owned(), e))?;
        let shim = compiled_shim(&llvm, emulator.shim(), folder)?;
        Ok(Workshop { llvm, emulator, folder: folder.to_owned(), shim })
    }

    /// The emulator that runs what is made here.
    pub fn emulator(&self) -> &'e Emulator {
        self.emulator
    }

    /// The tools.
    pub fn llvm(&self) -> &Llvm {
        &self.llvm
    }

    /// Makes an object of a module in LLVM's text form. `name` is that of the file in which findings are placed.
    ///
    /// # Errors
    /// If the module is not lowered, or LLVM does not compile it.
    pub fn kernel(&self, name: &str, module: &str, options: &Options) -> Result<Kernel, Failure> {
        let plain = name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '_', "_");
        let file = format!("{plain}.ll");
        let lowered = lower(module, &file, options).map_err(Failure::Refused)?;
        let key = Sha256::digest(format!("{}\n{AIR}\n{PASSES}\n{READS}", lowered.text));
        let key: String = key[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let folder = self.folder.join(format!("{plain}-{key}"));
        fs::create_dir_all(&folder).map_err(|e| Failure::File(folder.clone(), e))?;
        let path = folder.join("kernel.so");
        if !path.exists() {
            write(&folder.join(&file), lowered.text.as_bytes())?;
            self.compile(&lowered.text, !lowered.constants.is_empty(), &path)?;
        }
        let site = |(function, line): &(String, u32)| (function.clone(), Location { file: file.clone(), line: *line });
        let buffers = lowered.arguments.iter().filter_map(|argument| match argument.role {
            ArgumentRole::Buffer { index, .. } => Some(index),
            ArgumentRole::Attribute(_) => None,
        });
        let object = Object {
            path,
            buffers: buffers.collect(),
            sites: lowered.sites.iter().map(site).collect(),
            files: vec![file.clone()],
        };
        Ok(Kernel { object, lowered })
    }

    fn compile(&self, text: &str, specialised: bool, object: &Path) -> Result<(), Failure> {
        // Function constants have their values now, so code that depends on other values is removed, as on a GPU.
        let constants = if specialised { SPECIALISING } else { "" };
        // Each access is announced to the emulator, and an access outside of a private array ends its thread.
        let passes = format!("-passes=always-inline,{constants}{PASSES}");
        let common: [&OsStr; 5] = [passes.as_ref(), READS.as_ref(), "-S".as_ref(), "-o".as_ref(), "-".as_ref()];
        let watched = self.llvm.run("opt", &common, text.as_bytes())?;
        // Each call gets a number of its own: LLVM would merge equal calls into one without a place.
        let watched = String::from_utf8_lossy(&watched);
        let mut parts = watched.split("call void @llvm.trap()");
        let mut numbered = parts.next().unwrap_or_default().to_owned();
        for (number, part) in parts.enumerate() {
            numbered += &format!("call void @air_private_bounds(i32 {number}){part}");
        }
        let drafts = drafts(object)?;
        let [code, draft] = ["kernel.o", "kernel.so"].map(|name| drafts.path().join(name));
        let features = if cfg!(target_arch = "x86_64") { "-mattr=+fma,+f16c" } else { "-mattr=+fullfp16" };
        let arguments: [&OsStr; 7] = [
            "-O1".as_ref(),
            "-relocation-model=pic".as_ref(),
            "-filetype=obj".as_ref(),
            features.as_ref(),
            "-o".as_ref(),
            code.as_os_str(),
            "-".as_ref(),
        ];
        self.llvm.run("llc", &arguments, numbered.as_bytes())?;
        let arguments: [&OsStr; 7] = [
            "-shared".as_ref(),
            "-nostdlib".as_ref(),
            code.as_os_str(),
            self.shim.as_os_str(),
            "-lm".as_ref(),
            "-o".as_ref(),
            draft.as_os_str(),
        ];
        self.llvm.run("clang++", &arguments, &[])?;
        fs::rename(&draft, object).map_err(|e| Failure::File(object.to_owned(), e))
    }
}

/// The shim, compiled once.
fn compiled_shim(llvm: &Llvm, include: &Path, folder: &Path) -> Result<PathBuf, Failure> {
    let key = Sha256::digest(format!("{AIR}\n{}\n{VERSION}", include.display()));
    let key: String = key[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let object = folder.join(format!("air-{key}.o"));
    if object.exists() {
        return Ok(object);
    }
    let drafts = drafts(&object)?;
    let [source, draft] = ["air.cpp", "air.o"].map(|name| drafts.path().join(name));
    write(&source, AIR.as_bytes())?;
    let flags = ["-std=c++17", "-O1", "-fPIC", "-fno-exceptions", "-fno-rtti", "-fvisibility=hidden", "-w", "-c"];
    let mut arguments: Vec<&OsStr> = flags.iter().chain(&SAME_BITS).chain(&["-I"]).map(OsStr::new).collect();
    arguments.extend([include.as_os_str(), source.as_os_str(), "-o".as_ref(), draft.as_os_str()]);
    llvm.run("clang++", &arguments, &[])?;
    fs::rename(&draft, &object).map_err(|e| Failure::File(object.clone(), e))?;
    Ok(object)
}

/// Makes a temporary folder for the files that `object` is made from; each call has its own, because threads and processes may make
/// the same object at the same time. The folder lies beside the object, so that the last step is a rename.
fn drafts(object: &Path) -> Result<TempDir, Failure> {
    let folder = object.parent().unwrap_or(Path::new("."));
    tempfile::Builder::new().prefix("draft-").tempdir_in(folder).map_err(|e| Failure::File(folder.to_owned(), e))
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    fs::write(path, bytes).map_err(|e| Failure::File(path.to_owned(), e))
}

const AIR: &str = include_str!("../shim/air.cpp");

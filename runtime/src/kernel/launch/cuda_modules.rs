//! Kernels for CUDA compiled ahead of MLX, on all cores.
//!
//! MLX compiles kernels when they first run, one after the other, and again in each process. Its headers take longer to
//! compile than the kernel does. But MLX looks into a folder before it compiles. This module writes its results there:
//! `MODULE.ptx` with the code, and `MODULE.txt` with the function that MLX looks for and its name in the code. If
//! anything is missing (NVIDIA's compiler, a folder that can be written, the one version of MLX whose folder has this
//! form), nothing is written, and MLX compiles as always. MLX also compiles a source that does not compile here, and
//! says why.
//!
//! The long part of a source is in that folder too, and MLX is given one line that includes it, because MLX copies and
//! hashes a kernel's whole program at each launch.

use std::collections::VecDeque;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use cotangent_metal::{CudaText, KernelText};

use super::nvrtc::CudaCompiler;
use crate::ffi;

/// The version of MLX whose folder has this form.
const MLX: &str = "0.32.2";

/// Set to `0`, this variable leaves all compiling to MLX.
const VARIABLE: &str = "COTANGENT_CUDA_AHEAD";

struct Job {
    /// The name of the module that MLX will ask for.
    module: String,
    /// The name of the module's function.
    entry: String,
    kernel: KernelText,
    input_shapes: Vec<Vec<usize>>,
    text: CudaText,
}

/// The jobs that are still to be compiled.
#[derive(Default)]
struct Queue {
    waiting: VecDeque<Job>,
    /// The number of jobs that are waiting or being compiled.
    unfinished: usize,
}

static QUEUE: Mutex<Queue> = Mutex::new(Queue { waiting: VecDeque::new(), unfinished: 0 });
/// The condition that there is work.
static ADDED: Condvar = Condvar::new();
/// The condition that no work is left.
static FINISHED: Condvar = Condvar::new();

/// The compiler, and the folder in which MLX looks for modules.
struct Modules {
    compiler: CudaCompiler,
    folder: PathBuf,
}

static MODULES: OnceLock<Option<Modules>> = OnceLock::new();

/// Begins to compile the function `entry` of a kernel whose module MLX will ask for.
pub(super) fn compile_ahead(
    module: String,
    entry: String,
    kernel: KernelText,
    input_shapes: Vec<Vec<usize>>,
    text: &CudaText,
) {
    let Some(modules) = MODULES.get_or_init(start) else { return };
    if modules.has(&module) {
        return;
    }
    let mut queue = lock_queue();
    queue.waiting.push_back(Job { module, entry, kernel, input_shapes, text: text.clone() });
    queue.unfinished += 1;
    ADDED.notify_one();
}

/// A line that includes the header of the text called `name`, once it lies in the folder; else the header itself, as where
/// it is empty: an author's own text has none.
pub(super) fn kept_header(name: &str, header: &str) -> String {
    if header.is_empty() {
        return String::new();
    }
    let kept = MODULES.get_or_init(start).as_ref().and_then(|modules| modules.keep_header(name, header));
    kept.unwrap_or_else(|| header.to_owned())
}

/// Finds what it takes, and starts the threads that compile.
fn start() -> Option<Modules> {
    if std::env::var_os(VARIABLE).is_some_and(|value| value == "0") || ffi::mlx_version()? != MLX {
        return None;
    }
    let compiler = CudaCompiler::find()?.for_architecture(&ffi::device_architecture()?).ok()?;
    let folder = folder(|name| std::env::var_os(name).map(PathBuf::from));
    std::fs::create_dir_all(&folder).ok()?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    for _ in 0..cores.min(16) {
        std::thread::Builder::new().name("compile for CUDA".to_owned()).spawn(work).ok()?;
    }
    ffi::before_evaluation(wait);
    Some(Modules { compiler, folder })
}

fn work() {
    loop {
        let mut queue = lock_queue();
        let job = loop {
            match queue.waiting.pop_front() {
                Some(job) => break job,
                None => queue = ADDED.wait(queue).unwrap_or_else(PoisonError::into_inner),
            }
        };
        drop(queue);
        // What fails here fails in MLX as well, which reports it. Even a panic must not keep evaluations waiting.
        let _ = catch_unwind(|| MODULES.get().and_then(Option::as_ref).map(|modules| modules.make(&job)));
        let mut queue = lock_queue();
        queue.unfinished -= 1;
        if queue.unfinished == 0 {
            FINISHED.notify_all();
        }
    }
}

/// Returns when everything is compiled that was begun; MLX would otherwise compile it again.
fn wait() {
    let mut queue = lock_queue();
    while queue.unfinished > 0 {
        queue = FINISHED.wait(queue).unwrap_or_else(PoisonError::into_inner);
    }
}

fn lock_queue() -> MutexGuard<'static, Queue> {
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the folder in which MLX keeps machine code: the one that its variable names, or one below the system's
/// temporary folder, which C++ looks for in four variables.
fn folder(variable: impl Fn(&str) -> Option<PathBuf>) -> PathBuf {
    variable("MLX_PTX_CACHE_DIR").unwrap_or_else(|| {
        let temporary = ["TMPDIR", "TMP", "TEMP", "TEMPDIR"].into_iter().find_map(variable);
        temporary.unwrap_or_else(|| PathBuf::from("/tmp")).join("mlx").join(MLX).join("ptx")
    })
}

impl Modules {
    fn file(&self, name: &str, extension: &str) -> PathBuf {
        self.folder.join(format!("{name}.{extension}"))
    }

    fn has(&self, module: &str) -> bool {
        self.file(module, "ptx").exists()
    }

    fn make(&self, job: &Job) -> Result<(), String> {
        let Job { module, entry, .. } = job;
        let shapes: Vec<&[usize]> = job.input_shapes.iter().map(Vec::as_slice).collect();
        let code = self.compiler.compile(entry, &job.kernel, &shapes, &job.text)?;
        // MLX looks only for the code, so the code is written last.
        write_whole(&self.file(module, "txt"), format!("mlx::core::cu::{entry}\t{entry}\n").as_bytes())?;
        write_whole(&self.file(module, "ptx"), &code)
    }

    fn keep_header(&self, name: &str, header: &str) -> Option<String> {
        let file = self.file(name, "cuh");
        let path = file.to_str().filter(|path| !path.contains(['"', '\\', '\n']))?;
        if !file.exists() {
            write_whole(&file, header.as_bytes()).ok()?;
        }
        Some(format!("#include \"{path}\"\n"))
    }
}

/// A process that finds the file finds all of it.
fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), String> {
    let draft = path.with_extension(format!("{}-{:?}", std::process::id(), std::thread::current().id()));
    let written = std::fs::write(&draft, bytes).and_then(|()| std::fs::rename(&draft, path));
    written.map_err(|error| {
        // A draft that is left behind does no harm.
        let _ = std::fs::remove_file(&draft);
        format!("cannot write `{}`: {error}", path.display())
    })
}

#[cfg(test)]
mod tests {
    use super::super::cuda::tests::{TRANSLATED, call};
    use super::super::cuda::text;
    use super::super::text::{kernel_text, shape};
    use super::*;
    use crate::Dtype;

    #[test]
    fn mlx_is_the_version_whose_ways_are_known() {
        // If MLX's version is another one, nothing is compiled ahead, and a first step on a GPU takes a minute longer.
        let version = ffi::mlx_version().unwrap();
        assert_eq!(version, MLX, "read how MLX {version} finds modules in its folder, then change `MLX` here");
    }

    #[test]
    fn the_folder_is_the_one_that_mlx_looks_into() {
        let none = |_: &str| None;
        assert_eq!(folder(none), Path::new("/tmp/mlx/0.32.2/ptx"));
        assert_eq!(folder(|name| (name == "TMP").then(|| "/t".into())), Path::new("/t/mlx/0.32.2/ptx"));
        assert_eq!(folder(|name| (name == "MLX_PTX_CACHE_DIR").then(|| "/p".into())), Path::new("/p"));
    }

    #[test]
    fn code_and_its_name_are_left_where_mlx_finds_them() {
        let Some(compiler) = CudaCompiler::find() else {
            eprintln!("SKIPPED: no NVRTC; `cargo xtask test` brings one, or name a libnvrtc.so in COTANGENT_NVRTC");
            return;
        };
        let folder = tempfile::tempdir().unwrap();
        let modules = Modules { compiler, folder: folder.path().to_owned() };
        call(&TRANSLATED, (3, 7), Dtype::F16, true, |request, inputs, grid| {
            let text = text(request, inputs, grid).unwrap();
            let kernel = kernel_text(request, inputs).unwrap();
            let (module, entry) = ("custom_kernel_scaled_1_2a", "custom_kernel_scaled_1");
            let input_shapes = inputs.iter().map(shape).collect();
            let job = Job { module: module.to_owned(), entry: entry.to_owned(), kernel, input_shapes, text };
            assert!(!modules.has(module));
            modules.make(&job).unwrap();
            assert!(modules.has(module));
            let names = std::fs::read_to_string(folder.path().join(format!("{module}.txt"))).unwrap();
            assert_eq!(names, format!("mlx::core::cu::{entry}\t{entry}\n"));
            let code = std::fs::read(folder.path().join(format!("{module}.ptx"))).unwrap();
            assert!(code.starts_with(b"\x7fELF"));
            let symbol = format!("{entry}\0").into_bytes();
            assert!(code.windows(symbol.len()).any(|bytes| bytes == symbol), "the function keeps its name");
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "a draft was left");

            let header = &job.text.header;
            let line = modules.keep_header("scaled_1", header).unwrap();
            let path = line.strip_prefix("#include \"").and_then(|rest| rest.strip_suffix("\"\n")).unwrap();
            assert_eq!(std::fs::read_to_string(path).unwrap(), *header);
            let missing = Modules { folder: folder.path().join("missing"), ..modules };
            assert_eq!(missing.keep_header("scaled_1", header), None);
        });
    }
}

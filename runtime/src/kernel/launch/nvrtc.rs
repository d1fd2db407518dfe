//! NVIDIA's run-time compiler (NVRTC), which MLX uses: it compiles for a GPU and needs none.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fmt, io};

use cotangent_metal::{CudaText, CudaUnit, KernelText, batches, content_key};
use libloading::Library;

/// Compiles texts for CUDA as MLX would, to machine code: of the H100 (sm_90), or of another architecture.
pub struct CudaCompiler {
    library: Library,
    version: (c_int, c_int),
    /// The architecture, as an option of the compiler.
    architecture: CString,
}

type Program = *mut c_void;
type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;
type Create =
    unsafe extern "C" fn(*mut Program, *const c_char, *const c_char, c_int, *const c_void, *const c_void) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Bytes = unsafe extern "C" fn(Program, *mut u8) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;

impl CudaCompiler {
    /// The library that `COTANGENT_NVRTC` names (`nvidia-cuda-nvrtc` from the Python package index has one), or the
    /// system's. `None` if there is none: then say so and go on.
    pub fn find() -> Option<Self> {
        let named = std::env::var_os("COTANGENT_NVRTC").into_iter();
        let usual = ["libnvrtc.so.13", "libnvrtc.so.12"].into_iter().map(Into::into);
        // SAFETY: NVIDIA's library has no initialisers that matter here.
        let library = named.chain(usual).find_map(|name| unsafe { Library::new(name) }.ok())?;
        let mut version = (0, 0);
        // SAFETY: the signature is nvrtc.h's; writes two integers.
        let status = unsafe { library.get::<Version>(b"nvrtcVersion").ok()?(&mut version.0, &mut version.1) };
        (status == 0).then(|| CudaCompiler { library, version, architecture: c"--gpu-architecture=sm_90".to_owned() })
    }

    /// The same for GPUs of another architecture, such as `sm_120`.
    ///
    /// # Errors
    /// What is no architecture's name.
    pub fn for_architecture(self, name: &str) -> Result<Self, String> {
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("`{name}` is no architecture"));
        }
        let architecture = CString::new(format!("--gpu-architecture={name}")).map_err(|error| error.to_string())?;
        Ok(CudaCompiler { architecture, ..self })
    }

    /// Machine code of a kernel with inputs of these shapes, as the function `entry` without mangling.
    ///
    /// # Errors
    /// What the compiler says of the text, with the kernel's own files and lines.
    pub fn compile(
        &self,
        entry: &str,
        kernel: &KernelText,
        input_shapes: &[&[usize]],
        text: &CudaText,
    ) -> Result<Vec<u8>, String> {
        let unit = CudaUnit { kernel, input_shapes: input_shapes.to_vec(), text };
        self.compile_source(&unit.source(entry), &[])
    }

    /// Compiles all, on all cores and several in one program, and says which are refused and why, by their numbers. What
    /// was accepted once is not compiled again as long as its mark lies in `folder`.
    ///
    /// # Errors
    /// A folder that cannot be written.
    pub fn refused(&self, units: &[CudaUnit<'_>], folder: &Path) -> io::Result<Vec<(usize, String)>> {
        std::fs::create_dir_all(folder)?;
        let mark = |unit: &CudaUnit<'_>| {
            let key = content_key([unit.source("entry").as_str(), &self.to_string()]);
            folder.join(format!("cuda-{key:032x}"))
        };
        let new: Vec<usize> = (0..units.len()).filter(|&unit| !mark(&units[unit]).exists()).collect();
        let batches = batches(units, &new);
        // This code never runs, so it need not be fast: all stages of the compiler run in a third of the time.
        let quick: &[&CStr] = if self.version.0 >= 13 { &[c"--Ofast-compile=max"] } else { &[] };
        let next = AtomicUsize::new(0);
        let compile = || {
            let mut refused = Vec::new();
            while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
                let together =
                    batch.len() > 1 && self.compile_source(&CudaUnit::source_of_all(units, batch), quick).is_ok();
                for &unit in batch {
                    let alone = || self.compile_source(&units[unit].source("entry"), quick).map(drop);
                    match if together { Ok(()) } else { alone() } {
                        Ok(()) => std::fs::write(mark(&units[unit]), [])?,
                        Err(log) => refused.push((unit, log)),
                    }
                }
            }
            io::Result::Ok(refused)
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut refused = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..cores).map(|_| scope.spawn(compile)).collect();
            let results = workers.into_iter().map(|worker| match worker.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            });
            results.collect::<io::Result<Vec<_>>>()
        })?
        .concat();
        refused.sort();
        Ok(refused)
    }

    fn compile_source(&self, source: &str, more: &[&CStr]) -> Result<Vec<u8>, String> {
        let source = CString::new(source).map_err(|_| "the text holds a zero byte".to_owned())?;
        let options: Vec<_> = [self.architecture.as_c_str()].iter().chain(more).map(|option| option.as_ptr()).collect();
        let missing = |error: libloading::Error| error.to_string();
        // SAFETY: signatures as in nvrtc.h; pointers are valid for the calls, buffers as large as asked for.
        unsafe {
            let create = self.library.get::<Create>(b"nvrtcCreateProgram").map_err(missing)?;
            let compile = self.library.get::<Compile>(b"nvrtcCompileProgram").map_err(missing)?;
            let destroy = self.library.get::<Destroy>(b"nvrtcDestroyProgram").map_err(missing)?;
            let mut program: Program = std::ptr::null_mut();
            let null = std::ptr::null();
            if create(&mut program, source.as_ptr(), c"kernel.cu".as_ptr(), 0, null, null) != 0 {
                return Err("NVRTC makes no program".into());
            }
            let failed = compile(program, options.len() as c_int, options.as_ptr()) != 0;
            let (size, bytes): (&[u8], &[u8]) = match failed {
                true => (b"nvrtcGetProgramLogSize", b"nvrtcGetProgramLog"),
                false => (b"nvrtcGetCUBINSize", b"nvrtcGetCUBIN"),
            };
            let size = self.library.get::<Size>(size).map_err(missing)?;
            let bytes = self.library.get::<Bytes>(bytes).map_err(missing)?;
            let mut length = 0;
            size(program, &mut length);
            let mut result = vec![0u8; length];
            bytes(program, result.as_mut_ptr());
            destroy(&mut program);
            match failed {
                true => Err(String::from_utf8_lossy(&result).trim_end_matches(char::from(0)).to_owned()),
                false => Ok(result),
            }
        }
    }
}

impl fmt::Display for CudaCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NVRTC {}.{}", self.version.0, self.version.1)
    }
}

impl fmt::Debug for CudaCompiler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CudaCompiler").field("version", &self.version).finish_non_exhaustive()
    }
}

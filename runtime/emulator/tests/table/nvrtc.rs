//! NVIDIA's run-time compiler, from its Python wheel or a CUDA installation: compiles, needs no GPU.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::LazyLock;

use cotangent_emulator::{CudaText, Dtype, GRID_INPUT, KernelText};
use libloading::Library;

static LIBRARY: LazyLock<Option<Library>> = LazyLock::new(|| {
    let named = std::env::var_os("COTANGENT_NVRTC").into_iter();
    let usual = ["libnvrtc.so.13", "libnvrtc.so.12"].into_iter().map(Into::into);
    // SAFETY: NVIDIA's library has no initialisers that matter here.
    named.chain(usual).find_map(|name| unsafe { Library::new(name) }.ok())
});

pub fn is_there() -> bool {
    LIBRARY.is_some()
}

/// What MLX's `cuda_kernel` makes of header and source, but for its own includes.
pub fn as_mlx_does(kernel: &KernelText, text: &CudaText, shapes: &[&[usize]]) -> String {
    let ty = |d: Dtype| match d {
        Dtype::F16 => "__half",
        Dtype::Bf16 => "__nv_bfloat16",
        Dtype::F32 => "float",
        Dtype::Bool => "bool",
        Dtype::I32 => "int",
        Dtype::U32 => "unsigned int",
        Dtype::I8 => "signed char",
        Dtype::U8 => "unsigned char",
        Dtype::I16 => "short",
        Dtype::U16 => "unsigned short",
        Dtype::I64 => "long",
        Dtype::U64 => "unsigned long",
    };
    let mut parameters = Vec::new();
    for (port, shape) in kernel.inputs.iter().zip(shapes) {
        parameters.push(format!("const {}* {}", ty(port.dtype), port.name));
        if !shape.is_empty() {
            for (suffix, declared) in
                [("shape", "const Array<int>"), ("strides", "const Array<long>"), ("ndim", "const int")]
            {
                let name = format!("{}_{suffix}", port.name);
                if text.source.contains(&name) {
                    parameters.push(format!("{declared} {name}"));
                }
            }
        }
    }
    if text.reads_grid {
        parameters.push(format!("const int* {GRID_INPUT}"));
    }
    parameters.extend(kernel.outputs.iter().map(|port| format!("{}* {}", ty(port.dtype), port.name)));
    format!(
        "struct __half {{ unsigned short x; }};\nstruct __nv_bfloat16 {{ unsigned short x; }};\ntemplate <class T> struct Array \
         {{ T at[10]; __device__ const T* data() const {{ return at; }} }};\n{}\nextern \"C\" __global__ void \
         custom_kernel({}) {{\n{}\n}}\n",
        text.header,
        parameters.join(", "),
        text.source
    )
}

/// Compiles to machine code of the H100 (sm_90).
pub fn compile(source: &str) -> Result<Vec<u8>, String> {
    let library = LIBRARY.as_ref().ok_or("no NVRTC")?;
    let source = CString::new(source).map_err(|e| e.to_string())?;
    let options = [c"--gpu-architecture=sm_90"].map(CStr::as_ptr);
    type Program = *mut c_void;
    type Create =
        unsafe extern "C" fn(*mut Program, *const c_char, *const c_char, c_int, *const c_void, *const c_void) -> c_int;
    type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
    type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
    type Bytes = unsafe extern "C" fn(Program, *mut u8) -> c_int;
    // SAFETY: signatures as in nvrtc.h; pointers are valid for the calls, buffers as large as asked for.
    unsafe {
        let missing = |e: libloading::Error| e.to_string();
        let create = library.get::<Create>(b"nvrtcCreateProgram").map_err(missing)?;
        let compile = library.get::<Compile>(b"nvrtcCompileProgram").map_err(missing)?;
        let mut program: Program = std::ptr::null_mut();
        let null = std::ptr::null();
        if create(&mut program, source.as_ptr(), c"kernel.cu".as_ptr(), 0, null, null) != 0 {
            return Err("nvrtcCreateProgram failed".into());
        }
        let failed = compile(program, 1, options.as_ptr()) != 0;
        let (size, bytes): (&[u8], &[u8]) = match failed {
            true => (b"nvrtcGetProgramLogSize", b"nvrtcGetProgramLog"),
            false => (b"nvrtcGetCUBINSize", b"nvrtcGetCUBIN"),
        };
        let size = library.get::<Size>(size).map_err(missing)?;
        let bytes = library.get::<Bytes>(bytes).map_err(missing)?;
        let mut length = 0;
        size(program, &mut length);
        let mut result = vec![0u8; length];
        bytes(program, result.as_mut_ptr());
        if failed {
            Err(String::from_utf8_lossy(&result).trim_end_matches(char::from(0)).to_owned())
        } else {
            Ok(result)
        }
    }
}

//! The emulator: compiles kernels once, runs them as often as asked.

use std::collections::HashMap;
use std::ffi::c_void;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::build::{Build, Cache, Compiler, Image, MIXED_ARMS, cache_error, explain};
use crate::launch_check::check_launch;
use crate::machine::{Arena, Contents, Dispatch, Entry, Geometry, Placement, StackPool};
use crate::{
    Buffer, Checks, Dtype, Error, Finding, FindingKind, KernelText, Launch, Object, Port, Run, Source, report,
};
use cotangent_metal::content_key;
use cotangent_metal::limits::{MAX_BUFFERS, MAX_THREADS};
use cotangent_metal::translate::{Argument, Unit, arguments, first_use, host_unit};

type Images = Mutex<HashMap<u128, Arc<Image>>>;

/// Runs kernels. Compiled ones are kept, in this process and in a folder.
pub struct Emulator {
    compiler: Compiler,
    cache: Cache,
    images: Images,
    /// The images by what was asked for, so that a text is read once.
    asked: Images,
    stacks: StackPool,
}

/// Threads that Metal allows in a threadgroup.
pub(crate) const THREADS: usize = MAX_THREADS as usize;

impl Emulator {
    /// An emulator that keeps compiled kernels in `COTANGENT_EMULATOR_CACHE`, or else in the user's cache folder.
    ///
    /// # Errors
    /// If there is no C++ compiler, or the folder cannot be written.
    pub fn new() -> Result<Self, Error> {
        Emulator::with_cache(&Cache::default_folder())
    }

    /// An emulator that keeps compiled kernels in `folder`.
    ///
    /// # Errors
    /// As for [`Emulator::new`].
    pub fn with_cache(folder: &Path) -> Result<Self, Error> {
        Emulator::from_parts(Compiler::find()?, folder)
    }

    /// An emulator as [`Emulator::with_cache`] that rounds a product and what is added to it once, as GPUs do: contraction
    /// as clang has it, and Apple's compiler, whose `half` and `bfloat` it does not reach here. Sums over lanes, of matrices
    /// and of tiles stay as they are.
    ///
    /// # Errors
    /// As for [`Emulator::new`]; also if there is no clang, or this machine has no such instruction.
    pub fn contracting(folder: &Path) -> Result<Self, Error> {
        Emulator::from_parts(Compiler::find_contracting()?, folder)
    }

    fn from_parts(compiler: Compiler, folder: &Path) -> Result<Self, Error> {
        let (images, asked) = Default::default();
        Ok(Emulator { compiler, cache: Cache::open(folder)?, images, asked, stacks: StackPool::default() })
    }

    /// The emulator that a process shares.
    ///
    /// # Errors
    /// As for [`Emulator::new`]; another call tries again.
    pub fn global() -> Result<&'static Self, Error> {
        static GLOBAL: OnceLock<Emulator> = OnceLock::new();
        match GLOBAL.get() {
            Some(emulator) => Ok(emulator),
            None => Emulator::new().map(|new| GLOBAL.get_or_init(|| new)),
        }
    }

    /// Compiles the kernel, unless that was done before, and runs one launch of it.
    ///
    /// # Errors
    /// If the text does not compile or asks for what is not modelled, or the launch does not fit the kernel. Defects
    /// that show when it runs are not errors but findings.
    pub fn run(&self, kernel: &KernelText, launch: &Launch<'_>) -> Result<Run, Error> {
        self.run_image(kernel, launch, |arguments| self.image(kernel, arguments, launch.checks))
    }

    /// Runs one launch of a kernel that something else has compiled: `object` takes the kernel's buffers in the order in
    /// which MLX binds them, whatever numbers it gives them. It runs in this process: code that leaves its stack takes the
    /// process down.
    ///
    /// # Errors
    /// If the object cannot be loaded, or the launch does not fit the kernel.
    pub fn run_compiled(&self, object: &Object, kernel: &KernelText, launch: &Launch<'_>) -> Result<Run, Error> {
        self.run_image(kernel, launch, |_| object.load().map(Arc::new))
    }

    /// Runs one launch of the image that `image` makes for the kernel's arguments.
    fn run_image(
        &self,
        kernel: &KernelText,
        launch: &Launch<'_>,
        image: impl FnOnce(&[Argument<'_>]) -> Result<Arc<Image>, Error>,
    ) -> Result<Run, Error> {
        check_launch(kernel, launch)?;
        let shapes: Vec<&[usize]> = launch.inputs.iter().map(|b| b.shape.as_slice()).collect();
        let arguments = arguments(kernel, &shapes);
        let geometry = Geometry::new(launch.grid, launch.threadgroup);
        let mut limits = limit_findings(&arguments, launch);
        limits.extend(ignored_strides(kernel, launch));
        let outputs = || kernel.outputs.iter().zip(&launch.output_shapes);
        if geometry.threads_per_threadgroup() > THREADS {
            let outputs = outputs().map(|(p, s)| vec![0; s.iter().product::<usize>() * p.dtype.size()]).collect();
            return Ok(Run { outputs, findings: limits, notes: Vec::new(), threads: 0 });
        }
        let image = image(&arguments)?;

        // Shapes and strides are in buffers of their own, which are watched like any other.
        let metadata = Metadata::new(launch);
        let contents: Vec<(String, Dtype, Contents<'_>)> = arguments
            .iter()
            .filter_map(|argument| {
                Some(match *argument {
                    Argument::Input { port, index, .. } => {
                        let buffer = &launch.inputs[index];
                        (port.name.clone(), port.dtype, Contents::Data(buffer.bytes.as_ref(), Placement::new(buffer)))
                    }
                    Argument::Shape { port, index } => {
                        (format!("{}_shape", port.name), Dtype::I32, Contents::Data(&metadata.shapes[index], None))
                    }
                    Argument::Strides { port, index } => {
                        (format!("{}_strides", port.name), Dtype::I64, Contents::Data(&metadata.strides[index], None))
                    }
                    Argument::Ndim { port, index } => {
                        (format!("{}_ndim", port.name), Dtype::I32, Contents::Data(&metadata.ndims[index], None))
                    }
                    Argument::Output { port, index } => {
                        let bytes = launch.output_shapes[index].iter().product::<usize>() * port.dtype.size();
                        let contents = match kernel.init_value {
                            Some(value) => Contents::Filled(bytes, port.dtype.encode(f64::from(value))),
                            None => Contents::Garbage(bytes),
                        };
                        (port.name.clone(), port.dtype, contents)
                    }
                    Argument::Attribute { .. } => return None,
                })
            })
            .collect();

        // This is where index 0 lies, in bytes.
        let first = |argument: &Argument<'_>| match *argument {
            Argument::Input { port, index, .. } => launch.inputs[index].first * port.dtype.size(),
            _ => 0,
        };
        let firsts: Vec<usize> = arguments.iter().filter(|a| a.is_buffer()).map(first).collect();

        let addresses = |address: &dyn Fn(usize) -> *mut c_void| {
            firsts.iter().enumerate().map(|(i, &first)| address(i).wrapping_byte_add(first)).collect()
        };
        let (entries, stopped, arena) =
            self.execute(&image, geometry, &contents, &addresses, launch, kernel.atomic_outputs);

        let mut findings = limits;
        // An access between an input's elements means that the kernel ignores the strides, which is one finding and not
        // two.
        let strided = findings.iter().filter(|f| f.kind == FindingKind::IgnoredStrides);
        let ignored: Vec<Option<String>> = strided.map(|f| f.subject.clone()).collect();
        let seen = report::findings(&image, &geometry, entries);
        findings
            .extend(seen.into_iter().filter(|f| f.kind != FindingKind::OutOfBounds || !ignored.contains(&f.subject)));
        let first_output = contents.len() - kernel.outputs.len();
        // If a thread was stopped, elements are unwritten because of that, and are not reported. They are not reported either
        // if threads race on the output: they may have written the same elements instead.
        let raced: Vec<Option<String>> =
            findings.iter().filter(|f| f.kind == FindingKind::DataRace).map(|f| f.subject.clone()).collect();
        let is_cause = |name: &String| !stopped && !raced.contains(&Some(name.clone()));
        for (i, port) in kernel.outputs.iter().enumerate().filter(|(_, port)| is_cause(&port.name)) {
            findings.extend(arena.unwritten(first_output + i).map(|(count, first)| {
                let total = launch.output_shapes[i].iter().product::<usize>();
                unwritten(&port.name, count, first, total)
            }));
        }
        let outputs = (0..kernel.outputs.len()).map(|i| arena.contents(first_output + i)).collect();
        let threads = launch.grid.iter().map(|&n| u64::from(n)).product();
        let (notes, findings) = findings.into_iter().partition(|f: &Finding| f.kind.is_note());
        Ok(Run { outputs, findings, notes, threads })
    }

    /// Runs all threads over `contents`. `addresses` makes the arguments of the image's entry, given the address of each of
    /// `contents`. Returns what was seen, whether a thread was stopped, and the memory as it is then.
    pub(crate) fn execute(
        &self,
        image: &Image,
        geometry: Geometry,
        contents: &[(String, Dtype, Contents<'_>)],
        addresses: &dyn Fn(&dyn Fn(usize) -> *mut c_void) -> Vec<*mut c_void>,
        launch: &Launch<'_>,
        serial: bool,
    ) -> (Vec<Entry>, bool, Arena) {
        let all_cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let few = geometry.total() < 2 || launch.grid.iter().map(|&n| u64::from(n)).product::<u64>() < 512;
        let workers = if few || serial { 1 } else { launch.workers.unwrap_or_else(all_cores).max(1) };
        let attempt = |workers: usize| {
            let arena = Arena::new(contents, launch.checks == Checks::On);
            let buffers = addresses(&|i| arena.buffer_address(i) as *mut c_void);
            let dispatch = Dispatch::new(image, geometry, &arena, buffers, launch, workers > 1);
            let entries = dispatch.run(workers.min(geometry.total() as usize), &self.stacks);
            let stopped = dispatch.stopped.load(Ordering::Relaxed);
            drop(dispatch);
            entries.map(|entries| (entries, stopped, arena))
        };
        // One worker repeats a launch that found a defect, so that the report does not depend on how cores raced.
        let Some(done) = attempt(workers).or_else(|| attempt(1)) else { unreachable!() };
        done
    }

    /// The folder of the C++ that kernels include and are linked with: `host.h`, and `hooks.cpp`, which is compiled once.
    pub fn shim(&self) -> &Path {
        &self.cache.include
    }

    /// The compiled kernel. Two threads that ask for it at once may both compile it, to the same effect.
    fn image(&self, kernel: &KernelText, arguments: &[Argument<'_>], checks: Checks) -> Result<Arc<Image>, Error> {
        let KernelText { name, header, body, inputs, outputs, template, init_value, atomic_outputs } = kernel;
        let call = (header.line, body.line, inputs, outputs, template, init_value, atomic_outputs, arguments, checks);
        let key = content_key([name, &header.text, &header.file, &body.text, &body.file, format!("{call:?}").as_str()]);
        let asked = || self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = asked().get(&key) {
            return Ok(image.clone());
        }
        let sources = [body, header];
        let compile = |unit: Unit| {
            let build = Build { checks, casts: unit.casts, double: kernel.is_double(), whole: false };
            self.image_of(&kernel.name, sources, Vec::new(), unit, build)
        };
        let image = match compile(host_unit(kernel, arguments, false)?) {
            // Metal takes `half` and `float` there, and C++ does not. Few kernels need the second attempt.
            Err(Error::Compile { messages, .. }) if messages.contains(MIXED_ARMS) => {
                compile(host_unit(kernel, arguments, true)?)
            }
            image => image,
        }?;
        Ok(asked().entry(key).or_insert(image).clone())
    }

    /// The compiled unit of a kernel whose text is `sources`, body and header; `files` are others that findings may name.
    pub(crate) fn image_of(
        &self,
        kernel: &str,
        sources: [&Source; 2],
        files: Vec<String>,
        unit: Unit,
        build: Build,
    ) -> Result<Arc<Image>, Error> {
        let flags = self.compiler.flags(build).join(" ");
        let key = content_key([unit.text.as_str(), &flags, &self.compiler.version]);
        let images = || self.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = images().get(&key) {
            return Ok(image.clone());
        }
        let (source, object) = self.cache.files(key);
        if !object.exists() {
            self.cache.write(&source, unit.text.as_bytes())?;
            let hooks = self.hooks(build.checks)?;
            let include = &self.cache.include;
            let failed =
                |messages: String| Error::Compile { kernel: kernel.to_owned(), messages: explain(&messages, &sources) };
            let precompiled = self.precompiled(build)?;
            let parts = (hooks.as_path(), precompiled.as_path());
            let compiled = Cache::make(&object, |draft| self.compiler.compile(&source, draft, include, parts, build))?;
            compiled.map_err(failed)?;
        }
        let mut files = files;
        files.extend(unit.sites.iter().map(|s| s.at.file.clone()));
        files.extend(sources.map(|source| source.file.clone()));
        files.sort();
        files.dedup();
        let image = Arc::new(Image::load(&object, unit.sites, files, sources.map(Source::clone))?);
        Ok(images().entry(key).or_insert(image).clone())
    }
}

impl Emulator {
    /// A text as the preprocessor leaves it, or what the preprocessor said.
    pub(crate) fn preprocess(&self, source: &Source, folders: &[PathBuf]) -> Result<Result<String, String>, Error> {
        let text = format!("#line {} \"{}\"\n{}", source.line.max(1), source.file, source.text);
        let (path, _) = self.cache.files(content_key(["preprocessed", &text]));
        self.cache.write(&path, text.as_bytes())?;
        let expanded = self.compiler.preprocess(&path, &self.cache.include, folders);
        let expanded = expanded.map_err(|e| cache_error(&path, e))?;
        let own = path.display().to_string();
        // Lines before the first line of the source come from the preprocessor.
        let begun = |text: String| {
            let begin = text.find(&format!("\"{}\"", source.file)).and_then(|at| text[..at].rfind('\n'));
            begin.map_or(text.clone(), |begin| text[begin + 1..].to_owned())
        };
        Ok(expanded.map(begun).map_err(|messages| messages.replace(&own, &source.file)))
    }

    /// The compiled hooks, which are the same for all kernels.
    fn hooks(&self, checks: Checks) -> Result<PathBuf, Error> {
        let include = &self.cache.include;
        let object = include.join(format!("hooks-{:032x}.o", self.key_of(Build::for_hooks(checks))));
        let source = include.join("hooks.cpp");
        own_part(&object, |draft| self.compiler.compile_hooks(&source, draft, include, checks))?;
        Ok(object)
    }

    /// A header that stands for the shim, with what the compiler made of it beside it: reading the shim is most of the
    /// work of compiling a small kernel.
    fn precompiled(&self, build: Build) -> Result<PathBuf, Error> {
        let include = &self.cache.include;
        let header = include.join(format!("host-{:032x}.h", self.key_of(build)));
        if !header.exists() {
            self.cache.write(&header, b"#include \"host.h\"\n")?;
        }
        let object = header.with_extension("h.gch");
        own_part(&object, |draft| self.compiler.precompile(&header, draft, include, build))?;
        Ok(header)
    }

    /// Tells what this compiler makes with these flags from what another one does, or other flags.
    fn key_of(&self, build: Build) -> u128 {
        let flags = self.compiler.flags(build).join(" ");
        content_key([flags.as_str(), &self.compiler.version])
    }
}

/// Compiles a part of the emulator that all kernels share, unless it is there.
fn own_part(object: &Path, make: impl FnOnce(&Path) -> io::Result<Result<(), String>>) -> Result<(), Error> {
    if object.exists() {
        return Ok(());
    }
    let failed = |messages| Error::Compile { kernel: "the emulator's own part".into(), messages };
    Cache::make(object, make)?.map_err(failed)
}

/// Little-endian shapes, strides and numbers of dimensions of all inputs.
struct Metadata {
    shapes: Vec<Vec<u8>>,
    strides: Vec<Vec<u8>>,
    ndims: Vec<Vec<u8>>,
}

impl Metadata {
    fn new(launch: &Launch<'_>) -> Self {
        let inputs = || launch.inputs.iter();
        Metadata {
            shapes: inputs().map(|b| b.shape.iter().flat_map(|&n| (n as i32).to_le_bytes()).collect()).collect(),
            strides: inputs().map(|b| b.element_strides().into_iter().flat_map(i64::to_le_bytes).collect()).collect(),
            ndims: inputs().map(|b| (b.shape.len() as i32).to_le_bytes().to_vec()).collect(),
        }
    }
}

fn limit_findings(arguments: &[Argument<'_>], launch: &Launch<'_>) -> Vec<Finding> {
    let limit = |message: String, advice: &str| Finding {
        kind: FindingKind::Limit,
        subject: None,
        element: None,
        place: None,
        side: None,
        other: None,
        message,
        advice: advice.into(),
        count: 1,
    };
    let mut findings = Vec::new();
    let threads: u64 = launch.threadgroup.iter().map(|&n| u64::from(n)).product();
    if threads > THREADS as u64 {
        let message = format!("a threadgroup of {threads} threads; Metal allows {THREADS}");
        findings.push(limit(message, "use smaller threadgroups; with this size nothing was run"));
    }
    let buffers = arguments.iter().filter(|a| a.is_buffer()).count();
    if buffers > MAX_BUFFERS {
        let message = format!("{buffers} buffers, shapes and strides included; Metal allows {MAX_BUFFERS}");
        findings.push(limit(message, "pack small inputs into one, or split the kernel"));
    }
    findings
}

/// Inputs that do not lie row by row, in a kernel that never asks for their strides.
fn ignored_strides(kernel: &KernelText, launch: &Launch<'_>) -> Vec<Finding> {
    let inputs = kernel.inputs.iter().zip(&launch.inputs);
    let ignored = inputs.filter(|(port, buffer)| {
        let asked = kernel.body.text.contains(&format!("{}_strides", port.name));
        !asked && !buffer.is_row_contiguous() && !buffer.bytes.is_empty()
    });
    let finding = |(port, buffer): (&Port, &Buffer<'_>)| {
        let (name, strides) = (&port.name, buffer.element_strides());
        Some(Finding {
            kind: FindingKind::IgnoredStrides,
            subject: Some(name.clone()),
            element: None,
            place: Some(first_use(&kernel.body, name)?),
            side: None,
            other: None,
            message: format!(
                "`{name}` has shape {:?} and strides {strides:?} here, and the kernel reads it without them",
                buffer.shape
            ),
            advice: format!("compute places from `{name}_strides`, or have the input made row-contiguous"),
            count: 1,
        })
    };
    ignored.filter_map(finding).collect()
}

pub(crate) fn unwritten(name: &str, count: usize, first: usize, total: usize) -> Finding {
    Finding {
        kind: FindingKind::UnwrittenOutput,
        subject: Some(name.to_owned()),
        element: Some(first as i64),
        place: None,
        side: None,
        other: None,
        message: format!("{count} of {total} elements of `{name}` were never written, the first is element {first}"),
        advice: "cover the whole output: check the grid and the guards, or give the kernel an `init_value`".into(),
        count: 1,
    }
}

const _: fn() = || {
    fn shared<T: Send + Sync>() {}
    shared::<Emulator>();
};

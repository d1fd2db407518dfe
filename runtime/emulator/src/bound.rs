//! Kernel functions whose buffers are bound by number, as Metal binds them: whole functions of a `.metal` file, and
//! functions that another compiler has made.

use std::borrow::Cow;
use std::ffi::c_void;
use std::path::PathBuf;

use crate::build::Image;
use crate::emulator::{THREADS, unwritten};
use crate::machine::{Contents, Geometry};
use crate::{Checks, Dtype, Emulator, Error, Finding, Launch, Location, Schedule, report};
use cotangent_metal::limits::MAX_THREADGROUP_BYTES;
use cotangent_metal::translate::Site;

/// Memory bound to a kernel function.
#[derive(Clone, Debug)]
pub struct Bound<'a> {
    /// The number in `[[buffer(..)]]`.
    pub index: u32,
    /// The name in findings.
    pub name: String,
    /// The element type, which decides how the memory is watched and what counts as NaN in it. A buffer of structs may
    /// have the type of bytes.
    pub dtype: Dtype,
    /// The initial content, and whether the function may write it.
    pub memory: Memory<'a>,
}

/// The content of bound memory when a function starts, little-endian.
#[derive(Clone, Debug)]
pub enum Memory<'a> {
    /// Memory that is only read.
    Read(Cow<'a, [u8]>),
    /// Memory that is read and written.
    Update(Cow<'a, [u8]>),
    /// An output, by its size in bytes: garbage until the function writes it.
    Garbage(usize),
    /// The memory of the buffer with this number, bound again, and written by one of the two. Metal's compiler takes each
    /// buffer for memory of its own, so what is written there must not be read again.
    SameAs(u32),
}

impl<'a> Bound<'a> {
    /// `values`, rounded to `dtype`, which the function only reads.
    pub fn read(index: u32, name: &str, dtype: Dtype, values: impl IntoIterator<Item = f64>) -> Bound<'static> {
        let bytes: Vec<u8> = values.into_iter().flat_map(|value| dtype.encode(value)).collect();
        Bound { index, name: name.to_owned(), dtype, memory: Memory::Read(bytes.into()) }
    }

    /// An output of this number of elements: garbage until the function writes it.
    pub fn written(index: u32, name: &str, dtype: Dtype, elements: usize) -> Bound<'a> {
        Bound { index, name: name.to_owned(), dtype, memory: Memory::Garbage(elements * dtype.size()) }
    }
}

/// One launch of a kernel function.
#[derive(Clone, Debug, Default)]
pub struct BoundLaunch<'a> {
    /// Total threads along x, y, z. Threadgroups at the edges shrink to fit.
    pub grid: [u32; 3],
    /// Threads of a threadgroup along x, y, z.
    pub threadgroup: [u32; 3],
    /// The buffers, in any order. A buffer that the function does not bind is left alone; one that it binds and that is
    /// not here is null.
    pub buffers: Vec<Bound<'a>>,
    /// The bytes of the memory behind each `[[threadgroup(n)]]` parameter of a function of a `.metal` file, by its number:
    /// multiples of 16, as in Metal.
    pub threadgroup_memory: Vec<(u32, usize)>,
    /// The order of threads.
    pub schedule: Schedule,
    /// Whether accesses to memory are checked.
    pub checks: Checks,
    /// The limit on the turns of loops, as in [`Launch::turns`].
    pub turns: Option<u32>,
    /// The number of cores, as in [`Launch::workers`].
    pub workers: Option<usize>,
}

/// The results of a launch of a kernel function.
#[derive(Clone, Debug)]
pub struct BoundRun {
    /// The bytes of each buffer that could be written, with its number, in order of numbers.
    pub buffers: Vec<(u32, Vec<u8>)>,
    /// The defects found, as in [`Run::findings`](crate::Run::findings).
    pub findings: Vec<Finding>,
    /// The notes, as in [`Run::notes`](crate::Run::notes).
    pub notes: Vec<Finding>,
}

impl BoundRun {
    /// The bytes of a buffer that could be written.
    pub fn buffer(&self, index: u32) -> Option<&[u8]> {
        self.buffers.iter().find(|(number, _)| *number == index).map(|(_, bytes)| bytes.as_slice())
    }
}

/// A kernel function that something else has compiled into a shared object: it exports `metal_kernel_entry` and calls
/// the hooks of this crate, as what [`Emulator::shim`] describes does.
#[derive(Clone, Debug)]
pub struct Object {
    /// The shared object.
    pub path: PathBuf,
    /// The numbers of the function's buffers, in the order in which the entry takes them.
    pub buffers: Vec<u32>,
    /// Calls that threads must reach together, by the number that the code passes: name and place.
    pub sites: Vec<(String, Location)>,
    /// Files of the debug information in which findings are placed.
    pub files: Vec<String>,
}

impl Object {
    pub(crate) fn load(&self) -> Result<Image, Error> {
        let sites = self.sites.iter().cloned().map(|(name, at)| Site { name, at }).collect();
        Image::load(&self.path, sites, self.files.clone(), Default::default())
    }
}

impl Emulator {
    /// Runs one launch of a compiled function. It runs in this process: code that leaves its stack takes the process down.
    ///
    /// # Errors
    /// If the object cannot be loaded, or the launch is not one that Metal would make.
    pub fn run_object(&self, object: &Object, launch: &BoundLaunch<'_>) -> Result<BoundRun, Error> {
        self.run_bound(&object.load()?, &object.buffers, launch, &object.path.display().to_string())
    }

    /// Runs one launch of a function whose entry takes the buffers of these numbers.
    pub(crate) fn run_bound(
        &self,
        image: &Image,
        taken: &[u32],
        launch: &BoundLaunch<'_>,
        name: &str,
    ) -> Result<BoundRun, Error> {
        if let Some(what) = misfit(launch) {
            return Err(Error::misfit(name, what));
        }
        let sharing =
            |index: u32| launch.buffers.iter().filter(move |b| matches!(b.memory, Memory::SameAs(n) if n == index));
        let takes =
            |bound: &Bound<'_>| taken.contains(&bound.index) || sharing(bound.index).any(|b| taken.contains(&b.index));
        let own = |bound: &&Bound<'_>| !matches!(bound.memory, Memory::SameAs(_)) && takes(bound);
        let bound: Vec<&Bound<'_>> = launch.buffers.iter().filter(own).collect();
        let contents: Vec<(String, Dtype, Contents<'_>)> = bound
            .iter()
            .map(|bound| {
                let others: String = sharing(bound.index).map(|other| format!("` and `{}", other.name)).collect();
                let contents = match &bound.memory {
                    Memory::Read(bytes) | Memory::Update(bytes) if !others.is_empty() => Contents::Shared(bytes),
                    Memory::Read(bytes) => Contents::Data(bytes, None),
                    Memory::Update(bytes) if !bytes.is_empty() => Contents::Filled(bytes.len(), bytes.to_vec()),
                    Memory::Update(_) => Contents::Garbage(0),
                    Memory::Garbage(bytes) => Contents::Garbage(*bytes),
                    Memory::SameAs(_) => Contents::Garbage(0),
                };
                (format!("{}{others}", bound.name), bound.dtype, contents)
            })
            .collect();
        let geometry = Geometry::new(launch.grid, launch.threadgroup);
        let memory = |index: u32| match launch.buffers.iter().find(|bound| bound.index == index)?.memory {
            Memory::SameAs(other) => Some(other),
            _ => Some(index),
        };
        let place = |index: &u32| bound.iter().position(|bound| Some(bound.index) == memory(*index));
        let places: Vec<Option<usize>> = taken.iter().map(place).collect();
        let order = Launch {
            grid: launch.grid,
            schedule: launch.schedule,
            checks: launch.checks,
            turns: launch.turns,
            workers: launch.workers,
            ..Launch::default()
        };
        let addresses = |address: &dyn Fn(usize) -> *mut c_void| {
            places.iter().map(|place| place.map_or(std::ptr::null_mut(), address)).collect()
        };
        let (entries, stopped, arena) = self.execute(image, geometry, &contents, &addresses, &order, false);
        let mut findings = report::findings(image, &geometry, entries);
        let mut buffers = Vec::new();
        for (i, bound) in bound.iter().enumerate() {
            if matches!(bound.memory, Memory::Read(_)) && sharing(bound.index).next().is_none() {
                continue;
            }
            let bytes = arena.contents(i);
            let total = bytes.len() / bound.dtype.size();
            if !stopped && let Some((count, first)) = arena.unwritten(i) {
                findings.push(unwritten(&bound.name, count, first, total));
            }
            buffers.push((bound.index, bytes));
        }
        buffers.sort_by_key(|(index, _)| *index);
        let (notes, findings) = findings.into_iter().partition(|f: &Finding| f.kind.is_note());
        Ok(BoundRun { buffers, findings, notes })
    }
}

/// Returns what is wrong with a launch, whatever the function.
pub(crate) fn misfit(launch: &BoundLaunch<'_>) -> Option<String> {
    let (grid, threadgroup) = (launch.grid, launch.threadgroup);
    let product = |extents: [u32; 3]| extents.iter().try_fold(1u32, |all, &n| all.checked_mul(n));
    if product(grid).is_none_or(|n| n == 0) || threadgroup.contains(&0) {
        return Some(format!("grid {grid:?} and threadgroup {threadgroup:?} must hold a thread, and fewer than 2^32"));
    }
    let threads = Geometry::new(grid, threadgroup).threads_per_threadgroup();
    if threads > THREADS {
        return Some(format!("a threadgroup of {threads} threads; Metal allows {THREADS}"));
    }
    let memory = &launch.threadgroup_memory;
    for (i, (index, bytes)) in memory.iter().enumerate() {
        if memory[..i].iter().any(|(known, _)| known == index) {
            return Some(format!("`threadgroup_memory` has two sizes for number {index}"));
        }
        let allowed = 16..=MAX_THREADGROUP_BYTES as usize;
        if !bytes.is_multiple_of(16) || !allowed.contains(bytes) {
            let wanted = format!("Metal takes multiples of 16, up to {MAX_THREADGROUP_BYTES}");
            return Some(format!("`[[threadgroup({index})]]` has {bytes} bytes; {wanted}"));
        }
    }
    launch.buffers.iter().enumerate().find_map(|(i, bound)| {
        let same = |other: &Bound<'_>| other.index == bound.index;
        if launch.buffers[..i].iter().any(same) {
            return Some(format!("two buffers have the number {}", bound.index));
        }
        let bytes = match &bound.memory {
            Memory::Read(bytes) | Memory::Update(bytes) => bytes.len(),
            Memory::Garbage(bytes) => *bytes,
            Memory::SameAs(number) => {
                let full = |other: &Bound<'_>| matches!(other.memory, Memory::Read(_) | Memory::Update(_));
                let known = launch.buffers.iter().any(|other| other.index == *number && full(other));
                return (!known).then(|| {
                    let wanted = "which must be another buffer that has content";
                    format!("buffer {} (`{}`) is the memory of buffer {number}, {wanted}", bound.index, bound.name)
                });
            }
        };
        let whole = bytes.is_multiple_of(bound.dtype.size()) && bytes <= crate::launch_check::BUFFER_BYTES;
        (!whole).then(|| format!("buffer {} (`{}`) has {bytes} bytes of {}", bound.index, bound.name, bound.dtype))
    })
}

//! Device memory of a launch and threadgroup memory of a worker, with the shadow that watches them.

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ffi::c_char;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use super::context::{Extent, PAGE, PAGE_SHIFT};
use super::placement::Placement;
use super::shadow::{Cell, Touch, Verdict};
use crate::Dtype;

/// Memory whose address does not move.
struct Block {
    memory: NonNull<u8>,
    layout: Layout,
}

impl Block {
    fn new(bytes: usize) -> Self {
        // The size is a sum of the sizes of existing buffers, rounded up.
        let layout = Layout::from_size_align(bytes.max(PAGE), PAGE).unwrap_or(Layout::new::<u8>());
        // SAFETY: the layout's size is not zero.
        let memory = unsafe { alloc(layout) };
        let Some(memory) = NonNull::new(memory) else { handle_alloc_error(layout) };
        Block { memory, layout }
    }

    fn address(&self) -> usize {
        self.memory.as_ptr() as usize
    }

    /// `bytes` from `offset` on, as they are now.
    ///
    /// # Safety
    /// Inside the block, written, and no thread writes them meanwhile.
    unsafe fn read(&self, offset: usize, bytes: usize) -> &[u8] {
        debug_assert!(offset + bytes <= self.layout.size());
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(offset), bytes) }
    }

    /// Returns bytes to write, as [`Block::read`] does to read.
    ///
    /// # Safety
    /// Inside the block, and no other thread looks at them meanwhile.
    #[expect(clippy::mut_from_ref, reason = "kernels write the same memory through pointers")]
    unsafe fn write(&self, offset: usize, bytes: usize) -> &mut [u8] {
        debug_assert!(offset + bytes <= self.layout.size());
        // SAFETY: the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr().add(offset), bytes) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the same layout.
        unsafe { dealloc(self.memory.as_ptr(), self.layout) }
    }
}

/// The content of a buffer when the kernel starts.
pub(crate) enum Contents<'d> {
    /// An input: only read. How it lies there, if not row by row.
    Data(&'d [u8], Option<Placement>),
    /// An output: its size in bytes, and the value of every element.
    Filled(usize, Vec<u8>),
    /// Memory that is bound more than once, and its content.
    Shared(&'d [u8]),
    /// An output of garbage: its size in bytes.
    Garbage(usize),
}

/// The byte of garbage: NaN in every float type.
pub(crate) const GARBAGE: u8 = 0xff;

/// A buffer in device memory.
pub(crate) struct DeviceBuffer {
    pub name: String,
    pub dtype: Dtype,
    pub begin: usize,
    pub bytes: usize,
    pub writable: bool,
    /// The layout of an input with gaps in its memory.
    pub placement: Option<Placement>,
    watch: Watch,
    shards: Vec<Mutex<Vec<Cell>>>,
    initialised: bool,
    /// Whether it is bound more than once.
    shared: bool,
}

/// The way in which memory is cut into cells.
#[derive(Clone, Copy, Debug)]
struct Watch {
    cell_bytes: usize,
}

impl Watch {
    fn new(element_bytes: usize) -> Self {
        Watch { cell_bytes: if element_bytes.is_power_of_two() { element_bytes.min(4) } else { 1 } }
    }

    /// The cells of `bytes` at `offset`, each with the bytes of it that are meant.
    fn cells(self, offset: usize, bytes: usize) -> impl Iterator<Item = (usize, u8)> {
        let size = self.cell_bytes;
        (offset / size..=(offset + bytes.max(1) - 1) / size).map(move |cell| {
            let from = offset.max(cell * size) - cell * size;
            let to = (offset + bytes).min((cell + 1) * size) - cell * size;
            (cell, ((1u16 << to) - (1u16 << from)) as u8)
        })
    }
}

/// Cells that share a lock.
const SHARD: usize = 256;

/// All device memory of a launch.
pub(crate) struct Arena {
    block: Block,
    pub buffers: Vec<DeviceBuffer>,
    /// The first belongs to no buffer; then one for each buffer.
    pub extents: Vec<Extent>,
    pub extent_of_page: Vec<u16>,
}

// SAFETY: kernels write its memory through pointers, watched by the shadow, whose cells have locks; Rust reads what
// kernels write only when none runs, or to look at an element that the asking thread has just touched.
unsafe impl Sync for Arena {}

impl Arena {
    /// Lays buffers out with a page of nothing between them, so that a small step beyond one hits no other.
    pub fn new(contents: &[(String, Dtype, Contents<'_>)], watched: bool) -> Self {
        let size = |c: &Contents<'_>| match c {
            Contents::Data(data, _) | Contents::Shared(data) => data.len(),
            Contents::Filled(bytes, _) | Contents::Garbage(bytes) => *bytes,
        };
        let mut end = PAGE;
        let begins: Vec<usize> = contents
            .iter()
            .map(|(_, _, c)| {
                let begin = end;
                end = (begin + size(c)).next_multiple_of(PAGE) + PAGE;
                begin
            })
            .collect();
        let block = Block::new(end);
        let mut arena = Arena {
            block,
            buffers: Vec::with_capacity(contents.len()),
            extents: vec![Extent { begin: 1, end: 0, read_freely: 0 }],
            extent_of_page: vec![0; end >> PAGE_SHIFT],
        };
        for ((name, dtype, contents), begin) in contents.iter().zip(begins) {
            let bytes = size(contents);
            // SAFETY: laid out above, and nothing runs yet.
            let memory = unsafe { arena.block.write(begin, bytes) };
            match contents {
                Contents::Data(data, _) | Contents::Shared(data) => memory.copy_from_slice(data),
                Contents::Filled(_, element) => {
                    memory.chunks_exact_mut(element.len()).for_each(|e| e.copy_from_slice(element))
                }
                Contents::Garbage(_) => memory.fill(GARBAGE),
            }
            let placement = match contents {
                Contents::Data(_, placement) => placement.clone().filter(Placement::has_gaps),
                _ => None,
            };
            let writable = !matches!(contents, Contents::Data(..));
            let has_nan = || memory.chunks_exact(dtype.size()).any(|e| dtype.is_nan(e));
            let read_freely = watched && !writable && placement.is_none() && !has_nan();
            let watch = Watch::new(dtype.size());
            let cells = if writable && watched { bytes.div_ceil(watch.cell_bytes) } else { 0 };
            arena.extents.push(Extent {
                begin: begin as u64,
                end: (begin + bytes) as u64,
                read_freely: read_freely.into(),
            });
            arena.buffers.push(DeviceBuffer {
                name: name.clone(),
                dtype: *dtype,
                begin,
                bytes,
                writable,
                placement,
                watch,
                shards: (0..cells.div_ceil(SHARD)).map(|_| Mutex::default()).collect(),
                initialised: matches!(contents, Contents::Filled(..) | Contents::Shared(_)),
                shared: matches!(contents, Contents::Shared(_)),
            });
            let number = arena.buffers.len() as u16;
            arena.extent_of_page[begin >> PAGE_SHIFT..(begin + bytes).div_ceil(PAGE)].fill(number);
        }
        arena
    }

    pub fn address(&self) -> usize {
        self.block.address()
    }

    pub fn bytes(&self) -> usize {
        self.extent_of_page.len() << PAGE_SHIFT
    }

    /// The address at which buffer `i` begins.
    pub fn buffer_address(&self, i: usize) -> usize {
        self.block.address() + self.buffers[i].begin
    }

    /// The buffer whose memory or whose gaps around it contain the address: its number and the offset from its start.
    pub fn nearest(&self, address: usize) -> Option<(usize, i64)> {
        let offset = address.wrapping_sub(self.address());
        if offset >= self.bytes() {
            return None;
        }
        let distance = |b: &DeviceBuffer| {
            if offset < b.begin { b.begin - offset } else { offset.saturating_sub(b.begin + b.bytes) }
        };
        let (i, buffer) = self.buffers.iter().enumerate().min_by_key(|(_, b)| distance(b))?;
        Some((i, offset as i64 - buffer.begin as i64))
    }

    /// The buffer that contains all of the access.
    pub fn find(&self, address: usize, bytes: usize) -> Option<(usize, usize)> {
        let offset = address.wrapping_sub(self.address());
        let page = *self.extent_of_page.get(offset >> PAGE_SHIFT)?;
        let buffer = self.buffers.get(usize::from(page).checked_sub(1)?)?;
        let inside = offset >= buffer.begin && offset + bytes <= buffer.begin + buffer.bytes;
        inside.then(|| (usize::from(page) - 1, offset - buffer.begin))
    }

    /// Records an access to a writable buffer.
    pub fn touch(
        &self,
        buffer: usize,
        offset: usize,
        bytes: usize,
        touch: Touch,
        reads: bool,
        writes: bool,
    ) -> Verdict {
        let buffer = &self.buffers[buffer];
        let fresh = if buffer.initialised { Cell::initialised() } else { Cell::default() };
        let mut verdict = Verdict::default();
        for (cell, mask) in buffer.watch.cells(offset, bytes) {
            let mut shard = buffer.shards[cell / SHARD].lock().unwrap_or_else(PoisonError::into_inner);
            if shard.is_empty() {
                shard.resize(SHARD, fresh);
            }
            let found = shard[cell % SHARD].touch(Touch { bytes: mask, ..touch }, reads, writes);
            verdict.race = verdict.race.or(found.race);
            verdict.uninitialised |= found.uninitialised;
            verdict.reads_back |= found.reads_back && buffer.shared;
        }
        verdict
    }

    /// Returns how many elements of a watched output were not written in full, and the first of them.
    pub fn unwritten(&self, buffer: usize) -> Option<(usize, usize)> {
        let buffer = &self.buffers[buffer];
        if buffer.initialised || buffer.shards.is_empty() {
            return None;
        }
        let size = buffer.dtype.size();
        let whole = ((1u16 << buffer.watch.cell_bytes) - 1) as u8;
        let (mut count, mut first, mut last) = (0, None, None);
        for cell in 0..buffer.bytes / buffer.watch.cell_bytes {
            let shard = buffer.shards[cell / SHARD].lock().unwrap_or_else(PoisonError::into_inner);
            let written = shard.get(cell % SHARD).is_some_and(|c| c.is_written(whole));
            let element = cell * buffer.watch.cell_bytes / size;
            if !written && last != Some(element) {
                count += 1;
                first = first.or(Some(element));
                last = Some(element);
            }
        }
        first.map(|first| (count, first))
    }

    /// A buffer's bytes.
    pub fn contents(&self, buffer: usize) -> Vec<u8> {
        let buffer = &self.buffers[buffer];
        // SAFETY: written in `new`; called when no kernel runs.
        unsafe { self.block.read(buffer.begin, buffer.bytes) }.to_vec()
    }
}

/// An array in threadgroup memory.
pub(crate) struct ThreadgroupArray {
    /// A string of the image.
    pub name: *const c_char,
    pub dtype: Option<Dtype>,
    pub begin: usize,
    pub bytes: usize,
    pub element_bytes: usize,
    watch: Watch,
    cells: Vec<Cell>,
    filled_for: u32,
}

/// The threadgroup memory of a worker, which its threadgroups use one after the other.
pub(crate) struct ThreadgroupMemory {
    block: Block,
    /// The arrays, by their numbers in the text.
    arrays: Vec<Option<ThreadgroupArray>>,
    /// The number plus one of the array in each 256 bytes.
    array_of_granule: Vec<u16>,
    end: usize,
    /// Bytes of all arrays together.
    pub used: usize,
}

const GRANULE: usize = 256;
const CAPACITY: usize = 1 << 20;

impl ThreadgroupMemory {
    pub fn new() -> Self {
        ThreadgroupMemory {
            block: Block::new(CAPACITY),
            arrays: Vec::new(),
            array_of_granule: vec![0; CAPACITY / GRANULE],
            end: GRANULE,
            used: 0,
        }
    }

    /// The address of an array, which is garbage when a threadgroup first asks for it. `None` if memory is at an end.
    pub fn array(
        &mut self,
        id: usize,
        group: u32,
        shape: (usize, usize),
        dtype: Option<Dtype>,
        name: *const c_char,
    ) -> Option<usize> {
        let (bytes, element_bytes) = shape;
        if self.arrays.len() <= id {
            self.arrays.resize_with(id + 1, || None);
        }
        if self.arrays[id].is_none() {
            let begin = self.end;
            let end = (begin + bytes).next_multiple_of(GRANULE) + GRANULE;
            if end > CAPACITY {
                return None;
            }
            self.array_of_granule[begin / GRANULE..(begin + bytes).div_ceil(GRANULE)].fill(id as u16 + 1);
            self.end = end;
            self.used += bytes;
            let watch = Watch::new(element_bytes);
            let cells = vec![Cell::default(); bytes.div_ceil(watch.cell_bytes)];
            self.arrays[id] =
                Some(ThreadgroupArray { name, dtype, begin, bytes, element_bytes, watch, cells, filled_for: 0 });
        }
        let array = self.arrays[id].as_mut()?;
        if array.filled_for != group {
            array.filled_for = group;
            // SAFETY: inside the block, and this worker runs one thread at a time.
            unsafe { self.block.write(array.begin, array.bytes) }.fill(GARBAGE);
        }
        Some(self.block.address() + array.begin)
    }

    pub fn contains(&self, address: usize) -> bool {
        address.wrapping_sub(self.block.address()) < CAPACITY
    }

    /// The array that contains all of the access, and the offset in it.
    pub fn find(&mut self, address: usize, bytes: usize) -> Option<(&mut ThreadgroupArray, usize)> {
        let offset = address.wrapping_sub(self.block.address());
        let number = *self.array_of_granule.get(offset / GRANULE)?;
        let array = self.arrays.get_mut(usize::from(number).checked_sub(1)?)?.as_mut()?;
        let inside = offset >= array.begin && offset + bytes <= array.begin + array.bytes;
        inside.then(|| (offset - array.begin, array)).map(|(offset, array)| (array, offset))
    }

    /// The array next to the address, and the offset from its start.
    pub fn nearest(&self, address: usize) -> Option<(&ThreadgroupArray, i64)> {
        let offset = address.wrapping_sub(self.block.address());
        let distance = |a: &ThreadgroupArray| {
            if offset < a.begin { a.begin - offset } else { offset.saturating_sub(a.begin + a.bytes) }
        };
        let array = self.arrays.iter().flatten().min_by_key(|a| distance(a))?;
        Some((array, offset as i64 - array.begin as i64))
    }
}

impl ThreadgroupArray {
    /// Records an access by a thread of threadgroup `group`.
    pub fn touch(
        &mut self,
        group: u32,
        offset: usize,
        bytes: usize,
        touch: Touch,
        reads: bool,
        writes: bool,
    ) -> Verdict {
        let mut verdict = Verdict::default();
        for (cell, mask) in self.watch.cells(offset, bytes) {
            let cell = &mut self.cells[cell];
            cell.claim(group);
            let found = cell.touch(Touch { bytes: mask, ..touch }, reads, writes);
            verdict.race = verdict.race.or(found.race);
            verdict.uninitialised |= found.uninitialised;
        }
        verdict
    }

    pub fn name(&self) -> String {
        // SAFETY: a string literal of the image, which outlives the launch.
        unsafe { std::ffi::CStr::from_ptr(self.name) }.to_string_lossy().into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_access_names_the_bytes_of_each_cell() {
        let cells = |watch: Watch, offset, bytes| watch.cells(offset, bytes).collect::<Vec<_>>();
        assert_eq!(cells(Watch::new(4), 4, 4), [(1, 0b1111)]);
        assert_eq!(cells(Watch::new(4), 6, 4), [(1, 0b1100), (2, 0b0011)]);
        assert_eq!(cells(Watch::new(2), 2, 4), [(1, 0b11), (2, 0b11)]);
        assert_eq!(cells(Watch::new(1), 3, 1), [(3, 1)]);
        assert_eq!(cells(Watch::new(8), 0, 8), [(0, 0b1111), (1, 0b1111)]);
    }

    #[test]
    fn buffers_are_found_and_gaps_are_not() {
        let data = [1u8; 12];
        let arena = Arena::new(
            &[
                ("x".into(), Dtype::F32, Contents::Data(&data, None)),
                ("y".into(), Dtype::F32, Contents::Filled(8, Dtype::F32.encode(2.0))),
            ],
            true,
        );
        let (x, y) = (arena.buffer_address(0), arena.buffer_address(1));
        assert_eq!(arena.find(x + 8, 4), Some((0, 8)));
        assert_eq!(arena.find(x + 12, 4), None);
        assert_eq!(arena.find(x - 1, 1), None);
        assert_eq!(arena.nearest(x + 20), Some((0, 20)));
        assert_eq!(arena.nearest(y - 4), Some((1, -4)));
        assert_eq!(Dtype::F32.decode(&arena.contents(1)), [2.0, 2.0]);
        assert_eq!(arena.unwritten(1), None);
    }
}

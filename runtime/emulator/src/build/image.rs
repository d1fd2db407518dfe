//! A compiled kernel loaded into this process, and the way back from its code to lines.

use std::ffi::c_void;
use std::path::{Path, PathBuf};

use super::cache::cache_error;
use crate::machine::Attributes;
use crate::{Error, Location, Source};
use cotangent_metal::translate::{MACROS, Site, private_array};

/// `metal_kernel_entry` of the assembled text.
pub(crate) type Entry = unsafe extern "C" fn(*const *mut c_void, *const Attributes);

/// A loaded kernel. Stays loaded as long as it lives.
pub(crate) struct Image {
    _library: libloading::Library,
    path: PathBuf,
    pub entry: Entry,
    /// Addresses of the image's code and constants.
    pub begin: usize,
    pub end: usize,
    pub sites: Vec<Site>,
    /// The names under which the kernel's own text appears in debug information.
    pub files: Vec<String>,
    /// The sources of the kernel: body and header.
    sources: [Source; 2],
}

impl Image {
    pub fn load(path: &Path, sites: Vec<Site>, files: Vec<String>, sources: [Source; 2]) -> Result<Self, Error> {
        let failed = |e: libloading::Error| cache_error(path, std::io::Error::other(e.to_string()));
        // SAFETY: the object was made from our own assembled text; it has no initialisers that do anything.
        let library = unsafe { libloading::Library::new(path) }.map_err(failed)?;
        // SAFETY: the assembled text defines this symbol with this type.
        let entry = *unsafe { library.get::<Entry>(b"metal_kernel_entry") }.map_err(failed)?;
        // SAFETY: as above.
        let extent = *unsafe { library.get::<unsafe extern "C" fn(*mut usize, *mut usize)>(b"metal_image_extent") }
            .map_err(failed)?;
        let (mut begin, mut end) = (0, 0);
        // SAFETY: writes two addresses.
        unsafe { extent(&mut begin, &mut end) };
        Ok(Image { _library: library, path: path.to_owned(), entry, begin, end, sites, files, sources })
    }

    /// A barrier or simdgroup operation by its number, whichever use of a macro it is in.
    pub fn site(&self, number: u32) -> &Site {
        &self.sites[(number % MACROS) as usize]
    }

    /// The private array that is indexed on a line.
    pub fn array_at(&self, file: &str, line: u32) -> Option<String> {
        self.sources.iter().find_map(|source| private_array(source, file, line))
    }

    /// Reads the debug information; `None` if there is none.
    pub fn lines(&self) -> Option<Lines<'_>> {
        let loader = addr2line::Loader::new(&self.path).ok()?;
        Some(Lines { image: self, loader })
    }
}

/// Finds lines of the kernel's source.
pub(crate) struct Lines<'i> {
    image: &'i Image,
    loader: addr2line::Loader,
}

impl Lines<'_> {
    /// The innermost place in the kernel's own text of the call that returns to `pc`, an offset into the image.
    pub fn find(&self, pc: usize) -> Option<Location> {
        let mut frames = self.loader.find_frames(pc.checked_sub(1)? as u64).ok()?;
        while let Ok(Some(frame)) = frames.next() {
            let Some(location) = frame.location else { continue };
            let (Some(file), Some(line)) = (location.file, location.line) else { continue };
            // The compiler may put its working directory in front of the name.
            if let Some(own) = self.image.files.iter().find(|own| !own.is_empty() && file.ends_with(own.as_str())) {
                return Some(Location { file: own.clone(), line });
            }
        }
        None
    }
}

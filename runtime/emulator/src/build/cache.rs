//! A folder of compiled kernels, named by the content they were made from.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use cotangent_metal::{content_key, headers};

use crate::Error;

/// The shim that every kernel includes.
const SHIM: &[(&str, &str)] = &[
    ("host.h", include_str!("../../shim/host.h")),
    ("types.h", headers::TYPES),
    ("contract.h", include_str!("../../shim/contract.h")),
    ("index.h", include_str!("../../shim/index.h")),
    ("once.h", include_str!("../../shim/once.h")),
    ("math.h", headers::MATH),
    ("pack.h", headers::PACK),
    ("namespaces.h", headers::NAMESPACES),
    ("simd.h", include_str!("../../shim/simd.h")),
    ("atomic.h", include_str!("../../shim/atomic.h")),
    ("matrix.h", include_str!("../../shim/matrix.h")),
    ("mlx.h", headers::MLX),
    ("hooks.cpp", include_str!("../../shim/hooks.cpp")),
    ("whole.h", include_str!("../../shim/whole.h")),
    ("metal/mlx/backend/metal/kernels/bf16_math.h", include_str!("../../shim/bf16_math.h")),
    ("metal/metal_logging", include_str!("../../shim/metal_logging")),
];

/// Headers that have nothing to add: Metal's own.
const EMPTY: &[&str] = &[
    "metal_atomic",
    "metal_common",
    "metal_compute",
    "metal_geometric",
    "metal_integer",
    "metal_limits",
    "metal_math",
    "metal_pack",
    "metal_relational",
    "metal_simdgroup",
    "metal_simdgroup_matrix",
    "metal_stdlib",
    "metal_type_traits",
    "metal_types",
    "metal_uniform",
    "simd/simd.h",
];

/// The folder. Several processes may share one: files appear whole, by renaming.
#[derive(Clone, Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    /// The folder of the shim's files.
    pub include: PathBuf,
    shim_key: u128,
}

impl Cache {
    pub fn open(folder: &Path) -> Result<Self, Error> {
        let shim_key = content_key(SHIM.iter().map(|(_, text)| *text));
        let include = folder.join(format!("shim-{shim_key:032x}"));
        let cache = Cache { folder: folder.to_owned(), include, shim_key };
        fs::create_dir_all(&cache.include).map_err(|e| cache_error(&cache.include, e))?;
        let empty = EMPTY.iter().map(|name| (format!("metal/{name}"), ""));
        for (name, text) in SHIM.iter().map(|(name, text)| ((*name).to_owned(), *text)).chain(empty) {
            let path = cache.include.join(name);
            if !path.exists() {
                let folder = path.parent().unwrap_or(&cache.include);
                fs::create_dir_all(folder).map_err(|e| cache_error(folder, e))?;
                cache.write(&path, text.as_bytes())?;
            }
        }
        Ok(cache)
    }

    /// The user's cache folder, or the system's temporary one.
    pub fn default_folder() -> PathBuf {
        let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        let home =
            || set("HOME").map(|h| if cfg!(target_os = "macos") { h.join("Library/Caches") } else { h.join(".cache") });
        set("COTANGENT_EMULATOR_CACHE").unwrap_or_else(|| {
            set("XDG_CACHE_HOME").or_else(home).unwrap_or_else(std::env::temp_dir).join("cotangent-emulator")
        })
    }

    /// The files for content `key`: C++ source and shared object.
    pub fn files(&self, key: u128) -> (PathBuf, PathBuf) {
        let stem = format!("{:032x}", key ^ self.shim_key);
        (self.folder.join(format!("{stem}.cpp")), self.folder.join(format!("{stem}.so")))
    }

    /// Makes `path` under a name that nothing else uses, then renames it.
    pub fn make<T, E>(
        path: &Path,
        maker: impl FnOnce(&Path) -> io::Result<Result<T, E>>,
    ) -> Result<Result<T, E>, Error> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let draft = path.with_extension(format!("{}-{number}.draft", std::process::id()));
        let made = maker(&draft).and_then(|made| match made {
            Ok(value) => fs::rename(&draft, path).map(|()| Ok(value)),
            Err(e) => Ok(Err(e)),
        });
        made.map_err(|e| cache_error(path, e))
    }

    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), Error> {
        Cache::make(path, |draft| fs::write(draft, bytes).map(Ok::<(), std::convert::Infallible>)).map(|_| ())
    }
}

pub(crate) fn cache_error(path: &Path, source: io::Error) -> Error {
    Error::Cache { path: path.to_owned(), source }
}

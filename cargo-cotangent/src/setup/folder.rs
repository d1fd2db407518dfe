//! The places of everything that set-up keeps: all in `.mlx` at the root of the checkout.

use super::pins::{self, Build};
use std::path::{Path, PathBuf};

/// The folder `.mlx`.
pub struct SetupFolder {
    pub folder: PathBuf,
}

impl SetupFolder {
    pub fn new(root: &Path) -> Self {
        Self { folder: root.join(".mlx") }
    }

    /// The wheels as downloaded; kept, so that a moved checkout needs no network.
    pub fn downloads(&self) -> PathBuf {
        self.folder.join("downloads")
    }

    /// Returns the folder that is being made. Once complete it is renamed to `installation`.
    pub fn unfinished(&self, build: Build) -> Installation {
        Installation { folder: self.folder.join("unfinished"), build }
    }

    pub fn installation(&self, build: Build) -> Installation {
        let name = match build {
            Build::Cpu => pins::MLX.to_owned(),
            Build::Cuda => format!("{}-cuda", pins::MLX),
        };
        Installation { folder: self.folder.join(name), build }
    }

    /// The file that the committed `.cargo/config.toml` includes.
    pub fn cargo_config(&self) -> PathBuf {
        self.folder.join("cargo.toml")
    }

    /// Written last: says what the installation was made from.
    pub fn stamp(&self) -> PathBuf {
        self.folder.join("stamp")
    }

    pub fn lock(&self) -> PathBuf {
        self.folder.join("lock")
    }

    /// NVIDIA's run-time compiler, unpacked.
    pub fn nvrtc(&self) -> PathBuf {
        self.folder.join(format!("nvrtc-{}", pins::NVRTC))
    }

    /// A Python environment with pip, made only where the system's Python has none.
    pub fn python(&self) -> PathBuf {
        self.folder.join("python")
    }
}

/// One version of MLX with its C interface and bindings.
pub struct Installation {
    pub folder: PathBuf,
    pub build: Build,
}

impl Installation {
    /// MLX's wheel, unpacked as it is: its library finds its dependencies by their place in it.
    pub fn wheel(&self) -> PathBuf {
        self.folder.join("wheel")
    }

    pub fn include(&self) -> PathBuf {
        self.folder.join("wheel/mlx/include")
    }

    pub fn libmlx_folder(&self) -> PathBuf {
        self.folder.join("wheel/mlx/lib")
    }

    /// The libraries bundled with the wheel, BLAS and LAPACK among them.
    pub fn bundled_libraries(&self) -> PathBuf {
        self.wheel().join(self.build.bundled_libraries())
    }

    /// OpenBLAS' wheel, unpacked.
    pub fn openblas_wheel(&self) -> PathBuf {
        self.folder.join("openblas")
    }

    /// Our own sources and the object files made of them.
    pub fn build(&self) -> PathBuf {
        self.folder.join("build")
    }

    pub fn library_folder(&self) -> PathBuf {
        self.folder.join("lib")
    }

    pub fn libmlxc(&self) -> PathBuf {
        self.folder.join("lib/libmlxc.so")
    }

    /// Stands in for the `OUT_DIR` of mlx-sys.
    pub fn bindings_folder(&self) -> PathBuf {
        self.folder.join("bindings")
    }

    pub fn bindings(&self) -> PathBuf {
        self.folder.join("bindings/bindings.rs")
    }

    /// Returns whether the files that programs need are there. What is in them is vouched for by the stamp.
    pub fn is_complete(&self) -> bool {
        [self.libmlxc(), self.bindings(), self.libmlx_folder().join("libmlx.so")].iter().all(|file| file.is_file())
    }
}

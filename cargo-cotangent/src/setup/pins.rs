//! The versions that belong together, and the exact files they are downloaded as.
//!
//! mlx-rs pins mlx-sys, whose sources of mlx-c pin MLX. A new version is taken as CONTRIBUTING.md describes.

/// mlx-sys, as locked in Cargo.lock.
pub const MLX_SYS: &str = "0.7.0";

/// MLX, as pinned by the mlx-c in mlx-sys.
pub const MLX: &str = "0.32.2";

/// NVIDIA's run-time compiler, of CUDA 13 as MLX's build is; any version that compiles for sm_90 would do.
pub const NVRTC: &str = "13.5.37";

/// The glibc that MLX's wheels were built for (`manylinux_2_35`).
pub const GLIBC: (u32, u32) = (2, 35);

/// The processors that MLX publishes Linux wheels for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    X86_64,
    Aarch64,
}

impl Architecture {
    /// The one this program was built for.
    pub fn host() -> Option<Self> {
        match std::env::consts::ARCH {
            "x86_64" => Some(Self::X86_64),
            "aarch64" => Some(Self::Aarch64),
            _ => None,
        }
    }

    /// The target triple under which Cargo's configuration overrides mlx-sys.
    pub fn target(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64-unknown-linux-gnu",
            Self::Aarch64 => "aarch64-unknown-linux-gnu",
        }
    }
}

/// The devices that MLX computes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// The CPU alone.
    Cpu,
    /// CUDA 13 and the CPU.
    Cuda,
}

impl Build {
    /// The version with what sets this build apart.
    pub fn version(self) -> String {
        match self {
            Self::Cpu => MLX.to_owned(),
            Self::Cuda => format!("{MLX} with CUDA"),
        }
    }

    /// The folder in the wheel with the libraries that MLX's authors bundled.
    pub fn bundled_libraries(self) -> &'static str {
        match self {
            Self::Cpu => "mlx_cpu.libs",
            Self::Cuda => "mlx_cuda_13.libs",
        }
    }
}

/// A Python wheel of which only the native library is used: no Python code of it ever runs.
#[derive(Debug)]
pub struct Wheel {
    pub project: &'static str,
    pub version: &'static str,
    /// The platform tag that pip is asked for.
    pub platform: &'static str,
    pub file: &'static str,
    pub sha256: &'static str,
    pub megabytes: u32,
}

pub fn mlx(build: Build, architecture: Architecture) -> Wheel {
    let project = match build {
        Build::Cpu => "mlx-cpu",
        Build::Cuda => "mlx-cuda-13",
    };
    let (platform, file, sha256, megabytes) = match (build, architecture) {
        (Build::Cpu, Architecture::X86_64) => (
            "manylinux_2_35_x86_64",
            "mlx_cpu-0.32.2-py3-none-manylinux_2_35_x86_64.whl",
            "fc5d31b90fc4f457b2f9614ed45651a567d22a6a11a03d114a90a4e10bdd8878",
            10,
        ),
        (Build::Cpu, Architecture::Aarch64) => (
            "manylinux_2_35_aarch64",
            "mlx_cpu-0.32.2-py3-none-manylinux_2_35_aarch64.whl",
            "d0f94625588b51a878786dd51cec5617894ce586cf3c94645ce1b64e24c27c0b",
            9,
        ),
        (Build::Cuda, Architecture::X86_64) => (
            "manylinux_2_35_x86_64",
            "mlx_cuda_13-0.32.2-py3-none-manylinux_2_35_x86_64.whl",
            "335094ccd1c0c6dc3e09c8caba207c8180602bacc0c38ba20c1d81e9456ab394",
            87,
        ),
        (Build::Cuda, Architecture::Aarch64) => (
            "manylinux_2_35_aarch64",
            "mlx_cuda_13-0.32.2-py3-none-manylinux_2_35_aarch64.whl",
            "49b1a25df9021f3b519a534fd39a32a5cdbf93a1b265a31e59671c2d9fc9f4a2",
            87,
        ),
    };
    Wheel { project, version: MLX, platform, file, sha256, megabytes }
}

/// OpenBLAS with its names prefixed by `scipy_`: some thirty times as fast as the reference BLAS in MLX's wheel.
pub fn openblas(architecture: Architecture) -> Wheel {
    let (platform, file, sha256, megabytes) = match architecture {
        Architecture::X86_64 => (
            "manylinux_2_28_x86_64",
            "scipy_openblas32-0.3.34.481.3-py3-none-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
            "0595f94cd58c1f8a0d90c975621f4587337a003916b1979e834ebdf2cb5d9504",
            8,
        ),
        Architecture::Aarch64 => (
            "manylinux_2_28_aarch64",
            "scipy_openblas32-0.3.34.481.3-py3-none-manylinux_2_27_aarch64.manylinux_2_28_aarch64.whl",
            "e085dddbc5b9aa130f83def515d31c440e69f387a90c7e63b154a5575b4466bc",
            9,
        ),
    };
    Wheel { project: "scipy-openblas32", version: "0.3.34.481.3", platform, file, sha256, megabytes }
}

/// NVIDIA's run-time compiler.
pub fn nvrtc(architecture: Architecture) -> Wheel {
    let (platform, file, sha256, megabytes) = match architecture {
        Architecture::X86_64 => (
            "manylinux_2_12_x86_64",
            "nvidia_cuda_nvrtc-13.5.37-py3-none-manylinux2010_x86_64.manylinux_2_12_x86_64.whl",
            "86b4d68058807988b7d9af5b44917a0601e9c337f35ccd657bfb3c759ff8d8bc",
            58,
        ),
        Architecture::Aarch64 => (
            "manylinux_2_17_aarch64",
            "nvidia_cuda_nvrtc-13.5.37-py3-none-manylinux2014_aarch64.manylinux_2_17_aarch64.whl",
            "36e4fa2a8ada293f5693d308e531c196ab6f91cf7a0ff479bf96a537d43a6096",
            56,
        ),
    };
    Wheel { project: "nvidia-cuda-nvrtc", version: NVRTC, platform, file, sha256, megabytes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo::locked_version;

    #[test]
    fn the_pinned_mlx_sys_is_the_locked_one() {
        assert_eq!(locked_version(include_str!("../../../Cargo.lock"), "mlx-sys"), Some(MLX_SYS));
    }

    #[test]
    fn file_names_agree_with_version_and_platform() {
        for architecture in [Architecture::X86_64, Architecture::Aarch64] {
            let mlx = [Build::Cpu, Build::Cuda].map(|build| mlx(build, architecture));
            for wheel in mlx.into_iter().chain([openblas(architecture), nvrtc(architecture)]) {
                let start = format!("{}-{}-py3-none-", wheel.project.replace('-', "_"), wheel.version);
                assert!(wheel.file.starts_with(&start), "{wheel:?}");
                assert!(wheel.file.contains(wheel.platform), "{wheel:?}");
                assert!(wheel.sha256.len() == 64 && wheel.sha256.bytes().all(|b| b.is_ascii_hexdigit()), "{wheel:?}");
            }
        }
    }
}

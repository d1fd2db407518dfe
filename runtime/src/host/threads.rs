//! Distributes work over cores, and uses the widest vector instructions of the processor.

use std::sync::OnceLock;

/// Elements below which a second thread costs more than it saves.
const ELEMENTS_OF_A_THREAD: usize = 1 << 15;

/// Threads that computations on the host may use: as many as OpenBLAS, which takes turns with them.
fn available() -> usize {
    static AVAILABLE: OnceLock<usize> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let limit = std::env::var("OPENBLAS_NUM_THREADS").ok().and_then(|value| value.parse().ok());
        limit.unwrap_or(cores).clamp(1, cores)
    })
}

/// Calls `work` once for each of `pieces`, each on a thread of its own.
pub(super) fn share_out<T: Send>(pieces: Vec<T>, work: &(impl Fn(T) + Sync)) {
    let mut pieces = pieces.into_iter();
    let Some(first) = pieces.next() else { return };
    std::thread::scope(|scope| {
        for piece in pieces {
            scope.spawn(move || work(piece));
        }
        work(first);
    });
}

/// Returns the number of pieces to cut work on `elements` into.
pub(super) fn pieces_for(elements: usize) -> usize {
    (elements / ELEMENTS_OF_A_THREAD).clamp(1, available())
}

/// Defines a function whose body is compiled for several processors and runs in the best version that the processor
/// supports. On x86 these have fused multiply-adds and vectors of 512 or 256 bits; elsewhere there is one version.
/// Functions that it calls must be inlined to profit.
macro_rules! vectorised {
    ([$($generics:tt)*] fn $name:ident($($argument:ident: $type:ty),* $(,)?) $body:block) => {
        fn $name<$($generics)*>($($argument: $type),*) {
            #[inline(always)]
            fn portable<$($generics)*>($($argument: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx2,fma")]
            fn with_avx512<$($generics)*>($($argument: $type),*) {
                portable($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            fn with_avx2<$($generics)*>($($argument: $type),*) {
                portable($($argument),*)
            }

            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("fma") {
                if is_x86_feature_detected!("avx512f") {
                    // SAFETY: the processor has what the function is compiled for.
                    return unsafe { with_avx512($($argument),*) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has what the function is compiled for.
                    return unsafe { with_avx2($($argument),*) };
                }
            }
            portable($($argument),*)
        }
    };
}
pub(super) use vectorised;

//! The limits on the process of a template or a tokenizer.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};

/// A tokenizer of 250,000 tokens takes 0.3 GiB, and to encode a text of 8 MiB less than 1 GiB more.
pub(super) const MEMORY_BYTES: u64 = 2 << 30;

/// Limits the memory, and writes no core file. A system that refuses a limit leaves the others.
pub(super) fn set() {
    // On Linux this limits all memory that a process allocates; on macOS it has no effect.
    limit(Resource::Data, MEMORY_BYTES);
    limit(Resource::Core, 0);
}

/// Allows `seconds` of computing from now. The time of the processor counts, not that of the clock, so that a
/// busy machine changes nothing.
pub(super) fn allow_seconds(seconds: u64) {
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec.unsigned_abs();
    // The used time is rounded down, so one more second is allowed.
    limit(Resource::Cpu, used + 1 + seconds);
}

fn limit(resource: Resource, value: u64) {
    let Rlimit { maximum, .. } = getrlimit(resource);
    let current = Some(maximum.map_or(value, |maximum| maximum.min(value)));
    // If one limit cannot be set, the others still protect.
    let _ = setrlimit(resource, Rlimit { current, maximum });
}

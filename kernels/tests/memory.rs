//! Tests that peak memory stays bounded. MLX counts per process, so these tests have a process to themselves and run
//! one after the other.

#[path = "operators/cases/mod.rs"]
mod cases;

use std::sync::{Mutex, MutexGuard, PoisonError};

use cases::{Operator, TOLERANCE, assert_close, gradients_of, outputs, random};
use cotangent::{CodeFormat, CodeMode, Dtype, Frozen, Graph, Packed, Result, Stored, Tensor, memory};
use cotangent_kernels::attention::{Strips, causal_attention_in_strips};
use cotangent_kernels::cross_entropy::{Labels, cross_entropy_in_chunks, cross_entropy_packed_in_chunks};
use cotangent_kernels::packed_linear;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The most bytes that `function` has in arrays at once, apart from those that were there before.
fn peak_of<T>(function: impl FnOnce() -> T) -> (usize, T) {
    memory::reset_peak().unwrap();
    let before = memory::active().unwrap();
    let result = function();
    (memory::peak().unwrap() - before, result)
}

/// hidden, weight.
#[derive(Clone)]
struct CrossEntropy {
    labels: Labels,
    chunk_bytes: usize,
}

impl Operator for CrossEntropy {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        Ok(vec![cross_entropy_in_chunks(&inputs[0], &inputs[1], &self.labels, 1e-3, self.chunk_bytes)?])
    }
}

#[test]
fn the_loss_does_not_grow_with_the_rows() {
    let _alone = alone();
    let (vocabulary, width) = (10_000, 16);
    let one = [Tensor::from_slice(&[1.0_f32], &[]).unwrap()];
    let of_rows = |rows: i32, trains: &[bool]| {
        let inputs = [random(1, &[rows, width], 1.0), random(2, &[vocabulary, width], 1.0)];
        let labels: Vec<i32> = (0..rows).map(|row| row * 7 % vocabulary).collect();
        let operator = CrossEntropy { labels: Labels::from_slice(&labels).unwrap(), chunk_bytes: 512 << 10 };
        if trains.contains(&true) {
            peak_of(|| gradients_of(&operator, &inputs, &one, |index| trains[index])).0
        } else {
            peak_of(|| outputs(&operator, &inputs)).0
        }
    };
    let logits = (4 * 1_000 * vocabulary) as usize;
    for trains in [[false, false], [true, false], [false, true], [true, true]] {
        let (quarter, whole) = (of_rows(250, &trains), of_rows(1_000, &trains));
        // MLX allocates for all queued operations: ten arrays of a chunk's size or more, depending on timing.
        assert!(whole <= 2 * quarter, "{trains:?}: {} KiB for 250 rows, {} KiB for 1000", quarter >> 10, whole >> 10);
        assert!(whole <= logits / 3, "{trains:?}: {} MiB, of {} MiB of logits", whole >> 20, logits >> 20);
    }
}

/// The most bytes that the process held while `function` ran, beyond those before it. They include what was decoded on the host,
/// which MLX does not count. Nothing if the system does not say.
fn resident_peak_of<T>(function: impl FnOnce() -> T) -> Option<usize> {
    let size = |field: &str| -> Option<usize> {
        let status = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok().map(|kibibytes| kibibytes << 10)
    };
    // This resets the peak.
    std::fs::write("/proc/self/clear_refs", "5").ok()?;
    let before = size("VmRSS:")?;
    drop(function());
    Some(size("VmHWM:")?.saturating_sub(before))
}

/// The sum of the same linear layer of codes, many times of the same rows: no layer waits for another.
#[derive(Clone)]
struct PackedLayers(Packed);

impl PackedLayers {
    const COUNT: usize = 24;
}

impl Operator for PackedLayers {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let add = |sum: Tensor<M>, _| sum.add(&packed_linear(&inputs[0], &self.0, None)?);
        Ok(vec![(0..Self::COUNT).try_fold(inputs[0].clone(), add)?])
    }
}

#[test]
fn a_decoded_matrix_lives_for_one_product() {
    let _alone = alone();
    let width = 512;
    let format = CodeFormat::new(CodeMode::Affine, Some(64), Some(4)).unwrap();
    let parts = random(2, &[width, width], 0.01).quantize(format).unwrap();
    let parts: Vec<Frozen<Stored>> = parts.into_iter().map(Frozen::new).collect();
    let layers = PackedLayers(Packed::new(&parts[0], &parts[1], parts.get(2), format, Dtype::F32).unwrap());
    let (x, cotangent) = ([random(1, &[4, width], 1.0)], [random(3, &[4, width], 1.0)]);
    // The first run allocates what every run needs.
    let run = || drop(gradients_of(&layers, &x, &cotangent, |_| true));
    run();
    let Some(peak) = resident_peak_of(run) else { return };
    let all = PackedLayers::COUNT * 4 * (width * width) as usize;
    assert!(peak <= all / 3, "{} KiB, of {} KiB of all decoded matrices", peak >> 10, all >> 10);
}

/// hidden, and the adapter's two factors.
#[derive(Clone)]
struct PackedHead {
    head: Packed,
    labels: Labels,
}

impl Operator for PackedHead {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        let adapter = Some(([&inputs[1], &inputs[2]], 2.0));
        let loss = cross_entropy_packed_in_chunks(&inputs[0], &self.head, adapter, &self.labels, 1e-3, 64 << 10)?;
        Ok(vec![loss])
    }
}

#[test]
fn the_loss_over_packed_codes_holds_neither_logits_nor_the_decoded_head() {
    let _alone = alone();
    let (vocabulary, width, rows) = (4_096, 256, 128);
    let one = [Tensor::from_slice(&[1.0_f32], &[]).unwrap()];
    let format = CodeFormat::new(CodeMode::Affine, Some(64), Some(4)).unwrap();
    let parts = random(2, &[vocabulary, width], 1.0).quantize(format).unwrap();
    let parts: Vec<Frozen<Stored>> = parts.into_iter().map(Frozen::new).collect();
    let head = Packed::new(&parts[0], &parts[1], parts.get(2), format, Dtype::F32).unwrap();
    let labels: Vec<i32> = (0..rows).map(|row| row * 31 % vocabulary).collect();
    let operator = PackedHead { head, labels: Labels::from_slice(&labels).unwrap() };
    let inputs = [random(1, &[rows, width], 1.0), random(3, &[width, 2], 0.1), random(4, &[2, vocabulary], 0.1)];
    let run = || drop(gradients_of(&operator, &inputs, &one, |_| true));
    let (peak, ()) = peak_of(run);
    let on_the_host = resident_peak_of(run).unwrap_or_default();
    let (logits, decoded) = ((4 * rows * vocabulary) as usize, (4 * vocabulary * width) as usize);
    for peak in [peak, on_the_host] {
        assert!(peak <= logits.min(decoded) / 2, "{} KiB, of {} and {} KiB", peak >> 10, logits >> 10, decoded >> 10);
    }
}

/// queries, keys, values.
#[derive(Clone)]
struct Attention(Strips);

impl Operator for Attention {
    fn call<M: Graph>(&self, inputs: &[Tensor<M>]) -> Result<Vec<Tensor<M>>> {
        Ok(vec![causal_attention_in_strips(&inputs[0], &inputs[1], &inputs[2], 0.25, None, self.0)?])
    }
}

#[test]
fn attention_is_linear_in_the_length() {
    let _alone = alone();
    let (heads, width) = (2, 16);
    let attention = Attention(Strips { bytes: 2 << 20, kept_bytes: 0, ..Strips::new(cotangent::Backend::Cpu) });
    let of_length = |length: i32| {
        let inputs = [1, 2, 3].map(|seed| random(seed, &[1, heads, length, width], 1.0));
        let cotangent = [random(4, &[1, heads, length, width], 1.0)];
        peak_of(|| gradients_of(&attention, &inputs, &cotangent, |_| true)).0
    };
    let (quarter, whole) = (of_length(1024), of_length(4096));
    let scores = (4 * heads * 4096 * 4096) as usize;
    assert!(whole <= scores / 6, "{} MiB, of {} MiB of scores", whole >> 20, scores >> 20);
    // Memory may grow fourfold with the length, not sixteenfold.
    assert!(whole <= 6 * quarter, "{} KiB at 1024, {} KiB at 4096", quarter >> 10, whole >> 10);

    // The result is right at this length: the first queries do not see the later keys.
    let inputs = [1, 2, 3].map(|seed| random(seed, &[1, heads, 4096, width], 1.0));
    let expected = outputs(&attention, &inputs.clone().map(|input| first(&input, 64)));
    assert_close("the first queries", &first(&outputs(&attention, &inputs)[0], 64), &expected[0], TOLERANCE);
}

/// The first steps of `[1, H, T, D]`.
fn first(x: &Tensor<Stored>, steps: i32) -> Tensor<Stored> {
    let &[_, heads, length, width] = x.shape() else { unreachable!() };
    let values = x.to_vec::<f32>().unwrap();
    let kept: Vec<f32> =
        values.chunks((length * width) as usize).flat_map(|head| &head[..(steps * width) as usize]).copied().collect();
    Tensor::from_slice(&kept, &[1, heads, steps, width]).unwrap()
}

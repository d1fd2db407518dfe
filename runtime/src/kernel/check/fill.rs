//! The values that a check gives a kernel, and their layout in memory.

use mlx_rs::Array;

use super::cases::Setting;
use super::draw::{Draw, Floats, MemoryLayout, Pattern};
use super::plan::domain;
use super::random::Random;
use crate::error::Context as _;
use crate::kernel::signature::{Port, PortRole, Sample};
use crate::{Constant, Dtype, Result, ffi};

/// The distance from zero up to which values are drawn.
const FAR: f32 = 40.0;

/// The distance at which a tail like that of a normal distribution has ended.
const NEARER: f32 = 6.0;

/// Elements between the rows of a padded input.
const PADDING: i64 = 3;

/// The values of a float input: uniform in its range, then changed as the draw says.
pub(super) fn floats(port: &Port, draw: &Draw, count: usize, random: &mut Random) -> Vec<f32> {
    let (low, high) = match port.sample {
        Sample::Floats(low, high) | Sample::Domain(low, high, _) => (low as f32, high as f32),
        _ => (-1.0, 1.0),
    };
    let plain: Vec<f32> = (0..count).map(|_| random.between(low, high)).collect();
    let Some((_, kind)) = draw.floats.iter().find(|(name, _)| *name == port.name) else { return plain };
    let (mut random, mut kink, mut keeps) = (Random::FLOATS.turned(draw.turn), 0, false);
    let change = |(place, plain): (usize, f32)| {
        // One of every two neighbours changes, so that each row holds elements of both kinds, however few it has.
        keeps = if place % 2 == 0 { random.sign() > 0.0 } else { !keeps };
        let magnitude = |random: &mut Random| 10_f32.powf(random.between(-4.0, -1.0));
        // The values are where tails begin, or where they have ended.
        let far = |random: &mut Random| {
            if random.sign() > 0.0 { random.between(1.0, NEARER) } else { random.between(NEARER, FAR) }
        };
        let changed = match kind {
            Floats::NearZero => random.sign() * magnitude(&mut random),
            Floats::NearZeroPositive => magnitude(&mut random),
            Floats::Far | Floats::FarPositive | Floats::Kinks(_) if keeps && count > 1 => return plain,
            Floats::Far => random.sign() * far(&mut random),
            Floats::FarPositive => far(&mut random),
            Floats::Kinks(points) => {
                let point = points.get(kink % points.len().max(1)).copied();
                kink += 1;
                point.unwrap_or(plain)
            }
        };
        match domain(port) {
            Some((low, high)) if !(low..=high).contains(&changed) => plain,
            _ => changed,
        }
    };
    plain.into_iter().enumerate().map(change).collect()
}

/// The values of an index or mask input.
pub(super) fn integers(
    port: &Port,
    setting: &Setting,
    draw: &Draw,
    shape: &[i32],
    random: &mut Random,
) -> Option<Vec<i64>> {
    let value_of = |name: &str| setting.value(name);
    let count = count(shape);
    let (low, high, pattern) = if port.role == PortRole::Mask {
        (0, 2, draw.masks)
    } else {
        let (low, high) = match &port.sample {
            Sample::Integers(low, high) => (low.evaluate(&value_of)?, high.evaluate(&value_of)?),
            _ => (0, 8),
        };
        (low, high, draw.indices)
    };
    let row = shape.last().map_or(1, |extent| *extent as usize).max(1);
    let plain: Vec<i64> = (0..count).map(|_| random.integer(low, high)).collect();
    let change = |(place, plain): (usize, i64)| match (pattern, port.role) {
        (Pattern::Random, _) => plain,
        (Pattern::Low, _) => low,
        (Pattern::High, _) => high.saturating_sub(1).max(low),
        (Pattern::Repeated, PortRole::Mask) => i64::from(place / row % 2 == 1),
        (Pattern::Repeated, _) => low + (place / 2) as i64 % high.saturating_sub(low).clamp(1, 3),
    };
    Some(plain.into_iter().enumerate().map(change).collect())
}

pub(super) fn count(shape: &[i32]) -> usize {
    shape.iter().map(|extent| *extent as usize).product()
}

/// Floats as an array of `dtype`, which is `float64` where differences are taken in double.
pub(super) fn array(values: &[f64], shape: &[i32], dtype: Dtype, layout: MemoryLayout) -> Result<Array> {
    let array = if dtype.to_mlx() == mlx_rs::Dtype::Float64 {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        ffi::array_from_bytes(&bytes, mlx_rs::Dtype::Float64, shape)
    } else {
        let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
        Constant::from_slice(&values, shape)?.cast(dtype)?.array().clone()
    };
    lay_out(array, layout)
}

/// Returns the same elements in another place of memory, among others that are no numbers.
pub(super) fn lay_out(array: Array, layout: MemoryLayout) -> Result<Array> {
    let shape: Vec<i64> = array.shape().iter().map(|extent| i64::from(*extent)).collect();
    let rank = shape.len();
    if rank == 0
        || array.size() == 0
        || layout == MemoryLayout::Rows
        || (layout == MemoryLayout::Transposed && rank < 2)
    {
        return Ok(array);
    }
    // The innermost axis comes first.
    let mut order: Vec<usize> = (0..rank).rev().collect();
    let (mut step, mut offset) = (1, 0);
    match layout {
        // All axes are in reverse order, so that none has the stride that it has in rows.
        MemoryLayout::Transposed => order.reverse(),
        MemoryLayout::Padded => offset = 1,
        _ => step = 2,
    }
    let mut strides = vec![0_i64; rank];
    for (depth, axis) in order.into_iter().enumerate() {
        strides[axis] = step;
        step *= shape[axis];
        if depth == 0 && layout == MemoryLayout::Padded {
            step += PADDING;
        }
    }
    let bytes = ffi::array_to_bytes(&array)?;
    let size = bytes.len() / array.size();
    // Memory between elements holds NaN in floats, -1 in integers, and true in bools.
    let mut memory = vec![if size == 1 { 1 } else { 0xff }; (step + offset) as usize * size];
    for (number, element) in bytes.chunks_exact(size).enumerate() {
        let (mut rest, mut at) = (number as i64, offset);
        for axis in (0..rank).rev() {
            at += rest % shape[axis] * strides[axis];
            rest /= shape[axis];
        }
        memory[at as usize * size..][..size].copy_from_slice(element);
    }
    let length = (memory.len() / size) as i32;
    let whole = ffi::array_from_bytes(&memory, array.dtype(), &[length]);
    mlx_rs::ops::as_strided(&whole, array.shape(), &strides[..], offset as usize).during("check")
}

/// The elements as they are, whatever they are.
pub(super) fn numbers(array: &Array) -> Result<Vec<f64>> {
    if array.dtype() == mlx_rs::Dtype::Float64 {
        let bytes = ffi::array_to_bytes(array)?;
        return Ok(bytes.as_chunks::<8>().0.iter().map(|bytes| f64::from_le_bytes(*bytes)).collect());
    }
    let array = array.as_dtype(mlx_rs::Dtype::Float32).during("check")?;
    let bytes = ffi::array_to_bytes(&array)?;
    Ok(bytes.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::signature::PortDtype;

    const X: Port = Port {
        name: "x",
        dtype: PortDtype::Fixed(Dtype::F32),
        shape: &[],
        shape_text: "",
        role: PortRole::Differentiable,
        optional: false,
        sample: Sample::Default,
    };

    #[test]
    fn every_layout_has_the_same_elements() {
        let values: Vec<f64> = (0..12).map(f64::from).collect();
        for shape in [&[12][..], &[3, 4], &[2, 3, 2]] {
            for layout in [MemoryLayout::Rows, MemoryLayout::Transposed, MemoryLayout::Padded, MemoryLayout::Stepped] {
                let array = array(&values, shape, Dtype::F32, layout).unwrap();
                assert_eq!((array.shape(), numbers(&array).unwrap()), (shape, values.clone()), "{layout:?}");
            }
        }
    }

    #[test]
    fn values_beyond_a_declared_domain_are_never_drawn() {
        let draw = |floats| Draw { floats: vec![("x", floats)], ..Draw::default() };
        let rate = Port { sample: Sample::Domain(0.25, 0.75, "a rate"), ..X };
        for kind in [Floats::Far, Floats::NearZero, Floats::Kinks(vec![-1.0, 0.5])] {
            let draw = draw(kind);
            let inside = floats(&rate, &draw, 100, &mut Random::INPUTS.clone());
            assert!(inside.iter().all(|value| (0.25..=0.75).contains(value)), "{draw}");
            assert!(
                floats(&X, &draw, 100, &mut Random::INPUTS.clone()).iter().any(|value| !(0.25..=0.75).contains(value))
            );
        }
    }

    #[test]
    fn kinks_are_drawn_exactly() {
        let draw = Draw { floats: vec![("x", Floats::Kinks(vec![2.5]))], ..Draw::default() };
        let values = floats(&X, &draw, 100, &mut Random::INPUTS.clone());
        let exact = values.iter().filter(|value| **value == 2.5).count();
        assert!((20..80).contains(&exact), "{exact}");
    }
}

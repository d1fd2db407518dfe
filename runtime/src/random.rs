//! Random numbers from explicit keys: the same key, the same numbers, whatever else has been drawn.

use mlx_rs::Array;

use crate::error::{Context as _, Error, Result};
use crate::ffi;
use crate::mode::Stored;
use crate::tensor::{Origin, Tensor};

/// The state of a counter-based generator; never advances by itself.
#[derive(Debug, Clone)]
pub struct Key {
    array: Array,
}

impl Key {
    /// The key of a seed.
    ///
    /// # Errors
    /// [`Error::Mlx`] if MLX refuses.
    pub fn new(seed: u64) -> Result<Self> {
        ffi::initialise();
        Ok(Key { array: mlx_rs::random::key(seed).during("Key::new")? })
    }

    /// Two independent keys; this one should not be used again.
    ///
    /// # Errors
    /// [`Error::Mlx`] if MLX refuses.
    pub fn split(&self) -> Result<(Key, Key)> {
        let (left, right) = mlx_rs::random::split(&self.array, 2).during("Key::split")?;
        Ok((Key { array: left }, Key { array: right }))
    }

    /// Evenly distributed in `low..high`, float32.
    ///
    /// # Errors
    /// [`Error::Other`] unless `low < high`, [`Error::Mlx`] if the shape is refused.
    pub fn uniform(&self, low: f32, high: f32, shape: &[i32]) -> Result<Tensor<Stored>> {
        if low.partial_cmp(&high) != Some(std::cmp::Ordering::Less) {
            return Err(Error::Other(format!("`Key::uniform`: found the range {low}..{high}, expected a rising one")));
        }
        let drawn = mlx_rs::random::uniform::<f32, f32>(low, high, shape, &self.array).during("Key::uniform")?;
        stored("Key::uniform", drawn)
    }

    /// Normally distributed with mean 0 and standard deviation 1, float32.
    ///
    /// # Errors
    /// [`Error::Mlx`] if the shape is refused.
    pub fn normal(&self, shape: &[i32]) -> Result<Tensor<Stored>> {
        let drawn = mlx_rs::random::normal::<f32>(shape, None, None, &self.array).during("Key::normal")?;
        stored("Key::normal", drawn)
    }
}

fn stored(operation: &'static str, array: Array) -> Result<Tensor<Stored>> {
    ffi::evaluate(operation, [&array])?;
    Ok(Tensor::from_parts(array, Origin::HOST))
}

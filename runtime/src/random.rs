//! Random numbers from explicit keys: the same key gives the same numbers, whatever else was drawn.
//!
//! A training graph draws from keys in the batch, so that a block that is computed again draws the same numbers:
//!
//! ```
//! use cotangent::random::Key;
//! use cotangent::{Mode, Parameters, Result, Tensor, Train};
//!
//! #[derive(Parameters)]
//! struct Block<M: Mode> {
//!     weight: Tensor<M>,
//!     /// Its place among the blocks: each drops other elements.
//!     #[config]
//!     index: u32,
//! }
//!
//! fn forward(block: &Block<Train>, hidden: &Tensor<Train>, dropout: &Key) -> Result<Tensor<Train>> {
//!     let branch = hidden.linear(&block.weight)?.dropout(&dropout.fold(block.index)?, 0.1)?;
//!     hidden.add(&branch)
//! }
//! ```
//!
//! Before each step the loop makes the next key: `let (now, next) = key.split()?`, or `key.fold(step)?`.

use mlx_rs::Array;

use crate::constant::Mask;
use crate::error::{Context as _, Error, Result};
use crate::ffi;
use crate::mode::{Graph, Stored};
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

    /// The key of this number below this key: that of a block, or of a step. Others are independent of it.
    ///
    /// # Errors
    /// [`Error::Mlx`] if MLX refuses.
    pub fn fold(&self, number: u32) -> Result<Key> {
        // Each number gives another 64-bit key, which differs from this one; the split then mixes it.
        let moved = self.array.add(Array::from_slice(&[0x9e37_79b9, number], &[2])).during("Key::fold")?;
        Ok(Key { array: mlx_rs::random::split(moved, 2).during("Key::fold")?.0 })
    }

    /// A mask each of whose elements is true with this probability; drawn where the graph runs.
    ///
    /// # Errors
    /// [`Error::Other`] unless the probability is one, [`Error::Mlx`] if the shape is refused.
    pub fn mask(&self, probability: f32, shape: &[i32]) -> Result<Mask> {
        let operation = "Key::mask";
        if !(0.0..=1.0).contains(&probability) {
            return Err(Error::Other(format!("`{operation}`: found the probability {probability}, expected 0 to 1")));
        }
        let drawn = mlx_rs::random::bernoulli(&Array::from_f32(probability), shape, &self.array).during(operation)?;
        Ok(Mask::from_array(drawn))
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

    /// Words of 32 random bits: codes of any width.
    ///
    /// # Errors
    /// [`Error::Mlx`] if the shape is refused.
    pub fn words(&self, shape: &[i32]) -> Result<Tensor<Stored>> {
        stored("Key::words", ffi::random_words("Key::words", shape, &self.array)?)
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

impl<M: Graph> Tensor<M> {
    /// Zero with this probability, and what is left multiplied by `1 / (1 - probability)`, so that the mean stays
    /// (Srivastava and others, 2014). Which elements that are, the key says: the same ones whenever the graph is computed
    /// again.
    ///
    /// # Errors
    /// [`Error::Other`] unless the probability is at least 0 and below 1.
    pub fn dropout(&self, key: &Key, probability: f32) -> Result<Tensor<M>> {
        if !(0.0..1.0).contains(&probability) {
            return Err(Error::Other(format!("`dropout`: found the probability {probability}, expected 0 to below 1")));
        }
        let left = key.mask(1.0 - probability, self.shape())?;
        self.multiply(1.0 / (1.0 - probability))?.select(&left, 0.0)
    }
}

fn stored(operation: &'static str, array: Array) -> Result<Tensor<Stored>> {
    ffi::evaluate(operation, [&array])?;
    Ok(Tensor::from_parts(array, Origin::HOST))
}

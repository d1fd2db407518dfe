//! The state that generation keeps from one call to the next.

use cotangent::{Graph, Mode, Parameters, Result, Stored, Tensor};

use crate::config::{LayerKind, TextConfig};

/// The caches of all layers, and how many tokens they have seen.
#[derive(Parameters)]
pub struct Cache<M: Mode> {
    /// One for each layer.
    pub layers: Vec<LayerCache<M>>,
    /// Tokens seen.
    #[config]
    pub length: usize,
}

/// The cache of one layer.
#[derive(Parameters)]
pub enum LayerCache<M: Mode> {
    /// The cache of full attention, which grows with every token.
    KeyValue(KeyValueCache<M>),
    /// The cache of the gated delta rule, whose size is fixed.
    GatedDelta(GatedDeltaCache<M>),
}

/// The keys and values seen so far, none at first.
#[derive(Parameters)]
pub struct KeyValueCache<M: Mode> {
    /// `[B, kv_heads, seen, head_dim]`, rotated.
    pub keys: Option<Tensor<M>>,
    /// `[B, kv_heads, seen, head_dim]`.
    pub values: Option<Tensor<M>>,
}

/// The state of a gated delta net.
#[derive(Parameters)]
pub struct GatedDeltaCache<M: Mode> {
    /// The last inputs of the convolution, `[B, kernel - 1, channels]`.
    pub window: Tensor<M>,
    /// `[B, value_heads, value_dim, key_dim]`, float32.
    pub state: Tensor<M>,
}

impl Cache<Stored> {
    /// Caches that have seen nothing, for `rows` sequences computed in `dtype`.
    ///
    /// # Errors
    /// If MLX refuses to allocate them.
    pub fn empty(config: &TextConfig, rows: i32, dtype: cotangent::Dtype) -> Result<Self> {
        let layer = |kind: &LayerKind| {
            Ok(match kind {
                LayerKind::FullAttention => LayerCache::KeyValue(KeyValueCache { keys: None, values: None }),
                LayerKind::LinearAttention => {
                    let window = [rows, config.linear_conv_kernel_dim as i32 - 1, config.linear_conv_dim() as i32];
                    let (heads, value_dim) = (config.linear_num_value_heads, config.linear_value_head_dim);
                    let state = [rows, heads as i32, value_dim as i32, config.linear_key_head_dim as i32];
                    LayerCache::GatedDelta(GatedDeltaCache {
                        window: Tensor::zeros(&window, dtype)?,
                        state: Tensor::zeros(&state, cotangent::Dtype::F32)?,
                    })
                }
            })
        };
        Ok(Cache { layers: config.layers.iter().map(layer).collect::<Result<_>>()?, length: 0 })
    }
}

impl<M: Graph> KeyValueCache<M> {
    /// Adds the keys and values of new tokens, and returns all.
    ///
    /// # Errors
    /// If the shapes do not continue what is there.
    pub fn append(&mut self, keys: Tensor<M>, values: Tensor<M>) -> Result<(Tensor<M>, Tensor<M>)> {
        let join = |seen: &Option<Tensor<M>>, new: Tensor<M>| match seen {
            Some(seen) => Tensor::concatenate(&[seen, &new], 2),
            None => Ok(new),
        };
        let (keys, values) = (join(&self.keys, keys)?, join(&self.values, values)?);
        self.keys = Some(keys.clone());
        self.values = Some(values.clone());
        Ok((keys, values))
    }
}

impl<M: Mode> Cache<M> {
    /// Returns caches that can be advanced while these do not change; the memory is shared.
    pub fn share(&self) -> Self {
        let layer = |layer: &LayerCache<M>| match layer {
            LayerCache::KeyValue(KeyValueCache { keys, values }) => {
                LayerCache::KeyValue(KeyValueCache { keys: keys.clone(), values: values.clone() })
            }
            LayerCache::GatedDelta(GatedDeltaCache { window, state }) => {
                LayerCache::GatedDelta(GatedDeltaCache { window: window.clone(), state: state.clone() })
            }
        };
        Cache { layers: self.layers.iter().map(layer).collect(), length: self.length }
    }
}

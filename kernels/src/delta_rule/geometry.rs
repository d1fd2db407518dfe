//! The sizes of a call.

use cotangent::{Dtype, Error, Graph, Result, Tensor};

const KERNEL: &str = "gated_delta";

/// The sizes that the shapes of a call agree on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Geometry {
    pub(super) batch: i32,
    pub(super) time: i32,
    pub(super) key_heads: i32,
    pub(super) value_heads: i32,
    pub(super) key_dim: i32,
    pub(super) value_dim: i32,
    /// Tokens of a chunk; a row of fewer tokens has a shorter one.
    pub(super) chunk: i32,
}

/// The part of the model that has a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gates {
    /// One gate for each value head: log gates `[B, T, Hv]` or `[B, T, Hv, 1]`.
    OfHeads,
    /// One gate for each value head and channel of its keys: log gates `[B, T, Hv, Dk]`.
    OfChannels,
}

/// The shortest chunk.
pub(super) const SHORTEST_CHUNK: i32 = 8;

impl Geometry {
    /// The sizes, if all shapes and dtypes fit: queries and keys `[B, T, Hk, Dk]`, values `[B, T, Hv, Dv]`, `log_decay` as
    /// `gates` says, `beta` `[B, T, Hv]`, the state `[B, Hv, Dv, Dk]`; gate and state in float32.
    pub(super) fn new<M: Graph>(inputs: [&Tensor<M>; 6], gates: Gates) -> Result<Self> {
        let [queries, keys, values, log_decay, beta, initial_state] = inputs;
        let &[batch, time, key_heads, key_dim] = keys.shape() else {
            return Err(shape_error("keys", keys, "[B, T, Hk, Dk]"));
        };
        let &[_, _, value_heads, value_dim] = values.shape() else {
            return Err(shape_error("values", values, "[B, T, Hv, Dv]"));
        };
        let of_gates = [batch, time, value_heads, if gates == Gates::OfChannels { key_dim } else { 1 }];
        let has_width = gates == Gates::OfChannels || log_decay.rank() == 4;
        let of_gates = if has_width { &of_gates[..] } else { &of_gates[..3] };
        for (port, tensor, expected) in [
            ("queries", queries, &[batch, time, key_heads, key_dim][..]),
            ("values", values, &[batch, time, value_heads, value_dim][..]),
            ("log_decay", log_decay, of_gates),
            ("beta", beta, &[batch, time, value_heads][..]),
            ("initial_state", initial_state, &[batch, value_heads, value_dim, key_dim][..]),
        ] {
            if tensor.shape() != expected {
                return Err(shape_error(port, tensor, format!("{expected:?}")));
            }
        }
        for (port, tensor) in [("log_decay", log_decay), ("initial_state", initial_state)] {
            if tensor.dtype() != Dtype::F32 {
                return Err(error(port, format!("found {}, expected float32; `cast` it", tensor.dtype())));
            }
        }
        Geometry { batch, time, key_heads, value_heads, key_dim, value_dim, chunk: SHORTEST_CHUNK }.checked()
    }

    /// Returns these sizes if the recurrence is defined for them.
    pub(super) fn checked(self) -> Result<Self> {
        if self.time == 0 {
            return Err(error("keys", "found no tokens, expected at least one".into()));
        }
        if self.key_heads == 0 || self.value_heads % self.key_heads != 0 {
            let Geometry { key_heads, value_heads, .. } = self;
            return Err(error(
                "keys",
                format!("found {key_heads} heads, expected a divisor of the {value_heads} of `values`"),
            ));
        }
        if self.chunk < SHORTEST_CHUNK || !(self.chunk as u32).is_power_of_two() {
            let message =
                format!("found chunks of {} tokens, expected a power of two from {SHORTEST_CHUNK} on", self.chunk);
            return Err(Error::Kernel { kernel: KERNEL, port: None, message });
        }
        Ok(self)
    }

    /// Returns the number of value heads that read each key head.
    pub(super) fn group(&self) -> i32 {
        self.value_heads / self.key_heads
    }
}

fn error(port: &'static str, message: String) -> Error {
    Error::Kernel { kernel: KERNEL, port: Some(port), message }
}

fn shape_error<M: Graph>(port: &'static str, tensor: &Tensor<M>, expected: impl std::fmt::Display) -> Error {
    error(port, format!("found the shape {:?}, expected {expected}", tensor.shape()))
}

//! The kernels of Qwen3.5 and of models like it, each with its gradient.
//!
//! Each function works in every mode of a graph. On a GPU it launches Metal source, or CUDA translated from it. On a CPU it is
//! composed of operations.
//!
//! ```
//! use cotangent::{Graph, Result, Tensor};
//! use cotangent_kernels::{rms_norm, swiglu};
//!
//! /// A norm, and a gate of two halves of its result: `x` is `[.., 2 n]`, `weight` `[2 n]`, the result `[.., n]`.
//! fn gated<M: Graph>(x: &Tensor<M>, weight: &Tensor<M>) -> Result<Tensor<M>> {
//!     let normed = rms_norm(x, weight, 1e-6)?;
//!     let axis = normed.shape().len() as i32 - 1;
//!     let width = normed.shape()[axis as usize];
//!     swiglu(&normed.slice(axis, 0, width / 2)?, &normed.slice(axis, width / 2, width)?)
//! }
//! ```
//!
//! | modules | what they are for |
//! |---|---|
//! | [`mod@attention`], [`mod@mrope`], [`mod@rotary`], [`mod@attention_gate`] | attention, its rotary positions and its output gate |
//! | [`causal_conv`], [`mod@gates`], [`mod@l2norm`], [`delta_rule`] | the gated delta net |
//! | [`mod@rms_norm`], [`mod@layer_norm`], [`mod@swiglu`], [`mod@gelu`] | norms and feed-forward layers |
//! | [`mod@grouped_linear`] | the layers of many experts, each for the rows that chose it |
//! | [`expert_rows`] | the rows of tokens for the experts that a router chose |
//! | [`packed_linear`](mod@packed_linear), [`mod@decoded_matrix`] | linear maps of packed codes |
//! | [`mod@cross_entropy`], [`low_rank`] | the loss over a large vocabulary, and linear maps with an adapter |
//! | [`verify`] | products whose rows have the same bits for any number of rows, for speculative decoding |
//!
//! `cargo xtask kernels` says what calls each kernel: models, or other kernels. Nothing calls these yet:
//!
//! - `attend_one_query` of [`decode_attention()`];
//! - `fused_verify_linear`, `fused_verify_quantised_linear` and `fused_verify_switch_linear` of [`verify`];
//! - `gated_delta_by_channel` and `gated_delta_by_channel_step`, the delta rule with a gate for each channel;
//! - `accept_state`, `gated_delta_state` and `gated_delta_with_states`, the states that speculative decoding needs.

pub mod attention;
pub mod attention_gate;
pub mod causal_conv;
pub mod cross_entropy;
pub mod decoded_matrix;
pub mod delta_rule;
mod documents;
pub mod expert_rows;
pub mod gates;
pub mod gelu;
pub mod grouped_linear;
pub mod l2norm;
pub mod layer_norm;
pub mod low_rank;
pub mod mrope;
pub mod packed_linear;
mod parts;
pub mod rms_norm;
pub mod rope_layout;
pub mod rotary;
mod rows;
mod sigmoid;
pub mod swiglu;
pub mod verify;

pub use attention::{causal_attention, decode_attention, full_attention};
pub use attention_gate::attention_gate;
pub use causal_conv::{causal_conv_silu, causal_conv_window};
pub use cross_entropy::{
    IGNORED, Labels, cross_entropy, cross_entropy_adapted, cross_entropy_packed, labels_after, token_losses,
    token_losses_packed,
};
pub use decoded_matrix::decoded_matrix;
pub use delta_rule::{
    AcceptStateInputs, GatedDeltaByChannelInputs, GatedDeltaByChannelStepInputs, GatedDeltaInputs, GatedDeltaOutputs,
    GatedDeltaStateInputs, GatedDeltaStepInputs, GatedDeltaWithStatesInputs, accept_state, chunk_length, gated_delta,
    gated_delta_by_channel, gated_delta_by_channel_of_documents, gated_delta_by_channel_step,
    gated_delta_by_channel_steps, gated_delta_of_documents, gated_delta_state, gated_delta_step, gated_delta_steps,
    gated_delta_with_states,
};
pub use documents::Documents;
pub use expert_rows::{ExpertRows, gather_from_experts, spread_to_experts, weights_of_rows};
pub use gates::{GatesOutputs, gates};
pub use gelu::{gelu, gelu_tanh};
pub use grouped_linear::{grouped_linear, grouped_packed_linear};
pub use l2norm::l2norm;
pub use layer_norm::layer_norm;
pub use low_rank::adapted_linear;
pub use mrope::Frequencies;
pub use packed_linear::packed_linear;
pub use rms_norm::{rms_norm, rms_norm_gated, rms_norm_zero_centred};
pub use rope_layout::{AxisChoice, Pairing};
pub use rotary::{RotaryLayout, TableLayout, rotary};
pub use swiglu::{swiglu, weighted_swiglu};
pub use verify::{verify_linear, verify_quantised_linear, verify_switch_linear};

/// Every kernel of the program, those of this crate among them.
///
/// Calling it keeps this crate linked: the linker drops a crate to which nothing refers, and its kernels with it.
pub fn kernels() -> Vec<&'static cotangent::kernel::Declaration> {
    cotangent::kernel::kernels()
}

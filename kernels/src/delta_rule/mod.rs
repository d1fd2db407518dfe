//! The gated delta rule: a linear attention whose state forgets by a gate and overwrites by the delta rule.
//!
//! Per value head, with the state `S` a matrix `[Dv, Dk]` that maps keys to values,
//!
//! ```text
//! S_t = g_t S_{t-1} + beta_t (v_t - g_t S_{t-1} k_t) k_t^T        y_t = S_t q_t
//! ```
//!
//! All arithmetic is float32, for inputs of every dtype: in bfloat16 the recurrence loses its gradients.

mod by_channel;
mod by_head;
mod documents;
mod geometry;
mod padding;
mod portable;
mod sequential;
mod stages;

use cotangent::Backend;

pub use by_channel::{GatedDeltaByChannelInputs, GatedDeltaByChannelOutputs, gated_delta_by_channel};
pub use by_head::{GatedDeltaInputs, GatedDeltaOutputs, gated_delta};
pub use documents::{gated_delta_by_channel_of_documents, gated_delta_of_documents};
pub use portable::{GatedDeltaInOperationsInputs, GatedDeltaInOperationsOutputs, gated_delta_in_operations};
pub use sequential::{
    AcceptStateInputs, AcceptStateOutputs, GatedDeltaByChannelStepInputs, GatedDeltaByChannelStepOutputs,
    GatedDeltaStateInputs, GatedDeltaStepInputs, GatedDeltaStepOutputs, GatedDeltaWithStatesInputs,
    GatedDeltaWithStatesOutputs, accept_state, gated_delta_by_channel_step, gated_delta_by_channel_steps,
    gated_delta_state, gated_delta_step, gated_delta_steps, gated_delta_with_states,
};

/// Tokens of a chunk that suit a backend. Longer chunks save fewer states and take fewer steps one after the other, but
/// the work within a chunk grows with the square of its length: a CPU pays for that work, a GPU for the steps.
pub fn chunk_length(backend: Backend) -> usize {
    match backend {
        Backend::Metal | Backend::Cuda => 64,
        Backend::Cpu | Backend::Emulated => 32,
    }
}

//! Compares operators with references, chunks with single steps, and gradients with finite differences: on the CPU and,
//! where a kernel has a source, in the emulator.

#![allow(clippy::ptr_arg, reason = "trees of parameters are `Vec`s here, and drivers pass them by reference")]

mod attention_gate;
mod cases;
mod causal_attention;
mod causal_conv;
mod cross_entropy;
mod decoded_matrix;
mod gated_delta;
mod gated_delta_by_channel;
mod gated_delta_states;
mod gates_and_l2norm;
mod grouped_linear;
mod low_rank;
mod mrope;
mod packed_linear;
mod rms_norm;
mod rotary;
mod swiglu;
mod verify;
mod vision_operators;

//! The Qwen3.5 text model, dense or with experts.

mod attention;
mod balance;
mod block;
mod cache;
mod experts;
mod feed_forward;
mod gated_delta_net;
mod load;
mod lora;
mod mlp;
mod model;
mod multi_token;
mod tower;
mod train;

pub use attention::Attention;
pub use balance::Balance;
pub use block::{Block, FullAttention, LinearAttention, Mixer};
pub use cache::{Cache, GatedDeltaCache, KeyValueCache, LayerCache};
pub use experts::{Experts, MixtureOfExperts, Routing};
pub use feed_forward::FeedForward;
pub use gated_delta_net::GatedDeltaNet;
pub(crate) use load::correct;
pub use load::{Findings, LoadError};
pub use lora::{LoraOptions, LoraTargets};
pub use mlp::Mlp;
pub use model::{Model, Step};
pub use multi_token::MultiTokenHead;
pub use train::{Ahead, AheadLoss, Batch, Embedding, Head, State};

//! The vision tower of Qwen3.5 and Qwen3-VL, which turns patches of pixels into tokens of the text model.
//!
//! Patches are embedded and get a learned position, stretched from a square table over each picture; blocks of attention
//! within each frame follow, and a merger makes one token of each group of patches. Qwen3-VL takes features for its first
//! text layers on the way (deepstack).

mod attention;
mod block;
mod input;
mod merger;
mod patch_embed;
mod positions;
mod tower;

pub use attention::VisionAttention;
pub use block::{VisionBlock, VisionMlp};
pub use input::{Pictures, Slots, VisionInput};
pub use merger::Merger;
pub use patch_embed::{PatchEmbedding, PositionTable};
pub use positions::{RowPositions, row_positions};
pub use tower::{Features, VisionTower};

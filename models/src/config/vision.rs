//! The settings of a vision tower.

use super::ConfigError;
use super::fields::Fields;

/// The vision tower of Qwen3.5, or of Qwen3-VL, as `vision_config` describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct VisionConfig {
    /// The number of blocks.
    pub depth: usize,
    /// Width of the tower.
    pub hidden_size: usize,
    /// Width of the MLP between its projections.
    pub intermediate_size: usize,
    /// Attention heads; a divisor of `hidden_size` whose quotient is a multiple of 4.
    pub num_heads: usize,
    /// Pixels on each side of a patch.
    pub patch_size: usize,
    /// Frames of a patch.
    pub temporal_patch_size: usize,
    /// Patches on each side of the group that becomes one token.
    pub spatial_merge_size: usize,
    /// The width of the text model.
    pub out_hidden_size: usize,
    /// Positions on each side of the square table that is stretched over every picture.
    pub positions_per_side: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// The blocks, ascending, after which features for the first text layers are taken.
    pub deepstack: Vec<usize>,
    /// The token that stands for a group of patches of a picture.
    pub image_token: u32,
    /// The token that stands for a group of patches of a video.
    pub video_token: u32,
    /// The token before the first of a picture's.
    pub start_token: u32,
    /// The token after the last.
    pub end_token: u32,
}

impl VisionConfig {
    /// Numbers of a patch: those of its pixels in all channels and frames.
    pub fn patch_length(&self) -> usize {
        3 * self.temporal_patch_size * self.patch_size * self.patch_size
    }
}

/// Reads `vision_config`, if there is one, and the tokens beside it.
pub(super) fn read(top: &Fields, text_width: usize) -> Result<Option<VisionConfig>, ConfigError> {
    let Some(vision) = top.object("vision_config")? else { return Ok(None) };
    match vision.string("hidden_act")? {
        None | Some("gelu_pytorch_tanh") => {}
        Some(other) => {
            return Err(vision.unsupported("hidden_act", format!("`{other}` instead of `gelu_pytorch_tanh`")));
        }
    }
    match vision.optional_size("in_channels")? {
        None | Some(3) => {}
        Some(other) => return Err(vision.unsupported("in_channels", format!("{other} instead of 3"))),
    }
    let rope = vision.object("rope_parameters")?;
    if let Some(rope) = &rope {
        match rope.string("rope_type")? {
            None | Some("axial" | "default") => {}
            Some(other) => return Err(rope.unsupported("rope_type", format!("`{other}` instead of `axial`"))),
        }
    }
    let theta = rope.as_ref().map(|rope| rope.positive_number("rope_theta")).transpose()?.flatten();
    let positions = vision.size("num_position_embeddings")?;
    let side = positions.isqrt();
    if side * side != positions {
        return Err(vision.wrong("num_position_embeddings", positions, "a square: a table as wide as high"));
    }
    let token = |field: &str| {
        let id = top.optional_count(field)?.ok_or_else(|| top.absent(field, "a token"))?;
        u32::try_from(id).map_err(|_| top.wrong(field, id, "a token"))
    };
    let depth = vision.size("depth")?;
    let config = VisionConfig {
        depth,
        hidden_size: vision.size("hidden_size")?,
        intermediate_size: vision.size("intermediate_size")?,
        num_heads: vision.size("num_heads")?,
        patch_size: vision.size("patch_size")?,
        temporal_patch_size: vision.size("temporal_patch_size")?,
        spatial_merge_size: vision.size("spatial_merge_size")?,
        out_hidden_size: vision.size("out_hidden_size")?,
        positions_per_side: side,
        rope_theta: theta.unwrap_or(10_000.0),
        deepstack: deepstack(&vision, depth)?,
        image_token: token("image_token_id")?,
        video_token: token("video_token_id")?,
        start_token: token("vision_start_token_id")?,
        end_token: token("vision_end_token_id")?,
    };
    // A head has pairs of lanes for rows, and as many for columns.
    vision.expect_multiple(("hidden_size", config.hidden_size), ("num_heads", config.num_heads))?;
    if !(config.hidden_size / config.num_heads).is_multiple_of(4) {
        return Err(vision.wrong("num_heads", config.num_heads, "heads of a multiple of 4 lanes"));
    }
    if config.out_hidden_size != text_width {
        let expected = format!("{text_width}, the `hidden_size` of the text model");
        return Err(vision.wrong("out_hidden_size", config.out_hidden_size, expected));
    }
    for fields in [Some(&vision), rope.as_ref()].into_iter().flatten() {
        fields.refuse_unread("")?;
    }
    Ok(Some(config))
}

fn deepstack(vision: &Fields, depth: usize) -> Result<Vec<usize>, ConfigError> {
    let field = "deepstack_visual_indexes";
    let items = vision.array(field)?.unwrap_or_default();
    let blocks = items.iter().map(|item| vision.count(field, item)).collect::<Result<Vec<_>, _>>()?;
    if !blocks.is_sorted_by(|one, next| one < next) || blocks.last().is_some_and(|last| *last >= depth) {
        return Err(vision.wrong(field, format_args!("{blocks:?}"), format_args!("ascending numbers below {depth}")));
    }
    Ok(blocks)
}

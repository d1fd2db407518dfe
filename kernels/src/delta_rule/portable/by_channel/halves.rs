//! Pairs of neighbouring halves, in which the later one reads the earlier one over the boundary between them.

use cotangent::{Constant, Dtype, Infer, Result, Tensor};

use crate::delta_rule::portable::decay::sum_group;

/// The axis of a pair's two halves in `[N, B, Hk, group, pairs, 2, h, ..]`.
const HALVES: i32 = 5;

/// `[.., rows, W]` of a chunk as pairs of halves of `length` rows: `[N, B, Hk, group, pairs, 2, length, W]`.
fn paired(rows: &Tensor<Infer>, length: i32) -> Result<Tensor<Infer>> {
    let mut shape = rows.shape()[..4].to_vec();
    shape.extend([-1, 2, length, rows.dimension(-1)]);
    rows.reshape(&shape)
}

/// The earlier and the later half of each pair, `[N, B, Hk, group, pairs, 1, length, W]`.
fn halves_of(pairs: &Tensor<Infer>) -> Result<[Tensor<Infer>; 2]> {
    Ok([pairs.slice(HALVES, 0, 1)?, pairs.slice(HALVES, 1, 2)?])
}

/// The decays of blocks of some tokens, `[N, B, Hk, group, C, Dk]`, as products: rows of exponentials would cost more, and
/// nothing is divided.
pub(super) struct Blocks {
    /// Tokens of a block.
    pub(super) length: i32,
    /// The decays from a block's beginning to each of its tokens, the token included.
    pub(super) since: Tensor<Infer>,
    /// The decays from each token to its block's end.
    pub(super) until: Tensor<Infer>,
}

impl Blocks {
    /// Blocks of one token, from the decay of each.
    pub(super) fn from_tokens(decay: Tensor<Infer>) -> Result<Self> {
        let until = Constant::full(decay.shape(), 1.0, Dtype::F32)?.to_tensor();
        Ok(Blocks { length: 1, since: decay, until })
    }

    /// The last row of `since`: over a whole block.
    fn throughout(&self, halves: &Tensor<Infer>) -> Result<Tensor<Infer>> {
        halves.slice(6, self.length - 1, self.length)
    }

    /// Blocks of twice the size.
    fn joined(&self) -> Result<Self> {
        let [since_earlier, since_later] = halves_of(&paired(&self.since, self.length)?)?;
        let [until_earlier, until_later] = halves_of(&paired(&self.until, self.length)?)?;
        let since_later_joined = since_later.multiply(&self.throughout(&since_earlier)?)?;
        let until_earlier_joined = until_earlier.multiply(&self.throughout(&since_later)?)?;
        let joined = |halves: [&Tensor<Infer>; 2]| Tensor::concatenate(&halves, HALVES)?.reshape(self.since.shape());
        Ok(Blocks {
            length: 2 * self.length,
            since: joined([&since_earlier, &since_later_joined])?,
            until: joined([&until_earlier_joined, &until_later])?,
        })
    }
}

/// Halves of one size: what the later ones read of the earlier ones.
pub(super) struct Halves {
    /// Tokens of a half.
    length: i32,
    /// Queries and keys of the later halves: `[N, B, Hk, 1, pairs, 2, length, Dk]`.
    later: Tensor<Infer>,
    /// Keys of the earlier halves: `[N, B, Hk, 1, pairs, 1, length, Dk]`.
    earlier: Tensor<Infer>,
    /// Decays from the boundary to the later halves' tokens: `[N, B, Hk, group, pairs, 1, length, Dk]`.
    since_boundary: Tensor<Infer>,
    /// Decays from the earlier halves' tokens to the boundary: `[N, B, Hk, group, pairs, 1, length, Dk]`.
    until_boundary: Tensor<Infer>,
    /// Queries, then keys, of the later halves, decayed: `[N, B, Hk, group, pairs, 2 length, Dk]`.
    readers: Tensor<Infer>,
    /// Keys of the earlier halves, decayed: `[N, B, Hk, group, pairs, length, Dk]`.
    writers: Tensor<Infer>,
}

impl Halves {
    /// Pairs of blocks, and what comes of joining them. `queries_and_keys` are `[N, B, Hk, 2, C, Dk]`.
    pub(super) fn new(blocks: &Blocks, queries_and_keys: &Tensor<Infer>) -> Result<(Self, Blocks)> {
        let &[chunks, batch, key_heads, _, tokens, dim] = queries_and_keys.shape() else { unreachable!("six axes") };
        let length = blocks.length;
        let pairs = tokens / (2 * length);
        let shape = [chunks, batch, key_heads, 1, 2, pairs, 2, length, dim];
        let rows = queries_and_keys.reshape(&shape)?;
        let later = rows.slice(6, 1, 2)?.squeeze(6)?.swap_axes(4, 5)?;
        let earlier = rows.slice(4, 1, 2)?.slice(6, 0, 1)?.squeeze(4)?;
        let since_boundary = paired(&blocks.since, length)?.slice(HALVES, 1, 2)?;
        let until_boundary = paired(&blocks.until, length)?.slice(HALVES, 0, 1)?;
        let mut shape = blocks.since.shape()[..4].to_vec();
        shape.extend([pairs, -1, dim]);
        let readers = later.multiply(&since_boundary)?.reshape(&shape)?;
        let writers = earlier.multiply(&until_boundary)?.reshape(&shape)?;
        let halves = Halves { length, later, earlier, since_boundary, until_boundary, readers, writers };
        Ok((halves, blocks.joined()?))
    }

    /// The scores of blocks of twice the size, `[N, B, Hk, group, pairs, 2, 2 length, 2 length]`, queries' before keys', from
    /// those within the halves.
    pub(super) fn scores(&self, within: Option<&Tensor<Infer>>) -> Result<Tensor<Infer>> {
        let length = self.length;
        let across = self.readers.matmul(&self.writers.swap_axes(-2, -1)?)?;
        let mut shape = self.readers.shape()[..5].to_vec();
        shape.extend([2, length, length]);
        let across = across.reshape(&shape)?;
        let Some(within) = within else {
            // A token does not read itself.
            return across.pad(-1, 0, length)?.pad(-2, length, 0);
        };
        let mut shape = across.shape().to_vec();
        shape.insert(5, 2);
        let pairs = within.reshape(&shape)?;
        let [earlier, later] = halves_of(&pairs)?.map(|half| half.squeeze(5));
        let later = Tensor::concatenate(&[&across, &later?], -1)?;
        Tensor::concatenate(&[&earlier?.pad(-1, 0, length)?, &later], -2)
    }

    /// The scores' cotangents within the halves, and what those across the boundary give to queries, keys and decays.
    pub(super) fn backward(&self, d_scores: &Tensor<Infer>, d_blocks: &BlockCotangents) -> Result<HalvesGradients> {
        let length = self.length;
        let &[chunks, batch, key_heads, group, pairs, _, dim] = self.readers.shape() else {
            unreachable!("seven axes")
        };
        let parts = d_scores.reshape(&[chunks, batch, key_heads, group, pairs, 2, 2, length, 2, length])?;
        let part = |row: i32, column: i32| parts.slice(6, row, row + 1)?.slice(8, column, column + 1);
        let across = part(1, 0)?.reshape(&[chunks, batch, key_heads, group, pairs, 2 * length, length])?;
        let within = [part(0, 0)?, part(1, 1)?]
            .map(|part| part.reshape(&[chunks, batch, key_heads, group, pairs, 1, 2, length, length]));
        let [earlier, later] = within;
        let within = Tensor::concatenate(&[&earlier?, &later?], HALVES)?;

        let half = |count: i32| [chunks, batch, key_heads, group, pairs, count, length, dim];
        let d_later = across.matmul(&self.writers)?.reshape(&half(2))?.multiply(&self.since_boundary)?;
        let d_earlier = across.swap_axes(-2, -1)?.matmul(&self.readers)?.reshape(&half(1))?;
        let d_earlier = d_earlier.multiply(&self.until_boundary)?;
        let d_blocks = d_blocks.halved(
            length,
            &d_later.multiply(&self.later)?.sum_keep(&[HALVES])?,
            &d_earlier.multiply(&self.earlier)?,
        )?;

        let [d_later, d_earlier] = [sum_group(&d_later)?, sum_group(&d_earlier)?];
        let rows = [chunks, batch, key_heads, 1, 2 * pairs * length, dim];
        let queries = d_later.slice(HALVES, 0, 1)?.pad(HALVES, 1, 0)?.reshape(&rows)?;
        let keys = Tensor::concatenate(&[&d_earlier, &d_later.slice(HALVES, 1, 2)?], HALVES)?.reshape(&rows)?;
        Ok(HalvesGradients { within, queries, keys, d_blocks })
    }
}

/// The cotangents that [`Halves::backward`] returns.
pub(super) struct HalvesGradients {
    /// The cotangents of the scores within the halves: `[N, B, Hk, group, pairs, 2, 2, length, length]`.
    pub(super) within: Tensor<Infer>,
    /// `[N, B, Hk, 1, C, Dk]`.
    pub(super) queries: Tensor<Infer>,
    /// `[N, B, Hk, 1, C, Dk]`.
    pub(super) keys: Tensor<Infer>,
    /// The cotangents of the halves' decays.
    pub(super) d_blocks: BlockCotangents,
}

/// The cotangents of the logarithms of [`Blocks`]: no decay is divided by, and where gates are shut they are as small as
/// the decay.
pub(super) struct BlockCotangents {
    /// `[N, B, Hk, group, C, Dk]`.
    pub(super) since: Tensor<Infer>,
    /// `[N, B, Hk, group, C, Dk]`.
    pub(super) until: Tensor<Infer>,
    /// The cotangents of the decay over each whole block: `[N, B, Hk, group, blocks, Dk]`.
    pub(super) throughout: Tensor<Infer>,
}

impl BlockCotangents {
    /// Returns the cotangents of blocks of half the size, to which the scores across boundaries add their part.
    fn halved(&self, length: i32, d_since_boundary: &Tensor<Infer>, d_until_boundary: &Tensor<Infer>) -> Result<Self> {
        let [since_earlier, since_later] = halves_of(&paired(&self.since, length)?)?;
        let [until_earlier, until_later] = halves_of(&paired(&self.until, length)?)?;
        let mut shape = since_earlier.shape().to_vec();
        shape[6] = 1;
        let throughout = self.throughout.reshape(&shape)?;
        // A later token has the whole earlier half before it, and an earlier token has the whole later half behind it.
        let throughout_earlier = throughout.add(&since_later.sum_keep(&[6])?)?;
        let throughout_later = throughout.add(&until_earlier.sum_keep(&[6])?)?;
        let mut blocks = self.throughout.shape().to_vec();
        blocks[4] *= 2;
        let joined = |halves: [&Tensor<Infer>; 2], shape: &[i32]| Tensor::concatenate(&halves, HALVES)?.reshape(shape);
        Ok(BlockCotangents {
            since: joined([&since_earlier, &since_later.add(d_since_boundary)?], self.since.shape())?,
            until: joined([&until_earlier.add(d_until_boundary)?, &until_later], self.until.shape())?,
            throughout: joined([&throughout_earlier, &throughout_later], &blocks)?,
        })
    }
}

//! Continuing a token sequence with caches.

use std::time::{Duration, Instant};

use cotangent::{Dtype, Indices, Infer, Session, Stored};
use cotangent_models::config::TextConfig;
use cotangent_models::qwen35::{Cache, Model, Step};
use cotangent_models::rope::{Positions, Rotary};
use cotangent_models::vision::{Pictures, RowPositions};

use crate::sampling::{Sampler, SamplingOptions};

/// Tokens of the prompt that are read at once: bounds the memory that a long prompt takes.
const PREFILL_TOKENS: usize = 512;

/// A request for an answer.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The tokens to continue; at least one.
    pub prompt: &'a [u32],
    /// The pictures of the prompt, and the positions of its tokens, if there are any pictures.
    pub pictures: Option<PromptPictures>,
    /// Tokens that end the answer; they are not part of it.
    pub stop: &'a [u32],
    /// The longest answer.
    pub max_tokens: usize,
    /// The options of sampling.
    pub sampling: SamplingOptions,
}

/// The pictures of a prompt.
#[derive(Debug, Clone)]
pub struct PromptPictures {
    /// The patches that the tower reads, and the places of its features.
    pub pictures: Pictures,
    /// The positions of the tokens of the prompt.
    pub positions: RowPositions,
}

/// The generated answer, and its speed.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// The answer.
    pub tokens: Vec<u32>,
    /// Whether it ended by itself.
    pub stopped: bool,
    /// Time to read the prompt.
    pub prompt_time: Duration,
    /// Time for the tokens after the first, which the prompt's time includes.
    pub generation_time: Duration,
}

/// Generates, and shows every token to `on_token` as it comes; an error of `on_token` ends it.
///
/// # Errors
/// If a computation fails, the model's scores are not numbers, or `on_token` fails.
pub fn generate<E: From<cotangent::Error>>(
    session: &mut Session,
    model: &Model<Stored>,
    config: &TextConfig,
    dtype: Dtype,
    request: &Request<'_>,
    mut on_token: impl FnMut(u32) -> Result<(), E>,
) -> Result<Generation, E> {
    let mut sampler = Sampler::new(request.sampling);
    let mut cache = Cache::empty(config, 1, dtype)?;
    let mut pictures = request.pictures.clone();
    // The positions after pictures are this far behind the number of tokens.
    let delta = pictures.as_ref().map_or(0, |of_prompt| of_prompt.positions.next as i64 - request.prompt.len() as i64);
    let chunk = if pictures.is_some() { request.prompt.len() } else { PREFILL_TOKENS };
    let mut read = |tokens: &[u32]| -> cotangent::Result<Vec<f32>> {
        let ids: Vec<i32> = tokens.iter().map(|id| id.cast_signed()).collect();
        let (positions, pictures) = match pictures.take() {
            Some(PromptPictures { pictures, positions }) => {
                (Positions::from_rows(&[&positions.tokens], ids.len()), Some(pictures))
            }
            None => (Positions::text(1, (cache.length as i64 + delta).max(0) as usize, ids.len()), None),
        };
        let step = Step {
            tokens: Indices::from_slice(&ids, &[1, ids.len() as i32])?,
            rotary: Rotary::new(&config.rope, &positions)?,
            pictures,
        };
        let (scores, after) = session.infer(model, &cache, &step, Model::<Infer>::decode)?;
        cache = after;
        scores.to_vec()
    };

    let started = Instant::now();
    let mut scores = Vec::new();
    for chunk in request.prompt.chunks(chunk) {
        scores = read(chunk)?;
    }
    let prompt_time = started.elapsed();
    let started = Instant::now();
    let mut generation =
        Generation { tokens: Vec::new(), stopped: false, prompt_time, generation_time: Duration::ZERO };
    while generation.tokens.len() < request.max_tokens {
        let token = sampler.choose(&scores).ok_or_else(|| {
            cotangent::Error::Other("the model's scores are not numbers: its weights or its adapter are damaged".into())
        })?;
        if request.stop.contains(&token) {
            generation.stopped = true;
            break;
        }
        generation.tokens.push(token);
        on_token(token)?;
        if generation.tokens.len() < request.max_tokens {
            scores = read(&[token])?;
        }
    }
    generation.generation_time = started.elapsed();
    Ok(generation)
}

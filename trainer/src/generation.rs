//! Continuing a token sequence with caches.

use std::time::{Duration, Instant};

use cotangent::{Dtype, Indices, Infer, Session, Stored};
use cotangent_models::config::TextConfig;
use cotangent_models::qwen35::{Cache, Model, Step};
use cotangent_models::rope::{Positions, Rotary};

use crate::sampling::{Sampler, SamplingOptions};

/// Tokens of the prompt that are read at once: bounds the memory that a long prompt takes.
const PREFILL_TOKENS: usize = 512;

/// What is to be generated.
#[derive(Debug, Clone)]
pub struct Request<'a> {
    /// The tokens to continue; at least one.
    pub prompt: &'a [u32],
    /// Tokens that end the answer; they are not part of it.
    pub stop: &'a [u32],
    /// The longest answer.
    pub max_tokens: usize,
    /// How to choose.
    pub sampling: SamplingOptions,
}

/// What was generated, and how fast.
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
    let mut read = |tokens: &[u32]| -> cotangent::Result<Vec<f32>> {
        let ids: Vec<i32> = tokens.iter().map(|id| id.cast_signed()).collect();
        let positions = Positions::text(1, cache.length, ids.len());
        let step = Step {
            tokens: Indices::from_slice(&ids, &[1, ids.len() as i32])?,
            rotary: Rotary::new(&config.rope, &positions)?,
            pictures: None,
        };
        let (scores, after) = session.infer(model, &cache, &step, Model::<Infer>::decode)?;
        cache = after;
        scores.to_vec()
    };

    let started = Instant::now();
    let mut scores = Vec::new();
    for chunk in request.prompt.chunks(PREFILL_TOKENS) {
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

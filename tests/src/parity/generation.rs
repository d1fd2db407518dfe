//! Greedy continuation through the caches.

use anyhow::{Result, bail};
use cotangent::{Dtype, Indices, Infer, Session};
use cotangent_models::qwen35::{Cache, Model, Step};
use cotangent_models::rope::{Positions, Rotary};
use cotangent_models::vision::row_positions;

use super::Subject;
use super::table::{Kind, Table};

/// Placeholders of pictures and films: the references never choose them.
const EXCLUDED: std::ops::Range<usize> = 250..254;

pub(super) fn compare(session: &mut Session, subject: &Subject<'_>, table: &mut Table) -> Result<()> {
    let Subject { config, model, reference, .. } = subject;
    let (prompt, _) = reference.integers("generate.prompt")?;
    let (expected_tokens, _) = reference.integers("generate.tokens")?;
    let (expected_logits, _) = reference.floats("generate.logits")?;

    // Pictures belong to the prompt, which is the case `plain`; later tokens are text.
    let (mut pictures, mut positions) = match &config.vision {
        None => (None, None),
        Some(vision) => {
            let ids: Vec<u32> = prompt.iter().map(|id| id.unsigned_abs()).collect();
            let positions = row_positions(vision, &ids, &reference.grids("plain")?).map_err(anyhow::Error::msg)?;
            (Some(reference.pictures("plain", vision, &prompt, [1, prompt.len()])?), Some(positions))
        }
    };
    let mut following = positions.as_ref().map_or(prompt.len(), |positions| positions.next.unsigned_abs() as usize);
    let mut cache = Cache::empty(config, 1, Dtype::F32)?;
    let mut next = prompt;
    let mut found_tokens = Vec::new();
    let mut found_logits: Vec<f32> = Vec::new();
    while found_tokens.len() < expected_tokens.len() {
        let length = next.len();
        let here = match positions.take() {
            Some(of_prompt) => Positions::from_rows(&[&of_prompt.tokens], length),
            None if cache.length == 0 => Positions::text(1, 0, length),
            None => {
                following += 1;
                Positions::text(1, following - 1, length)
            }
        };
        let step = Step {
            tokens: Indices::from_slice(&next, &[1, length as i32])?,
            rotary: Rotary::new(&config.rope, &here)?,
            pictures: pictures.take(),
        };
        let (logits, advanced) = session.infer(model, &cache, &step, Model::<Infer>::decode)?;
        cache = advanced;
        let logits: Vec<f32> = logits.to_vec()?;
        let choice = (0..logits.len())
            .filter(|token| !EXCLUDED.contains(token))
            .max_by(|left, right| logits[*left].total_cmp(&logits[*right]));
        let Some(choice) = choice else { bail!("the vocabulary is empty") };
        found_tokens.push(choice as i32);
        found_logits.extend(logits);
        next = vec![choice as i32];
    }
    let equal = found_tokens == expected_tokens;
    table.add(Kind::GreedyTokens, "generate.tokens", if equal { 0.0 } else { 1.0 });
    table.compare(Kind::Logits, "generate.logits", &found_logits, &expected_logits, |_| true);
    Ok(())
}

//! Generation with caches: the same tokens as without.

mod common;

use cotangent::{Dtype, Indices, Infer, Result, Session, Stored, Tensor};
use cotangent_models::config::TextConfig;
use cotangent_models::qwen35::{Cache, Model, Step};
use cotangent_models::rope::{Positions, Rotary};
use cotangent_trainer::generation::{Generation, Request, generate};
use cotangent_trainer::sampling::{Sampler, SamplingOptions};

use common::adapted_model;

/// Scores of the token after the last of `tokens`, with no cache at all.
fn scores(session: &mut Session, model: &Model<Stored>, config: &TextConfig, tokens: &[u32]) -> Vec<f32> {
    fn last(model: &Model<Infer>, _: &Cache<Infer>, step: &Step) -> Result<Tensor<Infer>> {
        let states = model.hidden_states(&step.tokens, &step.rotary, step.pictures.as_ref(), None)?;
        let hidden = &states[states.len() - 1];
        let tokens = hidden.dimension(1);
        model.logits(&hidden.slice(1, tokens - 1, tokens)?)
    }
    let ids: Vec<i32> = tokens.iter().map(|id| *id as i32).collect();
    let step = Step {
        tokens: Indices::from_slice(&ids, &[1, ids.len() as i32]).unwrap(),
        rotary: Rotary::new(&config.rope, &Positions::text(1, 0, ids.len())).unwrap(),
        pictures: None,
    };
    let unused = Cache::empty(config, 1, Dtype::F32).unwrap();
    session.infer(model, &unused, &step, last).unwrap().to_vec().unwrap()
}

fn cached(session: &mut Session, prompt: &[u32], stop: &[u32], sampling: SamplingOptions) -> Generation {
    let (model, config) = adapted_model();
    let request = Request { prompt, pictures: None, stop, max_tokens: 12, sampling };
    generate(session, &model, &config, Dtype::F32, &request, |_| Ok::<(), cotangent::Error>(())).unwrap()
}

#[test]
fn greedy_tokens_are_those_of_a_model_that_reads_everything_anew_each_time() {
    let mut session = Session::new().unwrap();
    let (model, config) = adapted_model();
    // The lengths are one token, a few, and more than the prompt's chunks hold.
    for length in [1, 9, 530] {
        let prompt: Vec<u32> = (0..length).map(|place| (place * 37 + 11) % 250).collect();
        let mut tokens = prompt.clone();
        let mut sampler = Sampler::new(SamplingOptions::default());
        for _ in 0..12 {
            let scores = scores(&mut session, &model, &config, &tokens);
            tokens.push(sampler.choose(&scores).unwrap());
        }
        let generation = cached(&mut session, &prompt, &[], SamplingOptions::default());
        assert_eq!(generation.tokens, tokens[prompt.len()..], "a prompt of {length} tokens");
        assert!(!generation.stopped);
    }
}

#[test]
fn an_answer_ends_before_a_stop_token() {
    let mut session = Session::new().unwrap();
    let prompt = [3, 1, 4, 1, 5];
    let free = cached(&mut session, &prompt, &[], SamplingOptions::default()).tokens;
    let stop = free[free.len() - 1];
    let first = free.iter().position(|token| *token == stop).unwrap();
    let stopped = cached(&mut session, &prompt, &[stop], SamplingOptions::default());
    assert_eq!((stopped.tokens.as_slice(), stopped.stopped), (&free[..first], true));
}

#[test]
fn a_seed_decides_what_is_drawn() {
    let mut session = Session::new().unwrap();
    let mut draw = |seed| {
        let sampling = SamplingOptions { temperature: 1.0, seed, ..SamplingOptions::default() };
        cached(&mut session, &[3, 1, 4], &[], sampling).tokens
    };
    assert_eq!(draw(1), draw(1));
    assert_ne!(draw(1), draw(2));
}

#[test]
fn an_error_of_who_listens_ends_it() {
    let mut session = Session::new().unwrap();
    let (model, config) = adapted_model();
    let request =
        Request { prompt: &[1, 2], pictures: None, stop: &[], max_tokens: 5, sampling: SamplingOptions::default() };
    let mut heard = 0;
    let result = generate(&mut session, &model, &config, Dtype::F32, &request, |_| {
        heard += 1;
        if heard == 2 { Err(cotangent::Error::Other("enough".into())) } else { Ok(()) }
    });
    assert_eq!((result.unwrap_err().to_string(), heard), ("enough".to_owned(), 2));
}

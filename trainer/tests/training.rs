//! The training loop, without files: what an iteration computes, and that it learns.

mod common;

use cotangent::{Gradients, Keep, Session, Tensor};
use cotangent_trainer::data::TokenBatch;
use cotangent_trainer::loss_curve::LossCurve;
use cotangent_trainer::training::{
    Accumulated, BatchMaker, Event, Outcome, Trainer, TrainingError, accumulate, validate,
};

use common::{adapted_model, counting, options};

fn gradients(batches: &[TokenBatch], keep: Keep) -> Accumulated {
    let mut session = Session::new().unwrap();
    let (model, config) = adapted_model();
    let trainable = model.adapters_trainable().unwrap();
    let mut maker = BatchMaker::new(config.rope, None);
    accumulate(&mut session, &model, &trainable, &mut maker, batches, keep).unwrap()
}

/// The norm of the difference of two gradients relative to their own, of the tensor where it is largest.
fn deviation(left: &Gradients, right: &Gradients) -> f64 {
    assert_eq!(left.len(), right.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let mut worst = 0.0_f64;
    for (name, left) in left.iter() {
        let (left, right) = (left.to_vec::<f32>().unwrap(), right.get(name).unwrap().to_vec::<f32>().unwrap());
        let whole = norm(&mut right.iter().map(|value| f64::from(*value)));
        assert!(whole > 0.0, "`{name}` has no gradient");
        let difference = norm(&mut left.iter().zip(&right).map(|(left, right)| f64::from(left - right)));
        worst = worst.max(difference / whole);
    }
    worst
}

#[test]
fn micro_batches_weigh_by_their_tokens_as_in_one_big_batch() {
    // All rows have one width, so that only the order of the sums differs.
    let data = counting(&[66, 96, 70, 90, 81]);
    let together = data.batch(&[0, 1, 2, 3, 4]);
    let apart = [data.batch(&[3]), data.batch(&[1, 2]), data.batch(&[0, 4])];
    assert!(apart.iter().all(|batch| batch.width == together.width));
    let (together, apart) = (gradients(&[together], Keep::BlockInputs), gradients(&apart, Keep::BlockInputs));
    assert_eq!((together.targets, together.tokens), (apart.targets, apart.tokens));
    let (one, other) = (together.losses.loss, apart.losses.loss);
    assert!((one - other).abs() < 1e-6 * one, "{one} {other}");
    let deviation = deviation(&apart.gradients, &together.gradients);
    assert!(deviation < 1e-5, "{deviation}");
}

#[test]
fn what_the_forward_pass_keeps_changes_no_gradient() {
    let data = counting(&[40, 12, 33]);
    let batches = [data.batch(&[0, 1, 2])];
    let (all, inputs) = (gradients(&batches, Keep::All), gradients(&batches, Keep::BlockInputs));
    let deviation = deviation(&all.gradients, &inputs.gradients);
    assert!(deviation < 1e-5, "{deviation}");
}

#[test]
fn padding_changes_no_gradient() {
    let data = counting(&[40, 12, 7, 90]);
    let (padded, alone) =
        (gradients(&[data.batch(&[1, 3])], Keep::All), gradients(&[data.batch(&[1]), data.batch(&[3])], Keep::All));
    let deviation = deviation(&padded.gradients, &alone.gradients);
    assert!(deviation < 1e-5, "{deviation}");
}

#[test]
fn the_validation_loss_is_the_mean_over_tokens_whatever_the_batches() {
    let mut session = Session::new().unwrap();
    let (model, config) = adapted_model();
    let data = counting(&[40, 12, 7, 90, 33]);
    let mut maker = BatchMaker::new(config.rope, None);
    let mut loss = |batch_size| {
        validate(&mut session, &model, &mut maker, &data, batch_size, None, &|| false).unwrap().unwrap().loss
    };
    let (one, two, five) = (loss(1), loss(2), loss(5));
    assert!((one - two).abs() < 1e-5 && (one - five).abs() < 1e-5, "{one} {two} {five}");
    assert_eq!(validate(&mut session, &model, &mut maker, &data, 2, None, &|| true).unwrap(), None);
}

#[test]
fn a_run_learns_and_reports_in_order() {
    let mut session = Session::new().unwrap();
    let (mut model, config) = adapted_model();
    let train = counting(&[24; 12]);
    let options = options(30);
    let mut events = Vec::new();
    let trainer = Trainer {
        session: &mut session,
        model: &mut model,
        rope: &config.rope,
        vision: None,
        train: &train,
        valid: Some(&train),
        options: &options,
        output: None,
        kept: Vec::new(),
        curve: &mut LossCurve::default(),
    };
    let outcome = trainer.run(None, &mut |event| events.push(event.clone()), &|| false).unwrap();
    assert_eq!(outcome, Outcome::Finished);

    let of = |pick: fn(&Event) -> Option<(usize, f64)>| events.iter().filter_map(pick).collect::<Vec<_>>();
    let validated = of(|event| match event {
        Event::Validated { iteration, losses, .. } => Some((*iteration, losses.loss)),
        _ => None,
    });
    let trained = of(|event| match event {
        Event::Trained(report) => Some((report.iteration, report.losses.loss)),
        _ => None,
    });
    let iterations = |events: &[(usize, f64)]| events.iter().map(|event| event.0).collect::<Vec<_>>();
    assert_eq!(iterations(&validated), [0, 4, 8, 12, 16, 20, 24, 28, 30]);
    assert_eq!(iterations(&trained), (1..=15).map(|report| 2 * report).collect::<Vec<_>>());
    let (first, last) = (validated[0].1, validated[validated.len() - 1].1);
    assert!(last < 0.7 * first, "validation loss {first} before, {last} after");
    let Some(Event::Trained(report)) = events.iter().rev().find(|event| matches!(event, Event::Trained(_))) else {
        panic!("no report")
    };
    // 30 iterations of 4 rows have 12 targets each.
    assert_eq!(report.trained_tokens, 30 * 4 * 12);
    assert!(report.tokens_per_second > 0.0 && report.peak_memory > 0);
}

#[test]
fn steps_without_finite_gradients_change_nothing_and_end_a_run_if_they_go_on() {
    let mut session = Session::new().unwrap();
    let (mut model, config) = adapted_model();
    let mut adapters = model.adapters();
    let name = "layers.1.mlp.up_proj.lora_b";
    let shape = adapters[name].shape().to_vec();
    let infinite = vec![f32::INFINITY; adapters[name].size()];
    adapters.insert(name.into(), Tensor::from_slice(&infinite, &shape).unwrap());
    model.set_adapters(&adapters).unwrap();
    let values = |adapters: std::collections::BTreeMap<String, Tensor<_>>| {
        adapters.into_values().map(|tensor| tensor.to_bytes().unwrap()).collect::<Vec<_>>()
    };
    let before = values(model.adapters());

    let train = counting(&[24; 12]);
    let options = options(100);
    let mut skipped = Vec::new();
    let trainer = Trainer {
        session: &mut session,
        model: &mut model,
        rope: &config.rope,
        vision: None,
        train: &train,
        valid: None,
        options: &options,
        output: None,
        kept: Vec::new(),
        curve: &mut LossCurve::default(),
    };
    let mut observe = |event: &Event| match event {
        Event::Skipped { iteration, .. } => skipped.push(*iteration),
        Event::Trained(report) => panic!("a mean of no losses was reported: {report:?}"),
        _ => {}
    };
    let error = trainer.run(None, &mut observe, &|| false).unwrap_err();
    assert!(matches!(error, TrainingError::NotFinite { steps: 20, iteration: 20, .. }), "{error}");
    assert!(error.to_string().contains("help: lower `--learning-rate`"), "{error}");
    assert_eq!(skipped, (1..=20).collect::<Vec<_>>());
    assert!(values(model.adapters()) == before, "an adapter changed");
}

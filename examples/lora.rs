//! Fine-tunes the small Qwen3.5 in `demo/` with LoRA, through the library: what `cotangent demo` does, in a few calls.
//!
//! `cargo run -p cotangent-examples --example lora` runs it from the top of the checkout. A number as argument sets how
//! many iterations it makes.

use std::path::Path;
use std::process::ExitCode;

use cotangent::{Keep, Session};
use cotangent_models::qwen35::{LoraOptions, LoraTargets};
use cotangent_trainer::base_model::BaseModel;
use cotangent_trainer::data::{DataOptions, Dataset};
use cotangent_trainer::loss_curve::LossCurve;
use cotangent_trainer::schedule::{Decay, Schedule};
use cotangent_trainer::training::{Event, Trainer, TrainingOptions};

/// Trains for `iterations` and prints the loss on the way.
fn fine_tune(demo: &Path, iterations: usize) -> anyhow::Result<()> {
    let mut session = Session::new()?;
    let mut base = BaseModel::load(&session, &demo.join("checkpoint"), &mut |_, _| {})?;
    let lora = LoraOptions { rank: 8, scale: 2.0, targets: LoraTargets::All, last_layers: None };
    base.add_adapters(&lora, 0)?;
    println!("{} adapters on a model of {} parameters", base.model.adapters().len() / 2, base.size());

    let data = DataOptions::new(256);
    let train = Dataset::load(&demo.join("data/train.jsonl"), &base.format, &data)?;
    let valid = Dataset::load(&demo.join("data/valid.jsonl"), &base.format, &data)?;
    let options = TrainingOptions {
        batch_size: 8,
        accumulation: 1,
        schedule: Schedule { peak: 2e-3, minimum: 0.0, warmup: 2, steps: iterations, decay: Decay::Cosine },
        weight_decay: 0.01,
        max_gradient_norm: Some(1.0),
        mtp: None,
        router_aux_loss: 0.0,
        seed: 0,
        keep: Keep::BlockInputs,
        steps_per_report: 5,
        steps_per_eval: iterations,
        validation_batches: Some(1),
        save_every: iterations,
    };
    let trainer = Trainer {
        session: &mut session,
        model: &mut base.model,
        rope: &base.config.rope,
        vision: None,
        train: &train,
        valid: Some(&valid),
        options: &options,
        output: None,
        kept: Vec::new(),
        curve: &mut LossCurve::default(),
    };
    let mut show = |event: &Event| match event {
        Event::Trained(report) => println!("iteration {:>3}: loss {:.3}", report.iteration, report.losses.loss),
        Event::Validated { iteration, losses, .. } => {
            println!("iteration {iteration:>3}: validation loss {:.3}", losses.loss);
        }
        _ => {}
    };
    trainer.run(None, &mut show, &|| false)?;
    Ok(())
}

fn main() -> anyhow::Result<ExitCode> {
    cotangent::enter();
    let iterations = std::env::args().nth(1).map_or(Ok(20), |count| count.parse())?;
    fine_tune(Path::new("demo"), iterations)?;
    Ok(cotangent::leave(0))
}

#[test]
fn it_fine_tunes() {
    fine_tune(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo"), 2).unwrap();
}

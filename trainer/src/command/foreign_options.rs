//! The options of mlx-lm, mlx-vlm, unsloth, TRL and PEFT, and their names here.

use std::collections::BTreeSet;

/// The answer to an option of another program.
enum Answer {
    /// The option of that meaning.
    Ours(&'static str),
    /// The option is not needed: what it asks for always happens.
    Always(&'static str),
    /// The option has no counterpart; the text says what there is instead.
    Absent(&'static str),
}

use Answer::{Absent, Always, Ours};

/// Options by name, without the dashes and with `-` for `_`.
const OPTIONS: &[(&[&str], Answer)] = &[
    // The model and the data.
    (&["model-name-or-path", "model-path", "model-name"], Ours("--model DIR")),
    (&["dataset", "dataset-name", "local-dataset", "train-file", "dataset-path"], Ours("--data DIR")),
    (&["output-dir", "output-path", "save-path"], Ours("--output DIR")),
    (&["overwrite-output-dir"], Ours("--overwrite")),
    (&["train", "do-train"], Always("`cotangent train` trains")),
    (
        &["test", "do-eval", "do-predict", "test-batches"],
        Ours("`cotangent evaluate`, which measures a file of conversations"),
    ),
    (
        &["task", "algorithm", "train-mode", "training-type", "train-type", "fine-tune-type"],
        Always("LoRA on supervised data"),
    ),
    (&["full-finetune", "finetune"], Absent("adapters alone are trained")),
    (
        &[
            "mask-prompt",
            "train-on-completions",
            "train-on-responses-only",
            "completion-only-loss",
            "assistant-only-loss",
        ],
        Always("the loss counts what the assistant says, in every turn"),
    ),
    (
        &["format-type", "chat-template-path", "dataset-text-field"],
        Always("data are read by their form, through the checkpoint's template"),
    ),
    (&["split", "train-split", "validation-split"], Absent("put `train.jsonl` and `valid.jsonl` into the data folder")),
    (&["dataset-config", "hf-dataset-config", "hf-dataset"], Absent("data are JSON lines on this disk")),
    (&["packing", "padding-free", "eval-packing", "packing-strategy"], Absent("rows of like length share a batch")),
    (&["shuffle-dataset"], Always("the order is drawn for each epoch by `--seed`")),
    (&["group-by-length", "train-sampling-strategy"], Always("rows of like length share a batch")),
    (&["config", "yaml"], Absent("all options are given on the command line")),
    // Conversion.
    (&["hf-path"], Ours("--model DIR")),
    (&["mlx-path"], Ours("--output DIR")),
    (&["quantize"], Always("`cotangent convert` quantizes")),
    (&["dequantize"], Absent("codes stay what they are")),
    // Adapters.
    (&["lora-r", "lora-rank", "r"], Ours("--rank N")),
    (&["lora-alpha"], Ours("--alpha X (or --scale X, which is alpha / rank)")),
    (&["lora-scale"], Ours("--scale X")),
    (&["lora-target-modules", "target-modules", "lora-target", "lora-layers"], Ours("--target NAME,..")),
    (&["lora-dropout"], Absent("adapters have no dropout")),
    (&["use-peft", "lora"], Always("adapters are trained")),
    (&["use-dora", "use-rslora", "use-loftq", "init-lora-weights"], Absent("plain LoRA is trained; `--scale` is free")),
    (&["finetune-attention-modules"], Ours("--target attention,linear_attention")),
    (&["finetune-mlp-modules"], Ours("--target mlp")),
    (&["finetune-language-layers"], Always("the text model is adapted")),
    (&["finetune-vision-layers", "train-vision", "vision-all-linear"], Absent("the text model alone is adapted")),
    (&["lora-modules-to-save", "lora-target-parameters"], Absent("linear layers alone are adapted")),
    (&["resume-from-checkpoint"], Ours("--resume, which goes on with the run in --output")),
    // Length and optimizer.
    (&["max-steps", "num-iters", "steps"], Ours("--iters N")),
    (&["num-train-epochs", "num-epochs"], Ours("--epochs N")),
    (&["per-device-train-batch-size", "train-batch-size", "micro-batch-size"], Ours("--batch-size N")),
    (&["per-device-eval-batch-size", "eval-batch-size"], Always("validation takes `--batch-size`")),
    (&["gradient-accumulation-steps", "grad-accumulation"], Ours("--grad-accumulation-steps N")),
    (&["max-length", "max-seq-len", "sequence-len", "cutoff-len", "model-max-length"], Ours("--max-seq-length N")),
    (&["lr"], Ours("--learning-rate RATE")),
    (&["lr-scheduler-type", "lr-scheduler", "lr-schedule"], Ours("--schedule constant|linear|cosine")),
    (&["warmup-steps", "warmup-ratio"], Ours("--warmup N, in iterations")),
    (&["optimizer", "optim"], Always("AdamW")),
    (
        &["adam-beta1", "adam-beta2", "adam-epsilon", "optim-args", "optimizer-config"],
        Absent("AdamW has its usual constants"),
    ),
    (&["gradient-clipping", "clip-grad-norm", "grad-clip"], Ours("--max-grad-norm X")),
    (&["random-seed", "data-seed"], Ours("--seed N")),
    (&["full-determinism"], Always("a run on a CPU repeats bit for bit")),
    (&["loss-type", "label-smoothing-factor", "neftune-noise-alpha"], Absent("the loss is cross-entropy")),
    // Memory and numbers.
    (
        &["grad-checkpoint", "gradient-checkpointing", "activation-checkpointing", "use-gradient-checkpointing"],
        Always("activations are computed again; `--keep all` keeps them"),
    ),
    (&["use-liger-kernel", "use-cce", "chunked-ce"], Always("the scores of the vocabulary are never held whole")),
    (&["clear-cache-threshold", "torch-empty-cache-steps", "cache-limit"], Always("memory stays bounded")),
    (&["bf16", "fp16", "dtype", "torch-dtype", "tf32"], Always("bfloat16 on a GPU, float32 on a CPU")),
    (
        &["load-in-4bit", "load-in-8bit", "quantization-bits", "quantization-group-size"],
        Always("a checkpoint that mlx-lm or mlx-vlm quantized trains as it is"),
    ),
    (&["torch-compile", "attn-implementation", "use-cache"], Always("the program has its own kernels")),
    (&["use-cpu", "device"], Ours("the variable COTANGENT_BACKEND=cpu")),
    (&["deepspeed", "fsdp", "ddp-backend", "local-rank"], Absent("a run has one device")),
    (&["trust-remote-code"], Absent("a checkpoint brings no code")),
    (&["model-revision", "revision", "hf-token", "hub-token"], Absent("models are folders on this disk")),
    // Reports and saves.
    (&["logging-steps"], Ours("--steps-per-report N")),
    (&["eval-steps", "eval-strategy"], Ours("--steps-per-eval N")),
    (&["eval-on-start"], Always("the first validation is before the first iteration")),
    (&["save-steps", "steps-per-save", "save-strategy"], Ours("--save-every N")),
    (&["save-total-limit", "save-only-model"], Absent("every numbered adapter is kept")),
    (&["load-best-model-at-end", "metric-for-best-model"], Absent("the log says which numbered adapter is best")),
    (
        &[
            "report-to",
            "wandb",
            "enable-wandb",
            "wandb-project",
            "wandb-token",
            "enable-tensorboard",
            "tensorboard-dir",
            "project-name",
            "run-name",
        ],
        Ours("--log-json FILE and --loss-curve FILE"),
    ),
    (&["verbose"], Always("speeds go to standard error")),
    (&["push-to-hub", "upload-repo", "hub-model-id"], Absent("adapters stay in --output")),
    (
        &["reference-model", "reward-functions", "reward-functions-file", "reward-weights"],
        Absent("training is supervised"),
    ),
    // Generation.
    (&["system-prompt"], Ours("--system TEXT")),
    (&["temperature"], Ours("--temp X")),
    (&["max-new-tokens"], Ours("--max-tokens N")),
    (&["use-default-chat-template"], Always("the checkpoint's template is used")),
    (&["ignore-chat-template", "prefill-response"], Absent("prompts go through the checkpoint's template")),
    (&["extra-eos-token"], Absent("an answer ends as the checkpoint says")),
    (
        &["xtc-probability", "xtc-threshold", "min-tokens-to-keep"],
        Absent("there are --temp, --top-k, --top-p and --min-p"),
    ),
    (
        &[
            "max-kv-size",
            "prefill-step-size",
            "prompt-cache-file",
            "kv-bits",
            "kv-group-size",
            "quantized-kv-start",
            "quantize-activations",
        ],
        Absent("the cache is kept whole, in the model's dtype"),
    ),
    (&["draft-model", "num-draft-tokens"], Absent("tokens are generated one by one")),
    (&["image"], Absent("pictures stand in the data, and behind `generate --image`")),
    (&["audio", "video"], Absent("text and pictures are read")),
];

/// Returns what to say to those of the `arguments` that are options of other programs and not of this command, whose
/// own `accepts` knows by name: a line each.
pub fn answers(arguments: impl IntoIterator<Item = String>, accepts: impl Fn(&str) -> bool) -> Vec<String> {
    let mut asked = BTreeSet::new();
    let mut lines = Vec::new();
    for argument in arguments {
        let name = match argument.strip_prefix("--") {
            Some(name) => name.split('=').next().unwrap_or_default().replace('_', "-").to_lowercase(),
            None if argument == "-c" => "config".to_owned(),
            None => continue,
        };
        let stem = name.strip_prefix("no-").unwrap_or(&name);
        if accepts(&name) || !asked.insert(name.clone()) {
            continue;
        }
        if let Some((_, answer)) =
            OPTIONS.iter().find(|(names, _)| names.contains(&name.as_str()) || names.contains(&stem))
        {
            lines.push(match answer {
                Ours(ours) => format!("`--{name}` is here: {ours}"),
                Always(what) => format!("`--{name}`: always so here: {what}; leave it out"),
                Absent(instead) => format!("`--{name}`: not here: {instead}; leave it out"),
            });
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::command::Arguments;

    /// The long options of a command.
    fn own(command: &str) -> BTreeSet<String> {
        let arguments = Arguments::command();
        let command = arguments.find_subcommand(command).unwrap();
        command
            .get_arguments()
            .flat_map(|argument| argument.get_long_and_visible_aliases())
            .flatten()
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn options_of_other_programs_are_answered_once_and_own_ones_not() {
        let own = own("train");
        let arguments =
            ["--model", "m", "--mask-prompt", "--lora_r=8", "--train", "--train", "-c", "--nonsense", "--no-packing"];
        assert_eq!(
            answers(arguments.map(str::to_owned), |name| own.contains(name)),
            [
                "`--mask-prompt`: always so here: the loss counts what the assistant says, in every turn; leave it out",
                "`--lora-r` is here: --rank N",
                "`--train`: always so here: `cotangent train` trains; leave it out",
                "`--config`: not here: all options are given on the command line; leave it out",
                "`--no-packing`: not here: rows of like length share a batch; leave it out",
            ]
        );
    }

    /// The lists are those of the programs themselves: `tests/data/make_foreign_options.py`.
    #[test]
    fn every_option_of_the_other_programs_is_ours_or_answered() {
        let lists: std::collections::BTreeMap<String, Vec<String>> =
            serde_json::from_str(include_str!("../../tests/data/foreign_options.json")).unwrap();
        assert!(lists.values().all(|options| options.len() > 10));
        for (program, options) in lists {
            let own = own(if program.contains("generate") { "generate" } else { "train" });
            for option in options {
                let answered = answers([format!("--{option}")], |name| own.contains(name)).len() == 1;
                assert!(answered || own.contains(&option), "`--{option}` of {program}");
            }
        }
    }

    #[test]
    fn an_answer_names_options_that_there_are() {
        let own: BTreeSet<String> = own("train").union(&own("generate")).cloned().collect();
        for (names, answer) in OPTIONS {
            let (Ours(text) | Always(text) | Absent(text)) = answer;
            for word in text
                .split_whitespace()
                .filter_map(|word| word.trim_matches(['`', '(', ')', ',', ';']).strip_prefix("--"))
            {
                let word = word.trim_end_matches(|char: char| !char.is_ascii_alphanumeric());
                assert!(own.contains(word), "{names:?}: `--{word}`");
            }
        }
    }
}

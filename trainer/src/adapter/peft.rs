//! `adapter_config.json` of PEFT, as far as it describes plain LoRA on linear layers and on the parameters of experts.

use cotangent_models::quoting::quoted;
use serde_json::{Value as Json, json};

use super::AdapterConfig;
use super::peft_experts::{GATE_UP, StackedTargets};

/// Fields that may hold anything: they say where an adapter is from, how it was trained, or what its tensors say
/// themselves.
const WITHOUT_EFFECT: [&str; 16] = [
    "auto_mapping",
    "base_model_name_or_path",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "lora_dropout",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "revision",
    "runtime_config",
    "target_modules",
    "task_type",
];

/// Ways of drawing the first values that leave the base model as it is; others (PiSSA, OLoRA, LoftQ ..) change it, and
/// the adapter alone is then not what was trained.
const HARMLESS_STARTS: [&str; 3] = ["gaussian", "eva", "orthogonal"];

/// Reads a configuration.
///
/// # Errors
/// With the first field that makes the adapter more than plain LoRA of one rank and one scale, or that is wrong.
pub(super) fn read_config(json: &Json) -> Result<AdapterConfig, String> {
    let kind = &json["peft_type"];
    if kind != "LORA" {
        return Err(format!("`peft_type`: found {}; only `LORA` is supported", quoted(kind.to_string())));
    }
    for (field, value) in json.as_object().into_iter().flatten() {
        let supported = match field.as_str() {
            "peft_type" | "r" | "lora_alpha" | "use_rslora" => true,
            "rank_pattern" | "alpha_pattern" => is_empty(value) || of_gate_and_up(value).is_some(),
            "target_parameters" => is_empty(value) || StackedTargets::read(value).is_some(),
            "bias" => value.is_null() || value == "none",
            "init_lora_weights" => {
                value.is_null() || value.is_boolean() || HARMLESS_STARTS.iter().any(|start| value == start)
            }
            field => WITHOUT_EFFECT.contains(&field) || is_empty(value),
        };
        if !supported {
            return Err(format!(
                "`{}`: found {}, which is not supported: expected plain LoRA of one rank and one scale\n\
                 help: merge the adapter into its base model with PEFT",
                quoted(field),
                quoted(value.to_string())
            ));
        }
    }
    let rank = match json["r"].as_u64() {
        Some(rank @ 1..=1_000_000) => rank as usize,
        _ => return Err(format!("`r`: found {}, expected a positive integer", quoted(json["r"].to_string()))),
    };
    let alpha = match (json["lora_alpha"].as_f64(), json.get("lora_alpha")) {
        (Some(alpha), _) => alpha,
        // This is PEFT's own default.
        (None, None) => 8.0,
        (None, Some(other)) => {
            return Err(format!("`lora_alpha`: found {}, expected a number", quoted(other.to_string())));
        }
    };
    let stabilised = json["use_rslora"] == json!(true);
    let scale = |alpha: f64, rank: f64| alpha / if stabilised { rank.sqrt() } else { rank };
    let gate_up = ["rank_pattern", "alpha_pattern"].map(|pattern| of_gate_and_up(&json[pattern]));
    let (gate_up_rank, gate_up_alpha) = (gate_up[0].unwrap_or(rank as f64), gate_up[1].unwrap_or(alpha));
    let gate_up_is_doubled = gate_up_rank == 2.0 * rank as f64;
    let scales = [scale(alpha, rank as f64), scale(gate_up_alpha, gate_up_rank)];
    if !gate_up_is_doubled && gate_up_rank != rank as f64 || (scales[0] - scales[1]).abs() > 1e-6 * scales[0].abs() {
        return Err(format!(
            "`rank_pattern` and `alpha_pattern`: found the rank {gate_up_rank} and the scale {} for `{GATE_UP}`, expected the rank \
             {rank} or twice that, and the scale {}\nhelp: merge the adapter into its base model with PEFT",
            scales[1], scales[0]
        ));
    }
    let mut stacked = StackedTargets::read(&json["target_parameters"]).unwrap_or_default();
    stacked.gate_up_is_doubled = gate_up_is_doubled;
    Ok(AdapterConfig { rank, scale: scales[0], dropout: 0.0, keys: None, num_layers: None, base_norms: None, stacked })
}

/// Returns the number that a pattern gives `gate_up_proj` of every layer, if it names nothing else; its keys are regular expressions.
fn of_gate_and_up(pattern: &Json) -> Option<f64> {
    let mut entries = pattern.as_object()?.iter();
    let (key, number) = entries.next().filter(|_| entries.next().is_none())?;
    let name = key.trim_start_matches(['.', '*', '\\']);
    [GATE_UP, "mlp.experts.gate_up_proj", r"experts\.gate_up_proj"].contains(&name).then(|| number.as_f64())?
}

fn is_empty(value: &Json) -> bool {
    match value {
        Json::Null => true,
        Json::Bool(value) => !value,
        Json::Number(number) => number.as_f64() == Some(0.0),
        Json::String(text) => text.is_empty() || text == "none",
        Json::Array(items) => items.is_empty(),
        Json::Object(fields) => fields.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_alpha_over_the_rank_or_its_root() {
        for (json, expected) in [
            (json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8}), 2.0),
            (json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_rslora": true}), 4.0),
            (json!({"peft_type": "LORA", "r": 4, "rank_pattern": {}, "modules_to_save": null}), 2.0),
            (
                json!({"peft_type": "LORA", "r": 4, "rank_pattern": {r".*\.gate_up_proj": 8}, "alpha_pattern": {"gate_up_proj": 16}}),
                2.0,
            ),
        ] {
            let config = read_config(&json).unwrap();
            assert_eq!((config.rank, config.scale), (4, expected), "{json}");
        }
    }

    #[test]
    fn what_is_more_than_plain_lora_is_refused_by_name() {
        for (field, value) in [
            ("use_dora", json!(true)),
            ("rank_pattern", json!({"q_proj": 16})),
            ("rank_pattern", json!({"gate_up_proj": 8, "q_proj": 16})),
            ("alpha_pattern", json!({"q_proj": 16})),
            ("modules_to_save", json!(["lm_head"])),
            ("target_parameters", json!(["mlp.experts.bias"])),
            ("layer_replication", json!([[0, 4]])),
            ("bias", json!("all")),
            ("lora_bias", json!(true)),
            ("fan_in_fan_out", json!(true)),
            ("trainable_token_indices", json!([1])),
            ("init_lora_weights", json!("pissa_niter_4")),
            ("a_field_of_tomorrow", json!({"on": true})),
        ] {
            let mut json = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8});
            json[field] = value;
            let error = read_config(&json).unwrap_err();
            assert!(error.starts_with(&format!("`{field}`: found ")), "{error}");
        }
        for (ranks, alphas) in
            [(json!({"gate_up_proj": 8}), json!({})), (json!({"gate_up_proj": 12}), json!({"gate_up_proj": 24}))]
        {
            let json =
                json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8, "rank_pattern": ranks, "alpha_pattern": alphas});
            let error = read_config(&json).unwrap_err();
            assert!(
                error.contains("for `gate_up_proj`, expected the rank 4 or twice that, and the scale 2\nhelp: "),
                "{error}"
            );
        }
        let error = read_config(&json!({"peft_type": "IA3"})).unwrap_err();
        assert_eq!(error, "`peft_type`: found \"IA3\"; only `LORA` is supported");
        assert!(read_config(&json!({"peft_type": "LORA", "r": 0})).unwrap_err().starts_with("`r`: found 0"));
    }
}

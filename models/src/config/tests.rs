//! Tests of the configurations that are read, and of those that are refused.

use std::path::Path;

use cotangent::{Dtype, Plan, Storage};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::qwen35::Model;

/// The published 0.8B model, reduced to its text fields.
fn published() -> Value {
    json!({
        "architectures": ["Qwen3_5ForCausalLM"],
        "model_type": "qwen3_5_text",
        "vocab_size": 248320, "hidden_size": 1024, "intermediate_size": 3584, "num_hidden_layers": 24,
        "num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 256,
        "linear_num_key_heads": 16, "linear_num_value_heads": 16,
        "linear_key_head_dim": 128, "linear_value_head_dim": 128, "linear_conv_kernel_dim": 4,
        "full_attention_interval": 4, "rms_norm_eps": 1e-6, "hidden_act": "silu", "attention_bias": false,
        "attn_output_gate": true, "max_position_embeddings": 262144, "tie_word_embeddings": true,
        "eos_token_id": 248044,
        "rope_parameters": {
            "rope_type": "default", "rope_theta": 10000000, "partial_rotary_factor": 0.25,
            "mrope_section": [11, 11, 10], "mrope_interleaved": true
        }
    })
}

fn read(json: &Value) -> Result<TextConfig, ConfigError> {
    TextConfig::from_json(json, Path::new("model/config.json"))
}

/// `published()` with the members of `changes` put in (or, where null, taken out).
fn with(changes: Value) -> Value {
    let mut json = published();
    for (key, value) in changes.as_object().unwrap() {
        if value.is_null() {
            json.as_object_mut().unwrap().remove(key);
        } else {
            json[key] = value.clone();
        }
    }
    json
}

/// The feed-forward layers of the published 35B-A3B model instead, with the members of `changes` put in.
fn experts(changes: Value) -> Value {
    let mut json = with(json!({
        "model_type": "qwen3_5_moe_text", "intermediate_size": null, "num_experts": 256, "num_experts_per_tok": 8,
        "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512
    }));
    json.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    json
}

#[test]
fn a_mixture_of_experts_is_read_and_contradictions_are_named() {
    let expected = ExpertsConfig { count: 256, per_token: 8, intermediate_size: 512, shared_intermediate_size: 512 };
    let usual = json!({"norm_topk_prob": true, "decoder_sparse_step": 1, "mlp_only_layers": [], "num_experts": 256});
    for json in [
        experts(json!({})),
        experts(usual),
        json!({"model_type": "qwen3_5_moe", "text_config": experts(json!({"tie_word_embeddings": null}))}),
    ] {
        assert_eq!(read(&json).unwrap().feed_forward, FeedForwardConfig::Experts(expected.clone()), "{json}");
    }
    for (json, expected) in [
        (experts(json!({"num_experts": 0})), "`num_experts`: found 0, expected a positive integer"),
        (
            experts(json!({"num_experts_per_tok": null})),
            "`num_experts_per_tok`: found nothing, expected a positive integer",
        ),
        (
            experts(json!({"num_experts": 4})),
            "`num_experts_per_tok`: found 8, expected at most 4, which is `num_experts`",
        ),
        (
            with(json!({"num_experts": 8})),
            "`num_experts`: found 8, expected none, as `model_type` is that of a dense model",
        ),
        (
            json!({"model_type": "qwen3_5", "text_config": experts(json!({}))}),
            "`text_config.model_type`: found `qwen3_5_moe_text`, expected the kind of model that the `model_type` beside \
             `text_config`, `qwen3_5`, is",
        ),
    ] {
        let error = read(&json).expect_err(expected).to_string();
        assert_eq!(error, format!("`model/config.json`: {expected}"));
    }
    for key in ["num_experts_per_token", "moe_layer_freq", "router_jitter_noise", "routed_scaling_factor"] {
        let error = read(&experts(json!({key: 2}))).expect_err(key).to_string();
        assert!(error.starts_with(&format!("`model/config.json`: `{key}`: found a key that is not known")), "{error}");
    }
}

#[test]
fn the_published_text_export_is_read() {
    let config = read(&published()).unwrap();
    assert_eq!(config.layers.len(), 24);
    assert_eq!(config.layers.iter().filter(|kind| **kind == LayerKind::FullAttention).count(), 6);
    assert_eq!(config.layers[3], LayerKind::FullAttention);
    assert_eq!(config.rope, RopeConfig { theta: 1e7, rotary_dim: 64, mrope_section: [11, 11, 10] });
    assert_eq!(config.linear_conv_dim(), 3 * 2048);
    assert!(config.tie_word_embeddings);
}

#[test]
fn a_multimodal_file_gives_the_same_model_as_its_text_export() {
    let mut text = published();
    text.as_object_mut().unwrap().remove("tie_word_embeddings");
    let nested = json!({
        "model_type": "qwen3_5", "tie_word_embeddings": true, "image_token_id": 248056,
        "vision_config": {"depth": 12, "hidden_act": "gelu_pytorch_tanh"}, "text_config": text
    });
    assert_eq!(read(&nested).unwrap(), read(&published()).unwrap());
}

#[test]
fn older_spellings_of_the_rope_give_the_same_model() {
    let spellings = [
        json!({"rope_parameters": null, "rope_theta": 1e7, "partial_rotary_factor": 0.25}),
        json!({"rope_parameters": null, "rope_theta": 1e7}),
        json!({"rope_parameters": {"rope_theta": 1e7}}),
        json!({"rope_parameters": null, "rope_theta": 1e7, "partial_rotary_factor": 0.25,
               "rope_scaling": {"type": "mrope", "mrope_section": [11, 11, 10]}}),
        json!({"rope_parameters": null, "rope_theta": 1e7,
               "rope_scaling": {"rope_type": "default", "mrope_section": [11, 11, 10], "mrope_interleaved": true}}),
        json!({"rope_theta": 1e7, "partial_rotary_factor": 0.25}),
    ];
    for spelling in spellings {
        assert_eq!(read(&with(spelling.clone())).unwrap(), read(&published()).unwrap(), "{spelling}");
    }
}

#[test]
fn layer_types_and_interval_are_two_ways_to_say_the_same() {
    let types = |n: usize| -> Vec<&str> {
        (1..=n).map(|i| if i % 4 == 0 { "full_attention" } else { "linear_attention" }).collect()
    };
    let reference = read(&published()).unwrap();
    for changes in [
        json!({"layer_types": types(24), "full_attention_interval": null}),
        json!({"layer_types": types(24)}),
        json!({"full_attention_interval": null}),
    ] {
        assert_eq!(read(&with(changes)).unwrap().layers, reference.layers);
    }
}

#[test]
fn wrong_values_are_named_with_what_was_found_and_expected() {
    let rope = |changes: Value| {
        let mut rope = published()["rope_parameters"].clone();
        for (key, value) in changes.as_object().unwrap() {
            rope[key] = value.clone();
        }
        json!({ "rope_parameters": rope })
    };
    let table = [
        (json!({"model_type": null}), "`model_type`: found nothing, expected `qwen3_5` or `qwen3_5_text`"),
        (json!({"vocab_size": null}), "`vocab_size`: found nothing, expected a positive integer"),
        (json!({"hidden_size": 0}), "`hidden_size`: found 0, expected a positive integer"),
        (json!({"hidden_size": -4}), "`hidden_size`: found `-4`, expected an integer from 0 to 2147483647"),
        (json!({"hidden_size": "1024"}), "`hidden_size`: found `\"1024\"`, expected an integer from 0 to 2147483647"),
        (json!({"hidden_size": 1e300}), "`hidden_size`: found `1e+300`, expected an integer from 0 to 2147483647"),
        (json!({"head_dim": null}), "`head_dim`: found nothing, expected a positive integer"),
        (json!({"linear_key_head_dim": null}), "`linear_key_head_dim`: found nothing, expected a positive integer"),
        (
            json!({"num_attention_heads": 7}),
            "`num_attention_heads`: found 7, expected a multiple of `num_key_value_heads`, which is 2",
        ),
        (
            json!({"linear_num_value_heads": 24}),
            "`linear_num_value_heads`: found 24, expected a multiple of `linear_num_key_heads`, which is 16",
        ),
        (json!({"linear_conv_kernel_dim": 1}), "`linear_conv_kernel_dim`: found 1, expected at least 2"),
        (json!({"num_hidden_layers": 2000000000}), "`num_hidden_layers`: found 2000000000, expected at most 10000"),
        (
            json!({"layer_types": ["full_attention"]}),
            "`layer_types`: found 1 entries, expected 24 entries, as `num_hidden_layers` says",
        ),
        (
            json!({"num_hidden_layers": 1, "layer_types": ["sliding_attention"]}),
            "`layer_types[0]`: found `\"sliding_attention\"`, expected `linear_attention` or `full_attention`",
        ),
        (
            json!({"num_hidden_layers": 1, "layer_types": ["full_attention"]}),
            "`layer_types[0]`: found `\"full_attention\"`, expected the other kind, as `full_attention_interval` 4 \
             says",
        ),
        (json!({"rms_norm_eps": 0}), "`rms_norm_eps`: found `0`, expected a positive number"),
        (json!({"rope_parameters": null}), "`rope_theta`: found nothing, expected a positive number"),
        (json!({"rope_parameters": []}), "`rope_parameters`: found a list of 0, expected an object"),
        (
            rope(json!({"mrope_section": [11, 11, 11]})),
            "`rope_parameters.mrope_section`: found [11, 11, 11], expected a sum of 32, half the rotated lanes",
        ),
        (
            rope(json!({"mrope_section": [16, 16]})),
            "`rope_parameters.mrope_section`: found 2 numbers, expected three: time, height, width",
        ),
        (
            rope(json!({"mrope_section": [0, 16, 16]})),
            "`rope_parameters.mrope_section`: found [0, 16, 16], expected sections that can take turns over 32 \
             frequencies",
        ),
        (
            json!({"head_dim": 255}),
            "`rope_parameters.partial_rotary_factor`: found 0.25, which is 63.75 lanes, expected a share of at most 1 \
             that leaves an even number of the 255 lanes of `head_dim`",
        ),
        (json!({"rope_theta": 1e4}), "`rope_theta`: found 10000, expected 10000000, as the rope parameters say"),
        (
            json!({"num_attention_heads": 2147483646}),
            "`num_attention_heads`: found a product 2 x num_attention_heads x head_dim above 2147483647, expected less",
        ),
    ];
    for (changes, expected) in table {
        let error = read(&with(changes.clone())).expect_err(&changes.to_string());
        assert_eq!(error.to_string(), format!("`model/config.json`: {expected}"), "{changes}");
    }
}

#[test]
fn what_exists_but_is_not_supported_is_refused_by_name() {
    let mut scaled = published();
    scaled["rope_parameters"]["rope_type"] = json!("yarn");
    let mut contiguous = published();
    contiguous["rope_parameters"]["mrope_interleaved"] = json!(false);
    let table = [
        (with(json!({"model_type": "qwen3_moe"})), "`model_type`: `qwen3_moe`, a mixture-of-experts model,"),
        (with(json!({"model_type": "qwen3_5_vision"})), "`model_type`: `qwen3_5_vision`, a vision tower"),
        (with(json!({"model_type": "llama"})), "`model_type`: `llama`"),
        (json!({"model_type": "qwen3_5", "vision_config": {}}), "`vision_config`: a vision tower without a text model"),
        (
            json!({"model_type": "qwen3_vl", "text_config": with(json!({"model_type": "qwen3_vl_moe_text"}))}),
            "`text_config.model_type`: `qwen3_vl_moe_text`",
        ),
        (experts(json!({"norm_topk_prob": false})), "`norm_topk_prob`: `false`"),
        (experts(json!({"decoder_sparse_step": 2})), "`decoder_sparse_step`: 2"),
        (experts(json!({"mlp_only_layers": [0, 3]})), "`mlp_only_layers`: layer `0`, which has no experts,"),
        (with(json!({"quantization": {"bits": 1}})), "`quantization.bits`: a base model in codes of 1 bit of"),
        (
            with(json!({"quantization": {"mode": "nvfp4", "group_size": 32}})),
            "`quantization.group_size`: a base model in groups of 32 of the mode `nvfp4`",
        ),
        (
            with(json!({"quantization": {"mode": "mxfp4", "model.layers.0.mlp.up_proj": {"bits": 7}}})),
            "`quantization.model.layers.0.mlp.up_proj.bits`: a base model in codes of 7 bits of the mode `affine`",
        ),
        (with(json!({"quantization": {"mode": "int9"}})), "`quantization.mode`: the quantization mode `int9`"),
        (
            with(json!({"quantization_config": {"quant_algo": "NVFP4", "producer": {"name": "modelopt"}}})),
            "`quantization_config`: a base model quantized by `modelopt`",
        ),
        (
            with(json!({"quantization_config": {"quant_method": "awq", "bits": 4}})),
            "`quantization_config`: a base model quantized by `awq`",
        ),
        (
            with(json!({"quantization_config": {"quant_method": "gptq", "bits": 4, "group_size": 128}})),
            "`quantization_config`: a base model quantized by `gptq`",
        ),
        (
            json!({"model_type": "qwen3_5", "text_config": with(json!({"quantization_config": {"load_in_4bit": true}}))}),
            "`text_config.quantization_config`: a base model quantized by `bitsandbytes`",
        ),
        (with(json!({"hidden_act": "gelu"})), "`hidden_act`: `gelu`"),
        (with(json!({"attention_bias": true})), "`attention_bias`: `true`"),
        (with(json!({"attn_output_gate": false})), "`attn_output_gate`: `false`"),
        (scaled, "`rope_parameters.rope_type`: `yarn`"),
        (contiguous, "`rope_parameters.mrope_interleaved`: `false`"),
    ];
    for (json, expected) in table {
        let error = read(&json).expect_err(expected).to_string();
        assert!(
            error.contains(expected) && error.contains(" is not supported for now\nhelp: "),
            "{error}\nshould say: {expected}"
        );
    }
}

/// The 27B model of Qwen3.8 with its tower, with what several programs leave in the file.
fn multimodal() -> Value {
    let sizes = json!({
        "model_type": "qwen3_5_text", "hidden_size": 5120, "num_hidden_layers": 64, "intermediate_size": 17408,
        "num_attention_heads": 24, "num_key_value_heads": 4, "linear_num_value_heads": 48, "tie_word_embeddings": false,
        "output_gate_type": "swish", "partial_rotary_factor": 0.25, "mlp_only_layers": [], "mtp_num_hidden_layers": 1,
        "mtp_use_dedicated_embeddings": false, "mamba_ssm_dtype": "float32", "initializer_range": 0.02,
        "attention_dropout": 0.0, "use_cache": true, "bos_token_id": null, "pad_token_id": null, "dtype": "bfloat16"
    });
    json!({
        "architectures": ["Qwen3_5ForConditionalGeneration"], "model_type": "qwen3_5", "text_config": with(sizes),
        "image_token_id": 248056, "video_token_id": 248057, "vision_start_token_id": 248053,
        "vision_end_token_id": 248054, "tie_word_embeddings": false, "transformers_version": "5.6.2",
        "unsloth_fixed": true, "quantization": {"group_size": 64, "bits": 4, "mode": "affine"},
        "quantization_config": {"group_size": 64, "bits": 4, "mode": "affine"},
        "vision_config": {
            "deepstack_visual_indexes": [], "depth": 27, "hidden_act": "gelu_pytorch_tanh", "hidden_size": 1152,
            "in_channels": 3, "initializer_range": 0.02, "intermediate_size": 4304, "model_type": "qwen3_5",
            "num_heads": 16, "num_position_embeddings": 2304, "out_hidden_size": 5120, "patch_size": 16,
            "spatial_merge_size": 2, "temporal_patch_size": 2, "dtype": "bfloat16",
            "rope_parameters": {"rope_theta": 10000.0, "rope_type": "axial"}
        }
    })
}

/// The keys that [`TextConfig::unknown_keys`] finds in a file.
fn unknown_keys(json: &Value) -> Result<Vec<String>, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), json.to_string()).unwrap();
    TextConfig::unknown_keys(dir.path())
}

#[test]
fn keys_of_published_files_are_all_known() {
    let mut qwen3_vl = multimodal();
    qwen3_vl["model_type"] = json!("qwen3_vl");
    qwen3_vl["vision_config"]["deepstack_visual_indexes"] = json!([5, 11, 17]);
    qwen3_vl["text_config"] = json!({
        "model_type": "qwen3_vl_text", "vocab_size": 151936, "hidden_size": 5120, "intermediate_size": 6144,
        "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
        "rms_norm_eps": 1e-6, "hidden_act": "silu", "attention_bias": false, "attention_dropout": 0.0,
        "max_position_embeddings": 262144, "rope_theta": 5000000, "use_cache": true, "bos_token_id": 151643,
        "rope_scaling": {"mrope_interleaved": true, "mrope_section": [24, 20, 20], "rope_type": "default"}
    });
    let mut qwen3 = qwen3_vl["text_config"].clone();
    qwen3["model_type"] = json!("qwen3");
    qwen3["sliding_window"] = Value::Null;
    qwen3["use_sliding_window"] = json!(false);
    qwen3["max_window_layers"] = json!(28);
    let older = with(json!({"num_experts": 0, "moe_intermediate_size": 16, "torch_dtype": "bfloat16"}));
    for json in [published(), multimodal(), qwen3_vl, qwen3, older] {
        assert_eq!(unknown_keys(&json).unwrap(), [""; 0], "{json}");
    }
}

#[test]
fn a_key_that_nothing_reads_is_listed_or_refused() {
    let mut known = multimodal();
    known["rope_theta_scale"] = json!(2.0);
    known["text_config"]["attention_sinks"] = json!(4);
    known["text_config"]["nothing"] = Value::Null;
    assert_eq!(unknown_keys(&known).unwrap(), ["rope_theta_scale", "text_config.attention_sinks"]);
    for (places, key, known) in [
        (&["text_config", "rope_parameters"][..], "rope_thetta", "mrope_interleaved"),
        (&["vision_config"], "num_position_embedding", "depth"),
        (&["vision_config", "rope_parameters"], "theta", "rope_theta"),
        (&["text_config"], "linear_gate", "linear_conv_kernel_dim"),
        (&["quantization", "model.layers.0.mlp.up_proj"], "bit", "bits"),
    ] {
        let mut json = multimodal();
        json["quantization"]["model.layers.0.mlp.up_proj"] = json!({"group_size": 32});
        places.iter().fold(&mut json, |object, place| &mut object[*place])[key] = json!(1);
        let found =
            format!("`model/config.json`: `{}.{key}`: found a key that is not known, expected only", places.join("."));
        let message = read(&json).expect_err(&found).to_string();
        assert!(message.starts_with(&found) && message.contains(&format!("`{known}`")), "{message}\n{found}");
    }
}

#[test]
fn windows_of_attention_are_refused() {
    let qwen3 = |changes: Value| {
        let mut json = with(changes);
        json["model_type"] = json!("qwen3");
        read(&json).unwrap_err().to_string()
    };
    assert!(qwen3(json!({"use_sliding_window": true})).contains("`use_sliding_window`: `true`: attention in a window"));
    let mixed = qwen3(json!({"layer_types": ["full_attention", "sliding_attention"]}));
    assert!(mixed.contains("`layer_types[1]`: found `\"sliding_attention\"`, expected `full_attention`"), "{mixed}");
}

#[test]
fn the_two_places_of_tie_word_embeddings_must_agree() {
    let nested = |outer: Value, inner: Value| {
        let text = with(json!({ "tie_word_embeddings": inner }));
        read(&json!({"model_type": "qwen3_5", "tie_word_embeddings": outer, "text_config": text}))
    };
    for (outer, inner, expected) in [
        (json!(true), json!(true), true),
        (json!(true), Value::Null, true),
        (Value::Null, json!(true), true),
        (Value::Null, Value::Null, false),
        (json!(false), json!(false), false),
    ] {
        assert_eq!(nested(outer, inner).unwrap().tie_word_embeddings, expected);
    }
    assert_eq!(
        nested(json!(true), json!(false)).unwrap_err().to_string(),
        "`model/config.json`: `text_config.tie_word_embeddings`: found false, expected true, as the \
         `tie_word_embeddings` beside `text_config` says"
    );
}

#[test]
fn an_absent_mrope_section_is_shared_out_as_published() {
    for (head_dim, section) in [(256, [11, 11, 10]), (64, [3, 3, 2]), (32, [2, 1, 1]), (8, [1, 0, 0])] {
        let json = with(json!({"head_dim": head_dim, "rope_parameters": {"rope_theta": 1e4}}));
        assert_eq!(read(&json).unwrap().rope.mrope_section, section);
    }
}

#[test]
fn the_parameters_of_the_published_model_add_up() {
    let parameters = Plan::all(&Model::planned(&read(&published()).unwrap(), Dtype::BF16));
    let plan = |name: &str| parameters.iter().find(|(n, _)| n == name).map(|(_, plan)| plan.clone());
    let planned = |shape: &[usize], dtype, storage| Some(Plan { shape: shape.to_vec(), dtype, storage });
    for (name, expected) in [
        ("layers.0.linear_attn.in_proj_qkv.weight", planned(&[6144, 1024], Dtype::BF16, Storage::Plain)),
        ("layers.0.linear_attn.conv1d.weight", planned(&[6144, 1, 4], Dtype::F32, Storage::ChannelsLast)),
        ("layers.0.linear_attn.norm.weight", planned(&[128], Dtype::F32, Storage::Plain)),
        ("layers.3.self_attn.q_proj.weight", planned(&[4096, 1024], Dtype::BF16, Storage::Plain)),
        ("layers.3.self_attn.q_norm.weight", planned(&[256], Dtype::F32, Storage::ZeroCentred)),
        // The embedding is tied.
        ("lm_head.weight", None),
    ] {
        assert_eq!(plan(name), expected, "{name}");
    }
    let total: usize = parameters.iter().map(|(_, plan)| plan.size()).sum();
    assert_eq!(total, 752_393_024);
}

#[test]
fn a_file_that_is_not_there_or_not_json_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(TextConfig::load(dir.path()), Err(ConfigError::Read { .. })));
    std::fs::write(dir.path().join("config.json"), "{\"model_type\": ").unwrap();
    let error = TextConfig::load(dir.path()).unwrap_err().to_string();
    assert!(error.contains("not valid JSON: EOF while parsing a value at line 1 column 15"), "{error}");
}

proptest! {
    /// Reading gives a model or an error, whatever one field is replaced by.
    #[test]
    fn no_value_of_a_field_makes_reading_panic(index in 0usize..40, replacement in any_json()) {
        let mut json = published();
        let keys: Vec<String> = json.as_object().unwrap().keys().cloned().collect();
        let rope_keys: Vec<String> = json["rope_parameters"].as_object().unwrap().keys().cloned().collect();
        match keys.get(index) {
            Some(key) => json[key] = replacement,
            None => json["rope_parameters"][&rope_keys[index % rope_keys.len()]] = replacement,
        }
        if let Ok(config) = read(&json) {
            let _ = Plan::all(&Model::planned(&config, Dtype::F32));
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0i64..300).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,90}".prop_map(Value::from),
        prop::collection::vec(any::<u32>(), 0..4).prop_map(Value::from),
        Just(json!({})),
    ]
}

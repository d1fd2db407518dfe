//! Tests of the report that an audit prints.

use super::*;
use cotangent::Dtype;

fn parameter(name: &str, gradient: GradientState) -> AuditedParameter {
    AuditedParameter { name: name.to_owned(), shape: vec![248_320, 1024], dtype: Dtype::F32, gradient }
}

fn cut(part: &str, needed_gradient: bool) -> Cut {
    Cut {
        kind: CutKind::Detach,
        reason: "the running mean is not learned, so that it can be folded into the weights later".to_owned(),
        place: ("models/src/norm.rs", 41),
        part: part.to_owned(),
        shape: vec![64],
        dtype: Dtype::F32,
        needed_gradient,
    }
}

/// Twelve layers, of which every fourth has attention, and of which layer 7 has lost something.
fn report() -> AuditReport {
    let mut parameters = vec![parameter("embed_tokens.weight", GradientState::Finite { norm: 2.0, zeros: 0.937 })];
    for layer in 0..12 {
        let mixer = if layer % 4 == 3 { "self_attn.q_proj" } else { "linear_attn.in_proj_qkv" };
        for name in [mixer, "post_attention_layernorm", "mlp.up_proj"] {
            let lost = layer == 7 && name == "mlp.up_proj";
            let norm = 1.0 + f64::from(layer) / 10.0;
            let gradient = if lost { GradientState::Zero } else { GradientState::Finite { norm, zeros: 0.0 } };
            parameters.push(parameter(&format!("layers.{layer}.{name}.weight"), gradient));
        }
    }
    parameters.push(parameter("norm.weight", GradientState::NotFinite));
    parameters.push(parameter("orphan", GradientState::Missing));
    let cuts = (0..12).map(|layer| cut(&format!("layers.{layer}"), layer == 7)).collect();
    AuditReport {
        model: "checkpoint".to_owned(),
        view: "every parameter should train",
        backend: "cpu",
        dtype: "float32".to_owned(),
        rows: 2,
        tokens: 32,
        pictures: 0,
        audit: Audit { loss: 4.25, parameters, frozen: 0, cuts },
    }
}

#[test]
fn layers_that_are_alike_share_their_lines() {
    let expected = "\
Audit of `checkpoint`: every parameter should train
One step of 2 x 32 tokens on cpu in float32, loss 4.2500

parameter                          shape          gradient, its norm
embed_tokens.weight                248320 x 1024  94 % zero  2.0e0
norm.weight                        248320 x 1024  NOT FINITE
orphan                             248320 x 1024  MISSING
layers 0-2, 4-6, 8-10
  linear_attn.in_proj_qkv.weight   248320 x 1024  finite  1.0e0 to 2.0e0
layers 0-11
  post_attention_layernorm.weight  248320 x 1024  finite  1.0e0 to 2.1e0
layers 0-6, 8-11
  mlp.up_proj.weight               248320 x 1024  finite  1.0e0 to 2.1e0
layers 3, 7, 11
  self_attn.q_proj.weight          248320 x 1024  finite  1.3e0 to 2.1e0
layers.7
  mlp.up_proj.weight               248320 x 1024  ZERO

Cuts, at which gradients stop on purpose:
  detach: the running mean is not learned, so that it can be folded into the
    weights later
    at models/src/norm.rs:41
    in layers 0-11

FAILED: 3 of 39 parameters should train and do not
  layers.7.mlp.up_proj.weight  zero
  norm.weight                  not finite
  orphan                       missing
help: find out why the loss does not depend on a parameter whose gradient is
zero: a cut listed above, or weights after it that are all zero
help: look for infinities and NaN in the checkpoint's weights where a gradient
is not finite
help: put a parameter whose gradient is missing into a part that the model's
forward uses
";
    assert_eq!(report().to_text(false), expected);
}

#[test]
fn all_rows_are_those_of_the_parameters() {
    let text = report().to_text(true);
    for parameter in &report().audit.parameters {
        assert!(text.lines().any(|line| line.starts_with(&format!("{} ", parameter.name))), "{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
}

#[test]
fn json_has_every_parameter_and_every_cut() {
    let json = report().to_json();
    assert_eq!((json["passed"].as_bool(), json["failed"].as_u64()), (Some(false), Some(3)));
    assert_eq!(json["parameters"].as_array().map(Vec::len), Some(39));
    assert_eq!(
        (&json["parameters"][0]["norm"], &json["parameters"][0]["share_of_zeros"]),
        (&json!(2.0), &json!(0.937))
    );
    assert_eq!(json["parameters"][38]["gradient"], "missing");
    assert_eq!((&json["cuts"][7]["line"], &json["cuts"][7]["part"]), (&json!(41), &json!("layers.7")));
}

#[test]
fn numbers_in_names_are_layers_only_between_other_segments() {
    for (name, expected) in [
        ("layers.3.mlp.up_proj.weight", Some(("layers", 3, "mlp.up_proj.weight"))),
        ("visual.blocks.12.norm1.bias", Some(("visual.blocks", 12, "norm1.bias"))),
        ("conv1d.weight", None),
        ("3.weight", None),
        ("layers.3", None),
    ] {
        assert_eq!(split_at_layer(name), expected, "{name}");
    }
}

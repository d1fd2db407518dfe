//! The operator cases in `tests/reference`, and how results are compared with them.

#![allow(dead_code, unused_imports, reason = "each of the two programs uses a part of it")]
#![allow(clippy::ptr_arg, reason = "trees of parameters are `Vec`s here, and drivers pass them by reference")]

pub mod delta_rule;
mod operator;

use std::path::Path;

use cotangent::{Dtype, Stored, Tensor};
use safetensors::SafeTensors;
use serde_json::Value;

pub use operator::{
    Operator, assert_finite_differences, assert_gradients, assert_same_bits_again, assert_same_in_the_emulator,
    gradients, gradients_of, outputs,
};

/// Largest deviation over the largest magnitude, for operators in float32.
pub const TOLERANCE: f32 = 1e-5;

/// A file of operator cases.
pub struct Cases {
    bytes: Vec<u8>,
    parameters: Value,
}

impl Cases {
    /// `ops.safetensors`: every operator of the model.
    pub fn operators() -> Self {
        Self::read("ops.safetensors")
    }

    /// `ops_stress.safetensors`: the gated delta rule where it is hard.
    pub fn stress() -> Self {
        Self::read("ops_stress.safetensors")
    }

    fn read(name: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/reference").join(name);
        let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let (_, metadata) = SafeTensors::read_metadata(&bytes).expect("a safetensors file");
        let cases = metadata.metadata().as_ref().and_then(|entries| entries.get("cases")).expect("the entry `cases`");
        let parameters = serde_json::from_str(cases).expect("JSON");
        Cases { bytes, parameters }
    }

    /// The names that begin with `prefix`.
    pub fn names(&self, prefix: &str) -> Vec<String> {
        let cases = self.parameters.as_object().expect("an object of cases");
        let names: Vec<_> = cases.keys().filter(|name| name.starts_with(prefix)).cloned().collect();
        assert!(!names.is_empty(), "no case begins with `{prefix}`");
        names
    }

    /// One case.
    pub fn case(&self, name: &str) -> Case<'_> {
        let parameters = self.parameters.get(name).unwrap_or_else(|| panic!("there is no case `{name}`"));
        let tensors = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        Case { name: name.to_owned(), tensors, parameters }
    }

    /// Every case whose name begins with `prefix`.
    pub fn all(&self, prefix: &str) -> Vec<Case<'_>> {
        self.names(prefix).iter().map(|name| self.case(name)).collect()
    }
}

/// Inputs, outputs, cotangents and gradients of one operator.
pub struct Case<'a> {
    /// The case's name.
    pub name: String,
    tensors: SafeTensors<'a>,
    parameters: &'a Value,
}

impl Case<'_> {
    fn find(&self, part: &str, name: &str) -> Option<Tensor<Stored>> {
        let view = self.tensors.tensor(&format!("{}.{part}.{name}", self.name)).ok()?;
        let dtype = match view.dtype() {
            safetensors::Dtype::F32 => Dtype::F32,
            safetensors::Dtype::I32 => Dtype::I32,
            other => panic!("`{}.{part}.{name}`: no reader for {other:?}", self.name),
        };
        let shape: Vec<i32> = view.shape().iter().map(|&length| i32::try_from(length).expect("a length")).collect();
        Some(Tensor::from_bytes(view.data(), dtype, &shape).expect("as many bytes as the header says"))
    }

    fn get(&self, part: &str, name: &str) -> Tensor<Stored> {
        self.find(part, name).unwrap_or_else(|| panic!("`{}` has no `{part}.{name}`", self.name))
    }

    /// Whether there is an input of this name.
    pub fn has_input(&self, name: &str) -> bool {
        self.find("in", name).is_some()
    }

    /// An input.
    pub fn input(&self, name: &str) -> Tensor<Stored> {
        self.get("in", name)
    }

    /// Inputs in the order of their names.
    pub fn inputs(&self, names: &[&str]) -> Vec<Tensor<Stored>> {
        names.iter().map(|name| self.input(name)).collect()
    }

    /// An input of integers: labels, lengths, a mask.
    pub fn integers(&self, name: &str) -> Vec<i32> {
        self.input(name).to_vec().expect("integers")
    }

    /// The expected output.
    pub fn output(&self, name: &str) -> Tensor<Stored> {
        self.get("out", name)
    }

    /// The cotangent of an output.
    pub fn cotangent(&self, name: &str) -> Tensor<Stored> {
        self.get("ct", name)
    }

    /// The expected gradient of an input.
    pub fn gradient(&self, name: &str) -> Tensor<Stored> {
        self.get("grad", name)
    }

    /// A number among the case's parameters.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.parameters.get(name).and_then(Value::as_f64)
    }

    /// Compares the operator's outputs, in both modes, and its gradients with the case's.
    pub fn check(&self, operator: &impl Operator, inputs: &[&str], outputs: &[&str], tolerance: f32) {
        let values = self.inputs(inputs);
        for (name, found) in outputs.iter().zip(operator::outputs(operator, &values)) {
            assert_close(&format!("{}.out.{name}", self.name), &found, &self.output(name), tolerance);
        }
        let cotangents: Vec<_> = outputs.iter().map(|name| self.cotangent(name)).collect();
        for (name, found) in inputs.iter().zip(gradients(operator, &values, &cotangents)) {
            assert_close(&format!("{}.grad.{name}", self.name), &found, &self.gradient(name), tolerance);
        }
    }
}

/// The largest deviation over the largest expected magnitude; NaN if there is one.
pub fn deviation(found: &Tensor<Stored>, expected: &Tensor<Stored>) -> f32 {
    assert_eq!(found.shape(), expected.shape(), "shapes differ");
    let (found, expected) = (found.to_vec::<f32>().expect("values"), expected.to_vec::<f32>().expect("values"));
    let worst = |values: &mut dyn Iterator<Item = f32>| {
        values.fold(0.0_f32, |worst, value| if value.is_nan() || value > worst { value } else { worst })
    };
    let magnitude = worst(&mut expected.iter().map(|value| value.abs()));
    let difference = worst(&mut found.iter().zip(&expected).map(|(found, expected)| (found - expected).abs()));
    // Where zero is expected, zero must be found.
    if difference == 0.0 { 0.0 } else { difference / magnitude }
}

/// Fails unless every element lies within `tolerance` times the largest expected magnitude. NaN fails.
pub fn assert_close(what: &str, found: &Tensor<Stored>, expected: &Tensor<Stored>, tolerance: f32) {
    let deviation = deviation(found, expected);
    assert!(
        deviation <= tolerance,
        "`{what}`: deviates by {deviation:e} of the largest magnitude, {tolerance:e} allowed"
    );
}

/// Reproducible values, roughly normal with this deviation.
pub fn random(seed: u64, shape: &[i32], deviation: f32) -> Tensor<Stored> {
    let count = shape.iter().product::<i32>() as usize;
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x1234_5678_9ABC_DEF1);
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    };
    // A sum of four uniform numbers on (-1/2, 1/2) has the variance 1/3.
    let values: Vec<f32> =
        (0..count).map(|_| (0..4).map(|_| uniform()).sum::<f32>() * 3.0_f32.sqrt() * deviation).collect();
    Tensor::from_slice(&values, shape).expect("as many values as the shape has elements")
}

//! What a kernel computes at values and sizes that its checks do not use: two versions of it side by side show whether a
//! change of its source changes anything.

use mlx_rs::Array;

use crate::backend::with_backend;
use crate::error::Context as _;
use crate::kernel::declaration::{Body, Declaration, Route};
use crate::kernel::dispatch::BoundCall;
use crate::kernel::signature::{Port, PortRole, Sample, ScalarKind};
use crate::kernel::value::{ConstantValue, Content, PortValue, ScalarValue};
use crate::tensor::{Origin, TraceId};
use crate::transform::vjp_arrays;
use crate::{Backend, Constant, Dtype, Error, Indices, Infer, Mask, Result, Session, Stored, Tensor, Train};

/// Outputs and gradients of a kernel, each with its name.
pub type Outcome = Vec<(String, Vec<f32>)>;

/// The most elements of all arrays of a draw.
const ELEMENTS: i64 = 20_000;

/// Returns what the kernel, stage or inference-only kernel `declaration` computes at draw `number`: in the emulator, or
/// on the CPU if it consists of operations. The same number draws the same inputs everywhere.
///
/// # Errors
/// What the kernel returns, be it that it refuses the sizes of this draw, of which its signature says only a part; in the
/// emulator also a defect it found.
pub fn outcome(declaration: &'static Declaration, number: u64) -> Result<Outcome> {
    Session::new()?;
    let backend = if declaration.is_portable() { Backend::Cpu } else { Backend::Emulated };
    with_backend(backend, || Draw::new(declaration, number)?.run())
}

/// splitmix64 (G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns an integer of at least `low` and less than `high`.
    fn integer(&mut self, low: i64, high: i64) -> i64 {
        low.saturating_add((self.next() % high.saturating_sub(low).max(1) as u64) as i64)
    }

    fn between(&mut self, low: f64, high: f64) -> f32 {
        let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        (low + (high - low) * unit) as f32
    }
}

/// One call with its inputs.
struct Draw {
    declaration: &'static Declaration,
    random: Random,
    sizes: Vec<(&'static str, i64)>,
    dtype: Dtype,
    without_optional: bool,
}

impl Draw {
    fn new(declaration: &'static Declaration, number: u64) -> Result<Self> {
        let mut random = Random(number.wrapping_mul(0x5851_F42D_4C95_7F2D) ^ 0x1405_7B7E_F767_814F);
        let cases = declaration.cases;
        let Some(case) = cases.get((number % cases.len().max(1) as u64) as usize) else {
            let message = "it has no cases".to_owned();
            return Err(Error::Kernel { kernel: declaration.signature.name, port: None, message });
        };
        let mut sizes = case.to_vec();
        for _ in 0..50 {
            let mut drawn = case.to_vec();
            // Template constants stay, because each of their values would be another source to compile.
            for (name, value) in &mut drawn {
                let is_dimension = declaration.signature.dimensions.iter().any(|dimension| dimension.name == *name);
                if is_dimension && random.integer(0, 2) == 0 {
                    *value = random.integer(1, 2 * *value + 4);
                }
            }
            if is_possible(declaration, &drawn) {
                sizes = drawn;
                break;
            }
        }
        let halves = [Dtype::BF16, Dtype::F16];
        let half = halves.into_iter().find(|half| declares(declaration, *half)).filter(|_| number % 4 == 3);
        let without_optional = number % 5 == 4;
        Ok(Draw { declaration, random, sizes, dtype: half.unwrap_or(Dtype::F32), without_optional })
    }

    fn run(mut self) -> Result<Outcome> {
        let declaration = self.declaration;
        let signature = declaration.signature;
        let inputs = signature.inputs.iter().map(|port| self.input(port)).collect::<Result<Vec<_>>>()?;
        let scalars: Vec<_> = signature
            .scalars
            .iter()
            .map(|scalar| match scalar.kind {
                ScalarKind::F32 => ScalarValue::F32(self.random.between(0.2, 1.6)),
                ScalarKind::I32 => ScalarValue::I32(self.random.integer(0, 4) as i32),
                ScalarKind::U32 => ScalarValue::U32(self.random.integer(0, 4) as u32),
                ScalarKind::Bool => ScalarValue::Bool(self.random.integer(0, 2) == 1),
            })
            .collect();
        let free = signature.constants.iter().filter(|constant| constant.bound.is_none());
        let constants: Vec<_> = free
            .filter_map(|constant| Some((constant.name, ConstantValue(value(&self.sizes, constant.name)?))))
            .collect();
        let dtypes: Vec<_> =
            signature.free_dtypes().map(|parameter| (parameter.name, parameter.near(self.dtype))).collect();
        let is_tensor = |(place, _): &(usize, &Port)| matches!(inputs[*place].0, Content::Tensor(..));
        let places: Vec<usize> =
            signature.inputs.iter().enumerate().filter(is_tensor).map(|(place, _)| place).collect();
        let primals: Vec<Array> = places.iter().map(|place| inputs[*place].array().clone()).collect();
        let request = |primals: &[Array], origin: Origin| {
            let mut inputs = inputs.clone();
            for (place, primal) in places.iter().zip(primals) {
                inputs[*place] = PortValue(Content::Tensor(primal.clone(), origin));
            }
            BoundCall::new(declaration, inputs, &scalars, &constants, &dtypes)
        };

        let values = request(&primals, Origin::HOST)?.run_kernel::<Infer>()?.values;
        let arrays: Vec<Array> = values.into_iter().flatten().map(|value| value.array().clone()).collect();
        let mut found = Outcome::new();
        for (port, array) in signature.visible_outputs().zip(&arrays) {
            found.push((format!("`{}`", port.name), read(array)?));
        }
        let is_float = |array: &Array| Dtype::from_mlx(array.dtype()).is_float();
        if !matches!(declaration.route, Route::Gradient { .. }) || primals.is_empty() || !arrays.iter().any(is_float) {
            return Ok(found);
        }
        let mut cotangents = Vec::new();
        for array in arrays.iter().filter(|array| is_float(array)) {
            cotangents.push(self.floats(array.shape(), Dtype::from_mlx(array.dtype()), (-1.3, 1.6))?);
        }
        let trace = TraceId::fresh();
        let function = |primals: &[Array]| {
            let values = request(primals, Origin::new(trace, true))?.run_kernel::<Train>()?.values;
            let arrays = values.into_iter().flatten().map(|value| value.array().clone());
            Ok(arrays.filter(is_float).collect())
        };
        let (_, gradients) = vjp_arrays(signature.name, function, &primals, &cotangents)?;
        for (place, gradient) in places.iter().zip(&gradients) {
            found.push((format!("the gradient of `{}`", signature.inputs[*place].name), read(gradient)?));
        }
        Ok(found)
    }

    fn input(&mut self, port: &Port) -> Result<PortValue> {
        if port.optional && self.without_optional {
            return Ok(PortValue::absent());
        }
        let shape = shape_of(port, &self.sizes).ok_or_else(|| Error::Kernel {
            kernel: self.declaration.signature.name,
            port: Some(port.name),
            message: format!("{} has no value here", port.shape_text),
        })?;
        let count = shape.iter().map(|extent| *extent as usize).product::<usize>();
        let dtype = self.dtype_of(port);
        match port.role {
            PortRole::Differentiable | PortRole::Constant => {
                let (low, high) = declared_range(port).unwrap_or((-2.0, 2.5));
                // The range differs from the one that checks mostly draw from, and lies inside it.
                let array = self.floats(&shape, dtype, (low + 0.1 * (high - low), high - 0.05 * (high - low)))?;
                Ok(if port.role == PortRole::Differentiable {
                    PortValue(Content::Tensor(array, Origin::HOST))
                } else {
                    PortValue::from(Constant::from_array(array))
                })
            }
            PortRole::Index => {
                let value_of = |name: &str| value(&self.sizes, name);
                let (low, high) = match &port.sample {
                    Sample::Integers(low, high) => (low.evaluate(&value_of), high.evaluate(&value_of)),
                    _ => (Some(0), Some(8)),
                };
                let (low, high) = (low.unwrap_or(0), high.unwrap_or(1));
                let values: Vec<i64> = (0..count).map(|_| self.random.integer(low, high)).collect();
                Ok(PortValue::from(if dtype == Dtype::U32 {
                    Indices::from_words(&values.iter().map(|value| *value as u32).collect::<Vec<_>>(), &shape)?
                } else {
                    Indices::from_slice(&values.iter().map(|value| *value as i32).collect::<Vec<_>>(), &shape)?
                }))
            }
            _ => {
                let values: Vec<bool> = (0..count).map(|_| self.random.integer(0, 3) > 0).collect();
                Ok(PortValue::from(Mask::from_slice(&values, &shape)?))
            }
        }
    }

    fn floats(&mut self, shape: &[i32], dtype: Dtype, (low, high): (f64, f64)) -> Result<Array> {
        let count = shape.iter().map(|extent| *extent as usize).product::<usize>();
        let values: Vec<f32> = (0..count).map(|_| self.random.between(low, high)).collect();
        Ok(Constant::from_slice(&values, shape)?.cast(dtype)?.array().clone())
    }

    fn dtype_of(&self, port: &Port) -> Dtype {
        self.declaration.signature.dtype_near(port.dtype, self.dtype)
    }
}

fn declared_range(port: &Port) -> Option<(f64, f64)> {
    match port.sample {
        Sample::Floats(low, high) => Some((low, high)),
        _ => None,
    }
}

fn declares(declaration: &Declaration, dtype: Dtype) -> bool {
    declaration.signature.dtypes.iter().any(|parameter| parameter.class.contains(&dtype))
}

fn value(sizes: &[(&'static str, i64)], name: &str) -> Option<i64> {
    sizes.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
}

fn shape_of(port: &Port, sizes: &[(&'static str, i64)]) -> Option<Vec<i32>> {
    let extents = port.shape.iter().map(|extent| extent.value.evaluate(&|name: &str| value(sizes, name)));
    extents.map(|extent| i32::try_from(extent?).ok().filter(|extent| *extent > 0)).collect()
}

/// Returns whether the kernel's own body runs at these sizes, and they are few.
fn is_possible(declaration: &'static Declaration, sizes: &[(&'static str, i64)]) -> bool {
    let value_of = |name: &str| value(sizes, name);
    let signature = declaration.signature;
    let grid = match &declaration.body {
        Body::Launch(launch) => launch.grid.iter().all(|extent| extent.evaluate(&value_of).is_some_and(|n| n > 0)),
        Body::Rust { .. } => true,
    };
    let mut elements = 0_i64;
    for port in signature.inputs.iter().chain(signature.outputs) {
        let Some(shape) = shape_of(port, sizes) else { return false };
        elements = elements.saturating_add(shape.iter().map(|extent| i64::from(*extent)).product());
    }
    grid && elements <= ELEMENTS && signature.broken_requirement(&value_of).is_none()
}

fn read(array: &Array) -> Result<Vec<f32>> {
    let array = array.as_dtype(mlx_rs::Dtype::Float32).during("mutation")?;
    Tensor::<Stored>::from_parts(array, Origin::HOST).to_vec::<f32>()
}

//! A launch written down in TOML, for the command.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use cotangent_emulator::{
    Bound, BoundLaunch, Buffer, Checks, Dtype, FunctionText, KernelText, Launch, Memory, Schedule, Source,
    TemplateValue,
};
use serde::Deserialize;

/// The file. Paths in it are relative to its folder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    grid: Vec<u32>,
    threadgroup: Vec<u32>,
    /// `"forward"`, `"reversed"`, or a seed.
    schedule: Option<toml::Value>,
    checks: Option<bool>,
    init_value: Option<f32>,
    #[serde(default)]
    atomic_outputs: bool,
    /// A file of helper functions.
    header: Option<String>,
    #[serde(default)]
    inputs: Vec<Input>,
    outputs: Vec<Output>,
    #[serde(default)]
    template: BTreeMap<String, toml::Value>,
    /// A kernel function of a whole file; without it the file is the body of a kernel.
    function: Option<String>,
    /// Values of function constants, by their numbers.
    #[serde(default)]
    constants: BTreeMap<String, toml::Value>,
    /// Bytes of memory behind `[[threadgroup(n)]]` parameters, by their numbers.
    #[serde(default)]
    threadgroup_memory: BTreeMap<String, usize>,
}

/// A kernel function of a file, and its launch.
pub struct Function {
    pub text: FunctionText,
    pub launch: BoundLaunch<'static>,
    /// Numbers and shapes of the outputs.
    pub outputs: Vec<(u32, Vec<usize>)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    name: String,
    /// The number in `[[buffer(..)]]`, for a function; in the order of the file without it, inputs first.
    buffer: Option<u32>,
    dtype: String,
    shape: Vec<usize>,
    /// Numbers in rows, one number for all elements, `"count"` (0, 1, 2 …) or `"random"` (between -1 and 1).
    values: Option<toml::Value>,
    /// A file of little-endian elements.
    file: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Output {
    name: String,
    buffer: Option<u32>,
    dtype: String,
    shape: Vec<usize>,
}

impl Description {
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} does not describe a launch", path.display()))
    }

    /// Returns whether the file is a whole one, with functions in it.
    pub fn is_of_function(&self) -> bool {
        self.function.is_some()
    }

    /// The function of the file `source` that is named, and its launch; `folder` is where paths start.
    pub fn resolve_function(self, source: Source, folder: &Path) -> Result<Function> {
        let of_bodies = self.init_value.is_some() || self.atomic_outputs || self.header.is_some();
        ensure!(
            !of_bodies && self.template.is_empty(),
            "`template`, `header`, `init_value` and `atomic_outputs` are of bodies; a `function` has what its file says"
        );
        let (mut next, mut buffers, mut outputs) = (0, Vec::new(), Vec::new());
        let mut number = |given: Option<u32>| {
            let number = given.unwrap_or(next);
            next = number + 1;
            number
        };
        for input in self.inputs {
            let dtype = dtype(&input.dtype)?;
            let buffer = input.buffer(dtype, folder).with_context(|| format!("input `{}`", input.name))?;
            let memory = Memory::Read(buffer.bytes);
            buffers.push(Bound { index: number(input.buffer), name: input.name, dtype, memory });
        }
        for output in self.outputs {
            let (index, dtype) = (number(output.buffer), dtype(&output.dtype)?);
            let size = elements(&output.shape).with_context(|| format!("output `{}`", output.name))?;
            buffers.push(Bound::written(index, &output.name, dtype, size));
            outputs.push((index, output.shape));
        }
        let constant = |(number, value): (String, toml::Value)| {
            let value = match value {
                toml::Value::Integer(value) => value,
                toml::Value::Boolean(value) => i64::from(value),
                other => bail!("function constant {number}: `{other}` is neither an integer nor a bool"),
            };
            Ok((key(&number)?, value))
        };
        let memory = self.threadgroup_memory.into_iter().map(|(number, bytes)| Ok((key(&number)?, bytes)));
        let launch = BoundLaunch {
            grid: three(&self.grid).context("`grid`")?,
            threadgroup: three(&self.threadgroup).context("`threadgroup`")?,
            buffers,
            threadgroup_memory: memory.collect::<Result<_>>()?,
            schedule: self.schedule.as_ref().map_or(Ok(Schedule::Forward), schedule)?,
            checks: if self.checks.unwrap_or(true) { Checks::On } else { Checks::Off },
            ..BoundLaunch::default()
        };
        let text = FunctionText {
            source,
            folders: vec![folder.to_owned()],
            name: self.function.unwrap_or_default(),
            constants: self.constants.into_iter().map(constant).collect::<Result<_>>()?,
        };
        Ok(Function { text, launch, outputs })
    }

    /// The kernel whose body is `body`, and its launch; `folder` is where paths start.
    pub fn resolve(self, body: Source, folder: &Path) -> Result<(KernelText, Launch<'static>)> {
        ensure!(
            self.constants.is_empty() && self.threadgroup_memory.is_empty(),
            "`constants` and `threadgroup_memory` are of functions: name one with `function`"
        );
        let mut kernel = KernelText::new(body.file.clone(), "");
        kernel.body = body;
        kernel.init_value = self.init_value;
        kernel.atomic_outputs = self.atomic_outputs;
        if let Some(header) = self.header {
            let path = folder.join(&header);
            let text =
                std::fs::read_to_string(&path).with_context(|| format!("cannot read the header {}", path.display()))?;
            kernel.header = Source::new(header, text);
        }
        for (name, value) in self.template {
            let value = template_value(&value).with_context(|| format!("template parameter `{name}`"))?;
            kernel = kernel.template(name, value);
        }
        let mut launch = Launch {
            grid: three(&self.grid).context("`grid`")?,
            threadgroup: three(&self.threadgroup).context("`threadgroup`")?,
            schedule: self.schedule.as_ref().map_or(Ok(Schedule::Forward), schedule)?,
            checks: if self.checks.unwrap_or(true) { Checks::On } else { Checks::Off },
            ..Launch::default()
        };
        for input in self.inputs {
            let dtype = dtype(&input.dtype)?;
            let buffer = input.buffer(dtype, folder).with_context(|| format!("input `{}`", input.name))?;
            launch.inputs.push(buffer);
            kernel = kernel.input(input.name, dtype);
        }
        for output in self.outputs {
            kernel = kernel.output(output.name, dtype(&output.dtype)?);
            launch.output_shapes.push(output.shape);
        }
        Ok((kernel, launch))
    }
}

impl Input {
    fn buffer(&self, dtype: Dtype, folder: &Path) -> Result<Buffer<'static>> {
        let size = elements(&self.shape)?;
        let buffer = |values: Vec<f64>| Buffer::from_values(dtype, self.shape.clone(), values);
        match (&self.values, &self.file) {
            (None, Some(file)) => {
                let path = folder.join(file);
                let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
                Ok(Buffer::new(dtype, self.shape.clone(), bytes))
            }
            (Some(toml::Value::String(kind)), None) => match kind.as_str() {
                "count" => Ok(buffer((0..size).map(|i| i as f64).collect())),
                "random" => Ok(buffer((0..size as u64).map(random).collect())),
                _ => bail!("`{kind}` is no kind of values: write \"count\", \"random\", a number or numbers"),
            },
            (Some(value @ toml::Value::Array(_)), None) => {
                let mut values = Vec::new();
                flatten(value, &mut values)?;
                ensure!(values.len() == size, "{} values given, shape {:?} holds {size}", values.len(), self.shape);
                Ok(buffer(values))
            }
            (Some(value), None) => {
                let mut one = Vec::new();
                flatten(value, &mut one)?;
                Ok(buffer(one.repeat(size)))
            }
            _ => bail!("give either `values` or `file`"),
        }
    }
}

/// The most elements that the emulator takes; more are refused here, before they are allocated.
fn elements(shape: &[usize]) -> Result<usize> {
    let elements = shape.iter().try_fold(1_usize, |product, &extent| product.checked_mul(extent));
    let size = elements.filter(|&elements| elements <= 1 << 30);
    size.with_context(|| format!("shape {shape:?} holds too many elements"))
}

fn key(number: &str) -> Result<u32> {
    number.parse().with_context(|| format!("`{number}` is no number of a parameter or a function constant"))
}

/// A number between -1 and 1 that looks random and is the same everywhere.
fn random(i: u64) -> f64 {
    let mixed = (i + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

fn flatten(value: &toml::Value, into: &mut Vec<f64>) -> Result<()> {
    match value {
        toml::Value::Integer(n) => into.push(*n as f64),
        toml::Value::Float(x) => into.push(*x),
        toml::Value::Boolean(b) => into.push(f64::from(u8::from(*b))),
        toml::Value::Array(rows) => rows.iter().try_for_each(|row| flatten(row, into))?,
        other => bail!("`{other}` is no number"),
    }
    Ok(())
}

fn dtype(name: &str) -> Result<Dtype> {
    name.parse().map_err(anyhow::Error::msg)
}

fn three(sizes: &[u32]) -> Result<[u32; 3]> {
    ensure!((1..=3).contains(&sizes.len()), "one to three sizes expected, {} found", sizes.len());
    Ok(std::array::from_fn(|d| sizes.get(d).copied().unwrap_or(1)))
}

fn template_value(value: &toml::Value) -> Result<TemplateValue> {
    Ok(match value {
        toml::Value::String(name) => TemplateValue::Dtype(dtype(name)?),
        toml::Value::Integer(n) => TemplateValue::Int(i32::try_from(*n).context("an int has 32 bits")?),
        toml::Value::Boolean(b) => TemplateValue::Bool(*b),
        other => bail!("`{other}` is neither a dtype, an int nor a bool"),
    })
}

fn schedule(value: &toml::Value) -> Result<Schedule> {
    Ok(match value {
        toml::Value::String(s) if s == "forward" => Schedule::Forward,
        toml::Value::String(s) if s == "reversed" => Schedule::Reversed,
        toml::Value::Integer(seed) => Schedule::Random(*seed as u64),
        other => bail!("`{other}` is no schedule: write \"forward\", \"reversed\" or a seed"),
    })
}

//! A kernel as MLX's `metal_kernel` takes it: a body, a header, named ports.

use crate::Dtype;

/// A source, and the place where a person finds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Metal Shading Language.
    pub text: String,
    /// The file named in findings and compile errors.
    pub file: String,
    /// The line of `file` on which `text` starts, from 1. A `#line` directive inside `text` overrides both.
    pub line: u32,
}

impl Source {
    /// `text` that starts on line 1 of `file`.
    pub fn new(file: impl Into<String>, text: impl Into<String>) -> Self {
        Source { text: text.into(), file: file.into(), line: 1 }
    }
}

/// An input or output buffer of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The buffer's name in the body.
    pub name: String,
    /// The type of its elements.
    pub dtype: Dtype,
}

impl Port {
    /// The port `name` of `dtype` elements.
    pub fn new(name: impl Into<String>, dtype: Dtype) -> Self {
        Port { name: name.into(), dtype }
    }
}

/// The value that a template parameter of the kernel is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TemplateValue {
    /// `typename NAME`
    Dtype(Dtype),
    /// `int NAME`
    Int(i32),
    /// `bool NAME`
    Bool(bool),
}

/// A kernel, independent of the data it runs on. Its signature follows from MLX's rules:
///
/// - an input of fewer than 8 elements is in `constant`, any other in `device` memory; a 0-d input is a reference;
/// - `NAME_shape`, `NAME_strides` and `NAME_ndim` of an input, and every Metal attribute
///   (`thread_position_in_grid` …), is a parameter if its name occurs anywhere in the body, comments included;
/// - an output is `device T*`, or `device atomic<T>*` if `atomic_outputs` is set.
///
/// Only in the emulator, [`Dtype::F64`] can replace [`Dtype::F32`] in ports and template types. Then `float` is
/// `double` everywhere, including literals, vectors, tiles and collectives, so that derivatives can be measured. All of
/// a kernel's floats must then be `F64`, or small. A source that reads the bits of a `float` does not compile in this
/// way.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelText {
    /// Shown in messages; need not be an identifier.
    pub name: String,
    /// Helper functions and constants, in front of the kernel. May be empty.
    pub header: Source,
    /// The kernel's body, without signature and braces.
    pub body: Source,
    /// Inputs in order.
    pub inputs: Vec<Port>,
    /// Outputs in order.
    pub outputs: Vec<Port>,
    /// Template parameters in order, each with its value.
    pub template: Vec<(String, TemplateValue)>,
    /// Every output element holds this value when the kernel starts; without it outputs are garbage.
    pub init_value: Option<f32>,
    /// Outputs are `device atomic<T>*`.
    pub atomic_outputs: bool,
}

impl KernelText {
    /// A kernel without header, ports or template parameters, its body starting on line 1 of `NAME.metal`.
    pub fn new(name: impl Into<String>, body: impl Into<String>) -> Self {
        let name = name.into();
        KernelText {
            header: Source::default(),
            body: Source::new(format!("{name}.metal"), body),
            name,
            inputs: Vec::new(),
            outputs: Vec::new(),
            template: Vec::new(),
            init_value: None,
            atomic_outputs: false,
        }
    }

    /// Returns whether it is compiled with `float` as `double`: a port or a template type is [`Dtype::F64`].
    pub fn is_double(&self) -> bool {
        let ports = self.inputs.iter().chain(&self.outputs).map(|port| port.dtype);
        let types = self.template.iter().filter_map(|(_, value)| match value {
            TemplateValue::Dtype(dtype) => Some(*dtype),
            _ => None,
        });
        ports.chain(types).any(|dtype| dtype == Dtype::F64)
    }

    /// Adds an input.
    pub fn input(mut self, name: impl Into<String>, dtype: Dtype) -> Self {
        self.inputs.push(Port::new(name, dtype));
        self
    }

    /// Adds an output.
    pub fn output(mut self, name: impl Into<String>, dtype: Dtype) -> Self {
        self.outputs.push(Port::new(name, dtype));
        self
    }

    /// Adds a template parameter.
    pub fn template(mut self, name: impl Into<String>, value: TemplateValue) -> Self {
        self.template.push((name.into(), value));
        self
    }

    /// Sets the header.
    pub fn header(mut self, header: Source) -> Self {
        self.header = header;
        self
    }
}

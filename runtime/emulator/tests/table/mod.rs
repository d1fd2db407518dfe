//! Cases for tables of kernels: a body, what it runs on, what must be found.

#[path = "../../../src/kernel/launch/nvrtc.rs"]
pub mod nvrtc;

use cotangent_emulator::{
    Buffer, Checks, Dtype, Emulator, FindingKind, KernelText, Launch, Run, Schedule, Source, StaticCheck, TemplateValue,
};
use cotangent_metal::{CudaGrid, CudaUnit, cuda_text};
use nvrtc::CudaCompiler;

/// A kernel with its data. Unless said otherwise: `x` holds 0, 1, 2 … 63 in f32, `y` takes 64 elements of f32, and 64
/// threads form one threadgroup.
pub struct Case {
    pub name: &'static str,
    /// `None`: clean. The line it must be found on is the one that ends in `//!`, if there is one.
    pub finds: Option<FindingKind>,
    pub kernel: KernelText,
    pub launch: Launch<'static>,
    /// The expected first output.
    pub expected: Option<Vec<f64>>,
    /// Whether it holds what Metal has and CUDA refuses.
    pub metal_only: bool,
}

impl Case {
    fn new(name: &'static str, finds: Option<FindingKind>, body: &str) -> Self {
        let counting = Buffer::from_values(Dtype::F32, [64], (0..64).map(f64::from));
        Case {
            name,
            finds,
            kernel: KernelText::new(name, body).input("x", Dtype::F32).output("y", Dtype::F32),
            launch: Launch {
                grid: [64, 1, 1],
                threadgroup: [64, 1, 1],
                inputs: vec![counting],
                output_shapes: vec![vec![64]],
                ..Launch::default()
            },
            expected: None,
            metal_only: false,
        }
    }

    pub fn threads(mut self, grid: u32, threadgroup: u32) -> Self {
        (self.launch.grid, self.launch.threadgroup) = ([grid, 1, 1], [threadgroup, 1, 1]);
        self
    }

    pub fn grid(mut self, grid: [u32; 3], threadgroup: [u32; 3]) -> Self {
        (self.launch.grid, self.launch.threadgroup) = (grid, threadgroup);
        self
    }

    /// `x` holds these values instead.
    pub fn x(mut self, dtype: Dtype, shape: &[usize], values: impl IntoIterator<Item = f64>) -> Self {
        self.kernel.inputs[0].dtype = dtype;
        self.launch.inputs[0] = Buffer::from_values(dtype, shape, values);
        self
    }

    /// `y` has this type and shape instead.
    pub fn y(mut self, dtype: Dtype, shape: &[usize]) -> Self {
        self.kernel.outputs[0].dtype = dtype;
        self.launch.output_shapes[0] = shape.to_vec();
        self
    }

    pub fn input(mut self, name: &str, dtype: Dtype, shape: &[usize], values: impl IntoIterator<Item = f64>) -> Self {
        self.kernel = self.kernel.input(name, dtype);
        self.launch.inputs.push(Buffer::from_values(dtype, shape, values));
        self
    }

    pub fn output(mut self, name: &str, dtype: Dtype, shape: &[usize]) -> Self {
        self.kernel = self.kernel.output(name, dtype);
        self.launch.output_shapes.push(shape.to_vec());
        self
    }

    pub fn template(mut self, name: &str, value: TemplateValue) -> Self {
        self.kernel = self.kernel.template(name, value);
        self
    }

    pub fn header(mut self, text: &str) -> Self {
        self.kernel.header = Source::new("header.metal", text);
        self
    }

    pub fn init(mut self, value: f32) -> Self {
        self.kernel.init_value = Some(value);
        self
    }

    pub fn atomic(mut self) -> Self {
        self.kernel.atomic_outputs = true;
        self
    }

    pub fn gives(mut self, expected: impl IntoIterator<Item = f64>) -> Self {
        self.expected = Some(expected.into_iter().collect());
        self
    }

    pub fn metal_only(mut self) -> Self {
        self.metal_only = true;
        self
    }

    pub fn run(&self, schedule: Schedule, checks: Checks) -> Result<Run, String> {
        let launch = Launch { schedule, checks, ..self.launch.clone() };
        Emulator::global().and_then(|e| e.run(&self.kernel, &launch)).map_err(|e| format!("{}: {e}", self.name))
    }

    fn marked_lines(&self) -> Vec<(String, u32)> {
        let sources = [&self.kernel.body, &self.kernel.header];
        let marked = |s: &Source| {
            let file = s.file.clone();
            let lines = s.text.lines().enumerate().filter(|(_, l)| l.trim_end().ends_with("//!"));
            lines.map(move |(i, _)| (file.clone(), i as u32 + s.line)).collect::<Vec<_>>()
        };
        sources.into_iter().flat_map(marked).collect()
    }

    /// The complaints of the static check about a sound kernel, if there is a clang for it.
    fn complaints(&self) -> Result<(), String> {
        static CHECK: std::sync::LazyLock<Option<StaticCheck>> = std::sync::LazyLock::new(StaticCheck::find);
        let Some(check) = CHECK.as_ref().filter(|_| self.finds.is_none()) else { return Ok(()) };
        let shapes: Vec<&[usize]> = self.launch.inputs.iter().map(|b| b.shape.as_slice()).collect();
        let found = check.check(&self.kernel, &shapes).map_err(|e| e.to_string())?;
        let text: String = found.iter().map(|c| format!("\n{c}")).collect();
        if found.is_empty() { Ok(()) } else { Err(format!("`{}`, static check:{text}", self.name)) }
    }

    /// The fault of the emulator's answer, if there is one.
    pub fn verdict(&self) -> Result<(), String> {
        self.complaints()?;
        for schedule in [Schedule::Forward, Schedule::Reversed, Schedule::Random(7)] {
            let run = self.run(schedule, Checks::On)?;
            let found = || run.findings.iter().map(|f| format!("\n{f}")).collect::<String>();
            let wrong = |what: &str| Err(format!("`{}`, {schedule:?}: {what}; found:{}", self.name, found()));
            match self.finds {
                None if !run.is_clean() => return wrong("expected nothing"),
                None => {}
                Some(kind) => {
                    let lines = self.marked_lines();
                    let hit = run.findings.iter().filter(|f| f.kind == kind).any(|f| {
                        let mut places = [f.at(), f.other_at()].into_iter().flatten();
                        lines.is_empty() || places.any(|at| lines.contains(&(at.file.clone(), at.line)))
                    });
                    if !hit {
                        return wrong(&format!("expected {kind:?} on one of {lines:?}"));
                    }
                    if run.findings.iter().any(|f| f.kind != kind) {
                        return wrong(&format!("expected nothing but {kind:?}"));
                    }
                }
            }
            if let Some(expected) = &self.expected {
                let got = self.kernel.outputs[0].dtype.decode(&run.outputs[0]);
                if got != *expected {
                    return wrong(&format!("expected {expected:?}, got {got:?}"));
                }
            }
        }
        Ok(())
    }
}

/// A kernel with one defect.
pub fn defect(finds: FindingKind, name: &'static str, body: &str) -> Case {
    Case::new(name, Some(finds), body)
}

/// A kernel without any.
pub fn sound(name: &'static str, body: &str) -> Case {
    Case::new(name, None, body)
}

/// Compiles sound kernels for CUDA, where there is a compiler, as far as CUDA has all they take.
pub fn compile_for_cuda(cases: &[Case]) {
    let Some(compiler) = CudaCompiler::find() else { return };
    let mut texts = Vec::new();
    for case in cases.iter().filter(|case| case.finds.is_none() && !case.metal_only) {
        let shapes: Vec<&[usize]> = case.launch.inputs.iter().map(|b| b.shape.as_slice()).collect();
        let Ok(grid) = CudaGrid::new(case.launch.grid, case.launch.threadgroup) else { continue };
        if let Ok(text) = cuda_text(&case.kernel, &shapes, grid) {
            texts.push((case, shapes, text));
        }
    }
    let unit = |(case, shapes, text)| -> CudaUnit<'_> {
        let (case, shapes): (&Case, &Vec<&[usize]>) = (case, shapes);
        CudaUnit { kernel: &case.kernel, input_shapes: shapes.clone(), text }
    };
    let units: Vec<CudaUnit<'_>> = texts.iter().map(|(case, shapes, text)| unit((*case, shapes, text))).collect();
    let marks = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("cuda");
    let refused = compiler.refused(&units, &marks).unwrap_or_else(|error| panic!("{error}"));
    let told: String = refused.iter().map(|(i, log)| format!("\n`{}`, CUDA: {log}", texts[*i].0.name)).collect();
    assert!(told.is_empty(), "{} of {}{told}", refused.len(), units.len());
}

/// Judges all cases, two at a time, and reports all failures together.
pub fn judge(cases: &[Case]) {
    compile_for_cuda(cases);
    let failures: Vec<String> = std::thread::scope(|scope| {
        let halves: Vec<_> = cases
            .chunks(cases.len().div_ceil(2).max(1))
            .map(|half| scope.spawn(move || half.iter().filter_map(|c| c.verdict().err()).collect::<Vec<_>>()))
            .collect();
        halves.into_iter().flat_map(|h| h.join().expect("a verdict does not panic")).collect()
    });
    assert!(failures.is_empty(), "{} of {} cases failed\n\n{}", failures.len(), cases.len(), failures.join("\n\n"));
}

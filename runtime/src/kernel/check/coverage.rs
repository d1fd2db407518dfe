//! The backends on which a kernel's own body runs, and the generated checks that cover it.

use std::fmt;

use super::cases::{Setting, cases, is_possible};
use super::draw::Draw;
use super::experiment::{Experiment, dtypes};
use crate::kernel::declaration::{Body, Declaration, Launch, Route};
use crate::{Dtype, Error, Result};

/// A check that machinery makes of every kernel it applies to, at each of its cases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Check {
    /// Gradients against finite differences, entry by entry and along a direction; in double precision where sources and
    /// operations can run so.
    FiniteDifferences,
    /// Outputs and gradients of kernel and fallback against each other.
    Fallback,
    /// Outputs and gradients in half precision against float32.
    HalfPrecision,
    /// The source runs in the emulator, which looks for races, accesses out of bounds, uninitialised reads and
    /// unwritten elements, in two orders of threads.
    Emulator,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Check::FiniteDifferences => "differences",
            Check::Fallback => "fallback",
            Check::HalfPrecision => "half precision",
            Check::Emulator => "emulator",
        })
    }
}

/// The way in which a kernel's own body runs on CUDA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OnCuda {
    /// The kernel consists of operations and launches nothing itself.
    Operations,
    /// The kernel runs by sources that its author wrote for CUDA.
    Native,
    /// The kernel runs by its Metal sources, translated.
    Translated,
    /// The kernel does not run at one of its cases, for this reason; its fallback runs there.
    Refused(String),
}

impl Declaration {
    /// Returns the checks that apply. A forward is checked together with its backward.
    pub fn checks(&'static self) -> Vec<Check> {
        let mut checks = Vec::new();
        let forward = match self.route {
            Route::Backward { of } => of(),
            _ => self,
        };
        if matches!(forward.route, Route::Gradient { .. }) {
            checks.push(Check::FiniteDifferences);
            checks.extend(forward.fallback().map(|_| Check::Fallback));
            checks.extend((dtypes(forward.signature).len() > 1).then_some(Check::HalfPrecision));
        }
        checks.extend((!forward.launches().is_empty()).then_some(Check::Emulator));
        checks
    }

    /// The stages that the body may launch.
    pub fn stages(&self) -> Vec<&'static Declaration> {
        match &self.body {
            Body::Launch(_) => Vec::new(),
            Body::Rust { stages, .. } => stages.iter().map(|stage| stage()).collect(),
        }
    }

    /// Returns whether the same inputs give the same bits in every run.
    pub fn is_deterministic(&'static self) -> bool {
        self.launches().iter().all(|launch| !launch.nondeterministic)
    }

    /// Returns how the body, and that of the backward, run on CUDA. The sources are assembled as for each of the cases,
    /// on any machine; nothing is compiled.
    ///
    /// # Errors
    /// If a case contradicts the signature.
    pub fn on_cuda(&'static self) -> Result<OnCuda> {
        let launches = self.launching();
        if launches.is_empty() {
            return Ok(OnCuda::Operations);
        }
        for (declaration, _) in &launches {
            for case in declaration.tried() {
                match cuda_text(declaration, &case) {
                    Ok(_) => {}
                    Err(Error::Untranslated { message, .. } | Error::Kernel { message, .. }) => {
                        return Ok(OnCuda::Refused(message));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        let native = launches.iter().all(|(_, launch)| launch.cuda.is_some());
        Ok(if native { OnCuda::Native } else { OnCuda::Translated })
    }

    /// The texts that MLX gets on CUDA at the first case: of the launch itself, or of each stage.
    ///
    /// # Errors
    /// [`Error::Untranslated`] if CUDA has no counterpart of one.
    pub fn cuda_texts(&'static self) -> Result<Vec<(&'static str, String)>> {
        let of = |(declaration, _): (&'static Declaration, _)| {
            let name = declaration.signature.name;
            let case = declaration.tried().into_iter().next();
            Ok((name, case.map_or(Ok(String::new()), |case| cuda_text(declaration, &case))?))
        };
        let own = self.launching().into_iter();
        let is_own = |declaration: &Declaration| {
            let stages = self.stages();
            std::ptr::eq(declaration, self) || stages.iter().any(|stage| std::ptr::eq(declaration, *stage))
        };
        own.filter(|(declaration, _)| is_own(declaration)).map(of).collect()
    }

    /// The sizes at which the kernel itself is run by checks: a backward at those of its forward, and each only where its
    /// requirements hold.
    pub(super) fn tried(&'static self) -> Vec<Setting> {
        let forward = match self.route {
            Route::Backward { of } => of(),
            _ => self,
        };
        cases(forward).into_iter().filter(|case| is_possible(self, case)).collect()
    }

    /// Returns the kernels and stages that the kernel and its backward launch, with the crate that declares each.
    pub(super) fn launching(&'static self) -> Vec<(&'static Declaration, &'static Launch)> {
        fn collect(declaration: &'static Declaration, launches: &mut Vec<(&'static Declaration, &'static Launch)>) {
            match &declaration.body {
                Body::Launch(launch) => launches.push((declaration, launch)),
                Body::Rust { stages, .. } => stages.iter().for_each(|stage| collect(stage(), launches)),
            }
        }
        let mut launches = Vec::new();
        collect(self, &mut launches);
        if let Some(backward) = self.backward() {
            collect(backward, &mut launches);
        }
        launches
    }
}

fn cuda_text(declaration: &'static Declaration, case: &Setting) -> Result<String> {
    Experiment::new(declaration, case, &Draw::default(), Dtype::F32, Dtype::F32)?.with_launch(|request| {
        let text = request.cuda_text()?;
        Ok([text.header, text.source].concat())
    })
}

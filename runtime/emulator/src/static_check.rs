//! Checks of a kernel's source that need no run: address spaces, and what Metal forbids.

use std::ffi::OsString;
use std::fmt;
use std::process::Command;

use cotangent_metal::headers::{NAMESPACES, TILE_METAL};
use cotangent_metal::translate::{arguments, breaches, check_unit, opencl_unit};

use crate::{Error, KernelText, Location};

/// A violation of a rule of Metal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Complaint {
    /// The place in the source.
    pub at: Location,
    /// The message, from clang or from the emulator.
    pub message: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.at, self.message)
    }
}

/// A check of kernel sources with clang, the only compiler on every platform that knows address spaces.
#[derive(Clone, Debug)]
pub struct StaticCheck {
    clang: OsString,
}

/// The first version with 16-bit floats of both kinds on every processor.
const NEEDED: u32 = 19;

impl StaticCheck {
    /// A clang of version 19 or newer: `COTANGENT_CLANG`, or else the first one found. `None` if there is none: then say
    /// so and go on, as kernels run without this check too.
    pub fn find() -> Option<Self> {
        let candidates: Vec<OsString> = match std::env::var_os("COTANGENT_CLANG") {
            Some(program) => vec![program],
            None => {
                let numbered = (NEEDED..NEEDED + 6).rev().map(|n| format!("clang++-{n}"));
                std::iter::once("clang++".to_owned()).chain(numbered).map(OsString::from).collect()
            }
        };
        candidates.into_iter().find(|c| version(c).is_some_and(|v| v >= NEEDED)).map(|clang| StaticCheck { clang })
    }

    /// Returns everything in the source that Metal would refuse, for inputs of these shapes. An input of fewer than 8
    /// elements is in `constant` memory, so check small and large ones if both occur.
    ///
    /// # Errors
    /// If the text cannot be taken apart, or clang does not start.
    pub fn check(&self, kernel: &KernelText, input_shapes: &[&[usize]]) -> Result<Vec<Complaint>, Error> {
        let unit = check_unit(kernel, &arguments(kernel, input_shapes))?;
        let (_, mut complaints) = self.clang(kernel, &unit, &AS_CPP)?;
        let rules =
            [(&kernel.header, true), (&kernel.body, false)].into_iter().flat_map(|(s, header)| breaches(s, header));
        complaints.extend(rules.map(|(at, what, help)| Complaint { at, message: format!("{what}\n  help: {help}") }));
        complaints.sort();
        complaints.dedup();
        Ok(complaints)
    }

    /// Returns everything that clang refuses in the source as C++ for OpenCL: another judge of address spaces, which knows
    /// that `constant` memory is not written and where arrays of threadgroup memory may stand.
    ///
    /// # Errors
    /// As for [`StaticCheck::check`].
    pub fn check_spaces(&self, kernel: &KernelText, input_shapes: &[&[usize]]) -> Result<Vec<Complaint>, Error> {
        let unit = opencl_unit(kernel, &arguments(kernel, input_shapes), false)?;
        let (_, complaints) = self.clang(kernel, &unit, &[&["-fsyntax-only"], &AS_OPENCL[..]].concat())?;
        Ok(complaints)
    }

    /// Compiles the source as C++ for OpenCL, with Metal's functions as those of AIR: LLVM's text form of nearly what Apple's
    /// compiler makes of it. The function is `metal_kernel`, its parameters those that MLX gives a kernel for inputs of
    /// these shapes.
    ///
    /// # Errors
    /// As for [`StaticCheck::check`]; what clang refuses is returned.
    pub fn compile(
        &self,
        kernel: &KernelText,
        input_shapes: &[&[usize]],
    ) -> Result<Result<String, Vec<Complaint>>, Error> {
        let unit = opencl_unit(kernel, &arguments(kernel, input_shapes), true)?;
        let flags = [&["-O1", "-S", "-emit-llvm", "-o", "-"], &AS_OPENCL[..]].concat();
        let (text, complaints) = self.clang(kernel, &unit, &flags)?;
        Ok(if complaints.is_empty() { Ok(text) } else { Err(complaints) })
    }

    /// Gives the unit to clang. Returns what clang writes, and its complaints.
    fn clang(&self, kernel: &KernelText, unit: &str, flags: &[&str]) -> Result<(String, Vec<Complaint>), Error> {
        let failed = |source| Error::Cache { path: self.clang.clone().into(), source };
        let folder = tempfile::tempdir().map_err(failed)?;
        for (name, text) in PRELUDE {
            std::fs::write(folder.path().join(name), text).map_err(failed)?;
        }
        let file = folder.path().join("kernel.cpp");
        std::fs::write(&file, unit).map_err(failed)?;
        let output = Command::new(&self.clang)
            .args(flags)
            .args(["-fno-caret-diagnostics", "-fno-color-diagnostics", "-ferror-limit=50", "-Wno-everything"])
            .args([
                "-Wimplicit-float-conversion",
                "-Werror=uninitialized",
                "-Werror=vla",
                "-Werror=vla-extension",
                "-I",
            ])
            .arg(folder.path())
            .arg(&file)
            .output()
            .map_err(failed)?;
        let own = [kernel.body.file.as_str(), kernel.header.file.as_str()];
        let start = Location { file: kernel.body.file.clone(), line: kernel.body.line };
        let messages = String::from_utf8_lossy(&output.stderr);
        let (mut complaints, errors) = complaints(&messages, &own, &start);
        if errors == 0 && !output.status.success() {
            complaints.push(Complaint { at: start, message: messages.into_owned() });
        }
        Ok((String::from_utf8_lossy(&output.stdout).into_owned(), complaints))
    }
}

/// What the units include.
const PRELUDE: [(&str, &str); 4] = [
    ("check.h", include_str!("../shim/check.h")),
    ("opencl.h", include_str!("../shim/opencl.h")),
    ("namespaces.h", NAMESPACES),
    ("tile.metal", TILE_METAL),
];

const AS_CPP: [&str; 4] = ["-fsyntax-only", "-std=c++17", "-fno-exceptions", "-fno-rtti"];

/// Numbers of address spaces as Apple's compiler has them, and no more precision than the types have.
const AS_OPENCL: [&str; 11] = [
    "-x",
    "cl",
    "-cl-std=clc++2021",
    "-cl-no-stdinc",
    "--target=x86_64",
    "-Xclang",
    "-ffake-address-space-map",
    "-Xclang",
    "-fbfloat16-excess-precision=none",
    "-Xclang",
    "-ffloat16-excess-precision=none",
];

fn version(program: &OsString) -> Option<u32> {
    let output = Command::new(program).arg("--version").output().ok().filter(|o| o.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // Apple numbers its clang in another way, and Macs have Metal's compiler anyway.
    let number = text.split("clang version ").nth(1).filter(|_| !text.contains("Apple"))?;
    number.split('.').next()?.parse().ok()
}

/// clang's errors, and how many there were. One in our declarations counts where the kernel's source led to it, else at its
/// start.
fn complaints(messages: &str, own: &[&str], start: &Location) -> (Vec<Complaint>, usize) {
    let is_error = |line: &str| line.contains(": error: ") || line.contains(": fatal error: ") || uncast_bfloat(line);
    let lines: Vec<&str> = messages.lines().collect();
    let (mut found, mut errors) = (Vec::new(), 0);
    let mut rest = &lines[lines.iter().position(|line| is_error(line)).unwrap_or(lines.len())..];
    while let Some((first, notes)) = rest.split_first() {
        let (notes, next) = notes.split_at(notes.iter().position(|line| is_error(line)).unwrap_or(notes.len()));
        rest = next;
        errors += 1;
        let split = first.split_once("error: ").or_else(|| Some((first.split_once("warning: ")?.0, UNCAST_BFLOAT)));
        let Some((place, message)) = split.filter(|_| !copies_a_struct(notes)) else { continue };
        // Threadgroup memory of a local struct is declared here, and never defined.
        if message.contains("its type does not have linkage") {
            continue;
        }
        // Metal allows `++` and `--` on vectors, and clang does not.
        let counts =
            ["cannot increment value of type", "cannot decrement value of type"].iter().any(|m| message.contains(m));
        if counts && message.contains("vec<") {
            continue;
        }
        let places = std::iter::once(place).chain(notes.iter().filter_map(|note| Some(note.split_once("note: ")?.0)));
        let at = places.filter_map(|place| own_place(place, own)).next().unwrap_or_else(|| start.clone());
        found.push(Complaint { at, message: message.to_owned() });
    }
    (found, errors)
}

const UNCAST_BFLOAT: &str = "a float becomes a `bfloat` without a cast, which Metal refuses\n  help: write `bfloat(..)` or `static_cast<T>(..)`";

/// Returns whether clang warns of a float that becomes a `bfloat`.
fn uncast_bfloat(line: &str) -> bool {
    let Some((_, warning)) = line.split_once(": warning: implicit conversion loses floating-point precision: ") else {
        return false;
    };
    warning.contains("to 'bfloat'") || warning.contains("to '__bf16'") || warning.contains("(aka '__bf16')")
}

/// Returns whether the error is that a struct is copied into or out of an address space: Metal's implicit members work
/// in all, those of C++ in none. A value of another type, which this takes for a copy as well, does not compile for a
/// run either.
fn copies_a_struct(notes: &[&str]) -> bool {
    notes.iter().any(|note| note.contains("(the implicit copy ") && note.contains("address space"))
}

fn own_place(place: &str, own: &[&str]) -> Option<Location> {
    let mut parts = place.trim_end_matches([' ', ':']).rsplitn(3, ':');
    let (_column, line, file) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
    let file = own.iter().find(|o| !o.is_empty() && **o == file)?;
    Some(Location { file: (*file).to_owned(), line })
}

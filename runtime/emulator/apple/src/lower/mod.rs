//! Lowers a kernel's module in LLVM's text form, as Apple's compiler made it, to one for this machine: address spaces
//! are removed, each function of AIR gets a definition, function constants get values, and threadgroup memory comes
//! from the emulator.

mod arguments;
mod builtins;
mod checks;
mod function;
mod layout;
mod syntax;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

pub use arguments::{Argument, ArgumentRole};
pub use builtins::Source;

use arguments::arguments;
use builtins::{DECLARATIONS, Signature, define, float_declarations};
use function::Lowering;
use layout::NamedTypes;
use syntax::{closing, global, leading_type, parts, without_spaces};

/// The options of lowering a module.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether a product that is added to something is rounded once, as on a GPU, or twice.
    pub contract: bool,
    /// Values of function constants, by their index.
    pub constants: BTreeMap<u32, i64>,
}

/// A module for this machine, and what its numbers mean.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// LLVM's text form. It exports `metal_kernel_entry`.
    pub text: String,
    /// Calls that threads must reach together, by number: the function of AIR, and the line of `text`.
    pub sites: Vec<(String, u32)>,
    /// The kernel's arguments, in order.
    pub arguments: Vec<Argument>,
    /// Function constants by index, with their types and names.
    pub constants: BTreeMap<u32, (String, String)>,
    /// Products that are added.
    pub contractions: usize,
    /// The sources of the results of functions of AIR.
    pub sources: BTreeSet<Source>,
}

/// The reason why a module is not lowered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Functions of AIR that are not known, as they are declared.
    Functions(Vec<String>),
    /// Function constants without a value: index and name.
    Constants(Vec<(u32, String)>),
    /// A part that does not look as expected.
    Form(String),
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Functions(names) => write!(f, "functions of AIR that are not known here: {}", names.join("; ")),
            Refusal::Constants(constants) => {
                let names = constants.iter().map(|(index, name)| format!("{index} (`{name}`)"));
                write!(f, "function constants without a value: {}", names.collect::<Vec<_>>().join(", "))
            }
            Refusal::Form(what) => write!(f, "the module is not of the known form: {what}"),
        }
    }
}

impl std::error::Error for Refusal {}

/// Lowers the module in `text`. Messages name its places as lines of `file`.
///
/// # Errors
/// If it uses what is not known, or a function constant has no value.
pub fn lower(text: &str, file: &str, options: &Options) -> Result<Lowered, Refusal> {
    let module = Module::read(text)?;
    let kernel = module.kernel(text)?;
    let arguments = arguments(text, &kernel)?;

    let mut unknown = Vec::new();
    let mut definitions = BTreeMap::new();
    for signature in &module.declared {
        match define(signature, options.contract) {
            Some(definition) => drop(definitions.insert(signature.name.clone(), definition)),
            None => unknown.push(signature.name.clone()),
        }
    }
    if !unknown.is_empty() {
        return Err(Refusal::Functions(unknown));
    }
    let missing: Vec<(u32, String)> = module
        .constants
        .iter()
        .filter(|(index, _)| !options.constants.contains_key(index))
        .map(|(index, constant)| (*index, constant.name.clone()))
        .collect();
    if !missing.is_empty() {
        return Err(Refusal::Constants(missing));
    }

    let meeting: BTreeSet<&str> = definitions.iter().filter(|(_, d)| d.meets).map(|(n, _)| n.as_str()).collect();
    let mut lowering = Lowering::new(&module.threadgroup, &meeting, &kernel, &module.types);
    for function in &module.functions {
        lowering.function(function)?;
    }
    let mut out = lowering.text;
    let entry = entry(&kernel, &arguments)?;
    let _ = write!(out, "{entry}\n{}", module.kept.join("\n"));
    for (index, constant) in &module.constants {
        let value = options.constants.get(index).copied().unwrap_or_default();
        let _ = write!(out, "\n@{} = internal constant {} {value}", constant.symbol, constant.ty);
    }
    for (n, array) in module.threadgroup.iter().enumerate() {
        let _ =
            write!(out, "\n@air.name.{n} = private constant [{} x i8] c\"{}\\00\"", array.name.len() + 1, array.name);
    }
    let _ = writeln!(out, "\n{DECLARATIONS}{}{}", float_declarations(), checks::DEFINITIONS);
    definitions.values().for_each(|definition| out += &definition.text);
    let _ = write!(out, "{}", debug_information(file, lowering.lines));
    let constants = module.constants.iter().map(|(index, c)| (*index, (c.ty.clone(), c.name.clone()))).collect();
    let sources = definitions.values().map(|definition| definition.source).collect();
    Ok(Lowered { text: out, sites: lowering.sites, arguments, constants, contractions: lowering.contractions, sources })
}

/// An array or variable in threadgroup memory.
struct Threadgroup {
    symbol: String,
    /// The variable's name in the source.
    name: String,
    ty: String,
    element_bytes: u64,
    /// The number of its element type in `Dtype::ALL`, or 255.
    dtype: u32,
}

/// A function constant.
struct Constant {
    symbol: String,
    name: String,
    ty: String,
}

/// The parts of a module.
#[derive(Default)]
struct Module {
    declared: Vec<Signature>,
    constants: BTreeMap<u32, Constant>,
    threadgroup: Vec<Threadgroup>,
    /// The definitions of types, which stand in front of their uses.
    types: Vec<String>,
    /// Globals, declarations and attributes that stay.
    kept: Vec<String>,
    /// Each with its `define` line and its closing brace.
    functions: Vec<Vec<String>>,
}

impl Module {
    fn read(text: &str) -> Result<Self, Refusal> {
        let mut module = Module::default();
        let mut layout = NamedTypes::default();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.starts_with("define ") {
                let mut function = vec![line.to_owned()];
                for line in lines.by_ref() {
                    function.push(line.to_owned());
                    if line == "}" {
                        break;
                    }
                }
                module.functions.push(function);
            } else if line.starts_with("declare ") {
                module.declaration(line)?;
            } else if let Some(rest) = line.strip_prefix('@') {
                module.global(rest, &layout)?;
            } else if line.starts_with('%') {
                layout.note(line);
                module.types.push(without_spaces(line));
            } else if line.starts_with("attributes ") {
                module.kept.push(line.to_owned());
            }
        }
        // Some intrinsics have an address space in their name. Without it several declarations are equal, and one is
        // kept.
        let mut seen = BTreeSet::new();
        module.kept.retain(|line| !line.starts_with("declare ") || seen.insert(line.clone()));
        Ok(module)
    }

    fn declaration(&mut self, line: &str) -> Result<(), Refusal> {
        let form = || Refusal::Form(line.to_owned());
        let (at, name) = global(line, 0, |_| true).ok_or_else(form)?;
        let open = at + 1 + name.len();
        let end = closing(line, open).ok_or_else(form)?;
        // The source defines its functions, unless it declares one that nothing defines.
        if !name.starts_with("air.") && !name.starts_with("llvm.fmuladd.") && !name.starts_with("_Z") {
            let plain = line[..end].replace(" local_unnamed_addr", "");
            self.kept.push(one_space(&without_spaces(&plain)));
            return Ok(());
        }
        let result = leading_type(&line["declare ".len()..]).to_owned();
        let parameters = parts(&line[open + 1..end - 1]).into_iter().map(|p| leading_type(p).to_owned()).collect();
        self.declared.push(Signature { name: own_name(name), result, parameters });
        Ok(())
    }

    fn global(&mut self, line: &str, layout: &NamedTypes) -> Result<(), Refusal> {
        let form = || Refusal::Form(line.to_owned());
        let (symbol, rest) = line.split_once(" = ").ok_or_else(form)?;
        if symbol.starts_with("llvm.used") || symbol.starts_with("llvm.compiler.used") || line.contains("[0 x {") {
            return Ok(());
        }
        let behind = |word: &str| rest.split_once(word).map(|(_, behind)| behind);
        if rest.contains("addrspace(3) ") {
            let ty = leading_type(behind("global ").ok_or_else(form)?).to_owned();
            let (element_bytes, dtype) = layout.element(&ty);
            let name = source_name(symbol);
            self.threadgroup.push(Threadgroup { symbol: symbol.to_owned(), name, ty, element_bytes, dtype });
            return Ok(());
        }
        if let Some((name, index)) = symbol.split_once(".MTL_FC_INIT_") {
            let index = index.split('_').next().and_then(|n| n.parse().ok()).ok_or_else(form)?;
            let ty = behind("constant ").or_else(|| behind("global ")).ok_or_else(form)?;
            let (ty, name) = (leading_type(ty).to_owned(), source_name(name));
            self.constants.insert(index, Constant { symbol: symbol.to_owned(), name, ty });
            return Ok(());
        }
        let mut kept = without_spaces(line).replace(" externally_initialized", "");
        if let Some(at) = kept.find(", section \"") {
            let end = kept[at + 11..].find('"').map_or(kept.len(), |n| at + 12 + n);
            kept.replace_range(at..end, "");
        }
        self.kept.push(format!("@{kept}"));
        Ok(())
    }

    /// The name of the kernel that the module's metadata names.
    fn kernel(&self, text: &str) -> Result<String, Refusal> {
        let form = || Refusal::Form("no `!air.kernel`".to_owned());
        let list = text.lines().find_map(|line| line.strip_prefix("!air.kernel = !{")).ok_or_else(form)?;
        let node = arguments::node(text, list.split([',', '}']).next().unwrap_or_default()).ok_or_else(form)?;
        global(node, 0, |_| true).map(|(_, name)| name.to_owned()).ok_or_else(form)
    }
}

/// `llvm.fmuladd.f32` gets a definition of its own, which no name of LLVM's may have.
fn own_name(name: &str) -> String {
    name.strip_prefix("llvm.fmuladd.").map_or_else(|| name.to_owned(), |ty| format!("air.fmuladd.{ty}"))
}

/// `llvm.memcpy.p3.p1.i64` becomes `llvm.memcpy.p0.p0.i64`.
fn one_space(line: &str) -> String {
    let mut line = line.to_owned();
    for space in 1..=4 {
        line = line.replace(&format!(".p{space}."), ".p0.").replace(&format!(".p{space}("), ".p0(");
    }
    line
}

/// The variable's name at the end of a mangled one: `local_sums` of `_ZZ…E10local_sums`, `has_w` of `_Z5has_w`.
fn source_name(symbol: &str) -> String {
    let plain = symbol.split('.').next().unwrap_or(symbol);
    let starts = plain.char_indices().map(|(i, _)| i).filter(|&i| i > 0);
    let mut names = starts.filter_map(|i| {
        let name = &plain[i..];
        let name = name.rsplit_once('_').filter(|(_, n)| n.parse::<u32>().is_ok()).map_or(name, |(name, _)| name);
        let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        (starts && plain[..i].ends_with(&name.len().to_string())).then_some(name)
    });
    let found = names.next_back().unwrap_or(plain);
    found.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

/// The function that the emulator calls for each thread: it takes buffers and attributes apart.
fn entry(kernel: &str, arguments: &[Argument]) -> Result<String, Refusal> {
    let mut text = String::from("define void @metal_kernel_entry(ptr %buffers, ptr %attributes) {\n");
    let mut passed = Vec::new();
    let mut declared = BTreeSet::new();
    let mut buffers = 0;
    for (n, argument) in arguments.iter().enumerate() {
        match &argument.role {
            ArgumentRole::Buffer { .. } => {
                let _ = writeln!(text, "  %at{n} = getelementptr ptr, ptr %buffers, i64 {buffers}");
                let _ = writeln!(text, "  %v{n} = load ptr, ptr %at{n}");
                buffers += 1;
            }
            ArgumentRole::Attribute(name) => {
                declared.insert(format!("declare ptr @air_attribute_{name}(ptr)\n"));
                let _ = writeln!(text, "  %at{n} = call ptr @air_attribute_{name}(ptr %attributes)");
                match argument.ty.as_str() {
                    "i16" => {
                        let _ = writeln!(text, "  %w{n} = load i32, ptr %at{n}\n  %v{n} = trunc i32 %w{n} to i16");
                    }
                    "i32" | "<2 x i32>" | "<3 x i32>" => {
                        let _ = writeln!(text, "  %v{n} = load {}, ptr %at{n}, align 4", argument.ty);
                    }
                    other => return Err(Refusal::Form(format!("attribute `{name}` of type {other}"))),
                }
            }
        }
        passed.push(format!("{} %v{n}", argument.ty));
    }
    let _ = writeln!(text, "  call void @{kernel}({})\n  ret void\n}}", passed.join(", "));
    Ok(declared.into_iter().collect::<String>() + &text)
}

/// Each line of the text becomes a place that findings can name.
fn debug_information(file: &str, lines: BTreeMap<u32, u32>) -> String {
    let mut out = format!(
        "!llvm.dbg.cu = !{{!0}}\n!llvm.module.flags = !{{!1, !2}}\n\
         !0 = distinct !DICompileUnit(language: DW_LANG_C99, file: !3, isOptimized: false, runtimeVersion: 0, emissionKind: LineTablesOnly)\n\
         !1 = !{{i32 2, !\"Debug Info Version\", i32 3}}\n!2 = !{{i32 7, !\"Dwarf Version\", i32 4}}\n\
         !3 = !DIFile(filename: \"{file}\", directory: \"\")\n!4 = !DISubroutineType(types: !5)\n!5 = !{{}}\n"
    );
    for function in lines.values().collect::<BTreeSet<_>>() {
        let _ = writeln!(
            out,
            "!{} = distinct !DISubprogram(name: \"kernel\", file: !3, line: {function}, type: !4, unit: !0, spFlags: DISPFlagDefinition)",
            function::node_of(*function)
        );
    }
    for (line, function) in lines {
        if line != function {
            let (own, scope) = (function::node_of(line), function::node_of(function));
            let _ = writeln!(out, "!{own} = !DILocation(line: {line}, column: 1, scope: !{scope})");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_the_source_are_found_in_mangled_ones() {
        for (symbol, name) in [
            ("_ZZ14rms_single_rowIfLi4EEvPU9MTLdeviceKT_E10local_sums", "local_sums"),
            ("_ZZ14rms_single_rowIfLi4EEvPU9MTLdeviceKT_E14local_inv_mean.0", "local_inv_mean"),
            ("_Z5has_w", "has_w"),
            ("_ZZ1kvE1a", "a"),
            ("_ZZ1kvE1a_0", "a"),
            ("plain", "plain"),
        ] {
            assert_eq!(source_name(symbol), name, "{symbol}");
        }
    }

    #[test]
    fn intrinsics_lose_their_address_spaces() {
        assert_eq!(one_space("@llvm.memcpy.p3.p1.i64(ptr %0)"), "@llvm.memcpy.p0.p0.i64(ptr %0)");
        assert_eq!(own_name("llvm.fmuladd.v2f32"), "air.fmuladd.v2f32");
    }
}

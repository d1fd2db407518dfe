//! Each function of AIR as a small definition in LLVM's text form: instructions where LLVM has them, else a call of
//! `shim/air.cpp`. What has no definition here is refused by name.

use std::fmt::Write as _;

/// A function that a module declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Signature {
    /// `air.simd_sum.f32`
    pub name: String,
    pub result: String,
    pub parameters: Vec<String>,
}

/// The definition that replaces a built-in function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Definition {
    pub text: String,
    /// Whether calls pass their number as a last argument, because threads must reach them together.
    pub meets: bool,
    /// The source of its results.
    pub source: Source,
}

/// The source of the bits of a function's result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Instructions with one possible result.
    Instruction,
    /// The C library, on both sides of a comparison.
    Library,
    /// The emulator's order of lanes, on both sides.
    Lanes,
    /// The emulator's sums of 8 by 8 matrices, on both sides.
    Matrix,
}

/// Functions of the shim that definitions call.
pub(super) const DECLARATIONS: &str = "\
declare i64 @air_collective(i64, i32, i64, i32, i32, i32)
declare float @air_quad_sum(float, i32)
declare i32 @air_any(i32, i32)
declare i32 @air_all(i32, i32)
declare void @air_barrier(i32, i32, i32)
declare ptr @air_threadgroup(i32, i64, i64, i32, ptr)
declare void @air_private_bounds(i32)
declare void @air_matrix_load(ptr, i64, i64, i64, i32, i32, ptr, i32)
declare void @air_matrix_store(ptr, i64, i64, i64, i32, i32, ptr, i32)
declare void @air_matrix_multiply(i32, i32, ptr, ptr, ptr, ptr, i32)
declare float @air_atomic_add_f32(ptr, float)
declare float @air_dot4(float, float, float, float, float, float, float, float)
declare i32 @air_half_of_double(double)
declare void @air_float_to_integer(float, i32, i32)
declare i32 @air_bfloat_of_double(double)
declare i32 @air_bfloat_of_s64(i64)
declare i32 @air_bfloat_of_u64(i64)
declare float @air_ldexp(float, i32)
declare float @air_fma(float, float, float)
";

const ONE: [&str; 25] = [
    "exp", "exp2", "log", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "tanh",
    "asinh", "acosh", "atanh", "sqrt", "rsqrt", "fabs", "floor", "ceil", "rint", "round", "trunc",
];
const TWO: [&str; 5] = ["pow", "atan2", "fmod", "fmin", "fmax"];
/// Results of these do not depend on a library.
const EXACT: [&str; 10] = ["sqrt", "fabs", "floor", "ceil", "rint", "round", "trunc", "fmin", "fmax", "fmod"];

/// The names of collectives, in the order of `Operation` in the shim.
const COLLECTIVES: [&str; 14] = [
    "sum",
    "product",
    "min",
    "max",
    "prefix_inclusive_sum",
    "prefix_exclusive_sum",
    "prefix_inclusive_product",
    "prefix_exclusive_product",
    "shuffle",
    "shuffle_xor",
    "shuffle_up",
    "shuffle_down",
    "shuffle_and_fill_up",
    "shuffle_and_fill_down",
];
/// The names of types, in the order of `Type` in the shim.
const TYPES: [&str; 9] = ["f32", "f16", "bf16", "s.i8", "s.i16", "s.i32", "u.i8", "u.i16", "u.i32"];
/// The first of the collectives that move what they are given.
const MOVES: usize = 8;

/// Declarations of the functions of floats in the shim.
pub(super) fn float_declarations() -> String {
    let one = ONE.iter().map(|name| format!("declare float @air_{name}(float)\n"));
    one.chain(TWO.iter().map(|name| format!("declare float @air_{name}(float, float)\n"))).collect()
}

/// Instructions of a definition as they are written.
#[derive(Default)]
struct Body {
    text: String,
    temporaries: usize,
}

impl Body {
    fn line(&mut self, line: &str) {
        let _ = writeln!(self.text, "  {line}");
    }

    /// A new value.
    fn value(&mut self, instruction: &str) -> String {
        let name = format!("%t{}", self.temporaries);
        self.temporaries += 1;
        self.line(&format!("{name} = {instruction}"));
        name
    }

    /// The bits of a value, as an `i64`.
    fn bits(&mut self, ty: &str, value: &str) -> String {
        let integer = match ty {
            "float" => "i32",
            "half" | "bfloat" => "i16",
            "<2 x i32>" => return self.value(&format!("bitcast <2 x i32> {value} to i64")),
            "i64" => return value.to_owned(),
            other => return self.value(&format!("zext {other} {value} to i64")),
        };
        let bits = self.value(&format!("bitcast {ty} {value} to {integer}"));
        self.value(&format!("zext {integer} {bits} to i64"))
    }

    /// The value of bits.
    fn of_bits(&mut self, ty: &str, bits: &str) -> String {
        let integer = match ty {
            "float" => "i32",
            "half" | "bfloat" => "i16",
            "<2 x i32>" => return self.value(&format!("bitcast i64 {bits} to <2 x i32>")),
            "i64" => return bits.to_owned(),
            other => return self.value(&format!("trunc i64 {bits} to {other}")),
        };
        let narrow = self.value(&format!("trunc i64 {bits} to {integer}"));
        self.value(&format!("bitcast {integer} {narrow} to {ty}"))
    }

    /// A float of any width as a `float`.
    fn widened(&mut self, ty: &str, value: &str) -> String {
        if ty == "float" { value.to_owned() } else { self.value(&format!("fpext {ty} {value} to float")) }
    }

    fn narrowed(&mut self, ty: &str, value: &str) -> String {
        if ty == "float" { value.to_owned() } else { self.value(&format!("fptrunc float {value} to {ty}")) }
    }

    /// The two elements of a matrix that a lane holds, in memory.
    fn elements(&mut self, matrix: &str, value: &str) -> String {
        let element = matrix_element(matrix);
        let place = self.value(&format!("alloca [2 x {element}], align 8"));
        for n in 0..2 {
            let part = self.value(&format!("extractelement {matrix} {value}, i64 {n}"));
            let at = self.value(&format!("getelementptr {element}, ptr {place}, i64 {n}"));
            self.line(&format!("store {element} {part}, ptr {at}"));
        }
        place
    }

    /// A matrix of the two elements in memory.
    fn matrix(&mut self, matrix: &str, place: &str) -> String {
        let element = matrix_element(matrix);
        let mut whole = "zeroinitializer".to_owned();
        for n in 0..2 {
            let at = self.value(&format!("getelementptr {element}, ptr {place}, i64 {n}"));
            let part = self.value(&format!("load {element}, ptr {at}"));
            whole = self.value(&format!("insertelement {matrix} {whole}, {element} {part}, i64 {n}"));
        }
        whole
    }
}

/// `float` of `<64 x float>`.
fn matrix_element(matrix: &str) -> &str {
    matrix.trim_start_matches("<64 x ").trim_end_matches('>')
}

fn element_bytes(element: &str) -> u32 {
    if element == "float" { 4 } else { 2 }
}

/// The number of `Type` of an element of a matrix.
fn type_of_element(element: &str) -> usize {
    ["float", "half", "bfloat"].iter().position(|name| *name == element).unwrap_or(0)
}

/// Returns what a declared function becomes. `contract`: whether a product that is added is rounded once. `None` if it
/// is not known.
pub(super) fn define(signature: &Signature, contract: bool) -> Option<Definition> {
    let name = signature.name.strip_prefix("air.")?;
    let mut body = Body::default();
    let result = signature.result.as_str();
    let mut source = Source::Instruction;
    let mut meets = false;
    let parameter = |n: usize| signature.parameters.get(n).map(String::as_str);
    let returned: Option<String> = if let Some(group) = collective(name) {
        let (operation, type_number) = group;
        (meets, source) = (true, Source::Lanes);
        if operation >= MOVES {
            source = Source::Instruction;
        }
        let ty = parameter(0)?;
        let value = body.bits(ty, "%a0");
        let fills = COLLECTIVES[operation].contains("fill");
        let filling = if fills { body.bits(ty, "%a1") } else { "0".to_owned() };
        let argument = match (fills, signature.parameters.len()) {
            (true, 4) => {
                let by = body.value("zext i16 %a2 to i32");
                let within = body.value("zext i16 %a3 to i32");
                let shifted = body.value(&format!("shl i32 {within}, 16"));
                body.value(&format!("or i32 {by}, {shifted}"))
            }
            (false, 2) => body.value("zext i16 %a1 to i32"),
            (false, 1) => "0".to_owned(),
            _ => return None,
        };
        let call = format!(
            "call i64 @air_collective(i64 {value}, i32 {argument}, i64 {filling}, i32 {operation}, i32 {type_number}, i32 %site)"
        );
        let bits = body.value(&call);
        Some(body.of_bits(result, &bits))
    } else if name == "quad_sum.f32" {
        (meets, source) = (true, Source::Lanes);
        Some(body.value("call float @air_quad_sum(float %a0, i32 %site)"))
    } else if let Some(vote) = ["any", "all"].into_iter().find(|vote| name == format!("simd_{vote}")) {
        meets = true;
        let wide = body.value("zext i1 %a0 to i32");
        let found = body.value(&format!("call i32 @air_{vote}(i32 {wide}, i32 %site)"));
        Some(body.value(&format!("trunc i32 {found} to i1")))
    } else if name == "wg.barrier" || name == "simdgroup.barrier" {
        meets = true;
        let own = u32::from(name == "simdgroup.barrier");
        body.line(&format!("call void @air_barrier(i32 %a0, i32 {own}, i32 %site)"));
        None
    } else if let Some(matrix) = name.strip_prefix("simdgroup_matrix_8x8_") {
        (meets, source) = (true, Source::Matrix);
        matrix_operation(matrix.split('.').next()?, signature, &mut body, &mut meets, &mut source)?
    } else if let Some(operation) = name.strip_prefix("own.matrix_") {
        (meets, source) = (true, if operation == "multiply" { Source::Matrix } else { Source::Instruction });
        own_matrix_operation(operation.split('.').next()?, &mut body)?;
        None
    } else if let Some(types) = name.strip_prefix("convert.") {
        Some(conversion(types, parameter(0)?, result, &mut body)?)
    } else if let Some(ty) = name.strip_prefix("fmuladd.") {
        Some(multiply_add(ty, result, contract, &mut body)?)
    } else {
        let function = name.split('.').next()?;
        let plain = function.strip_prefix("fast_").unwrap_or(function);
        match function {
            "min" | "max" | "abs" | "clamp" => Some(integers(name, result, &mut body)?),
            "is_uniform" => Some("true".to_owned()),
            "normalize_function_constant_predicate" => {
                let set = body.value(&format!("icmp ne {} %a0, 0", parameter(0)?));
                Some(if result == "i1" { set } else { body.value(&format!("zext i1 {set} to {result}")) })
            }
            "get_simdgroup_size" => Some("32".to_owned()),
            "atomic" if name == "atomic.global.add.f32" => {
                Some(body.value("call float @air_atomic_add_f32(ptr %a0, float %a1)"))
            }
            "dot" if parameter(0)? == "<4 x float>" => {
                let mut values = Vec::new();
                for operand in ["%a0", "%a1"] {
                    for n in 0..4 {
                        values.push(body.value(&format!("extractelement <4 x float> {operand}, i64 {n}")));
                    }
                }
                let arguments = values.iter().map(|v| format!("float {v}")).collect::<Vec<_>>().join(", ");
                Some(body.value(&format!("call float @air_dot4({arguments})")))
            }
            "ldexp" | "fma" if result == "float" => {
                let rest = if function == "fma" { "float %a1, float %a2" } else { "i32 %a1" };
                Some(body.value(&format!("call float @air_{function}(float %a0, {rest})")))
            }
            _ if ONE.contains(&plain) || TWO.contains(&plain) => {
                if !["float", "half", "bfloat"].contains(&result) {
                    return None;
                }
                source = if EXACT.contains(&plain) { Source::Instruction } else { Source::Library };
                let count = if TWO.contains(&plain) { 2 } else { 1 };
                let wide: Vec<String> = (0..count).map(|n| body.widened(result, &format!("%a{n}"))).collect();
                let arguments = wide.iter().map(|v| format!("float {v}")).collect::<Vec<_>>().join(", ");
                let found = body.value(&format!("call float @air_{plain}({arguments})"));
                Some(body.narrowed(result, &found))
            }
            _ => return None,
        }
    };
    let mut parameters: Vec<String> =
        signature.parameters.iter().enumerate().map(|(n, ty)| format!("{ty} %a{n}")).collect();
    if meets {
        parameters.push("i32 %site".to_owned());
    }
    body.line(&returned.map_or("ret void".to_owned(), |value| format!("ret {result} {value}")));
    let text = format!(
        "define internal {result} @{}({}) alwaysinline {{\n{}}}\n",
        signature.name,
        parameters.join(", "),
        body.text
    );
    Some(Definition { text, meets, source })
}

/// `simd_sum.f32`: operation and type.
fn collective(name: &str) -> Option<(usize, usize)> {
    let (operation, ty) = name.strip_prefix("simd_")?.split_once('.')?;
    let operation = COLLECTIVES.iter().position(|known| *known == operation)?;
    let number = TYPES.iter().position(|known| *known == ty);
    if operation >= MOVES {
        return Some((operation, number.unwrap_or_default()));
    }
    // Metal has none of these for `bfloat`.
    Some((operation, number.filter(|&n| TYPES[n] != "bf16")?))
}

fn integers(name: &str, result: &str, body: &mut Body) -> Option<String> {
    let mut words = name.split('.');
    let (function, sign) = (words.next()?, words.next()?);
    let call = |body: &mut Body, which: &str, a: &str, b: &str| {
        body.value(&format!("call {result} @llvm.{sign}{which}.{result}({result} {a}, {result} {b})"))
    };
    Some(match function {
        "abs" => body.value(&format!("call {result} @llvm.abs.{result}({result} %a0, i1 false)")),
        "clamp" => {
            let low = call(body, "max", "%a0", "%a1");
            call(body, "min", &low, "%a2")
        }
        which => call(body, which, "%a0", "%a1"),
    })
}

/// `f.bf16.s.i32`: to a `bfloat` from an `i32`.
fn conversion(types: &str, from: &str, to: &str, body: &mut Body) -> Option<String> {
    let words: Vec<&str> = types.split('.').collect();
    let [target, _, origin, _] = words[..] else { return None };
    Some(match (target, origin) {
        ("f", "f") => {
            let vector = to.starts_with('<');
            let width = if vector { &to[1..to.find(" x ")?] } else { "" };
            let float = if vector { format!("<{width} x float>") } else { "float".to_owned() };
            let wide =
                if from == float { "%a0".to_owned() } else { body.value(&format!("fpext {from} %a0 to {float}")) };
            if to == float { wide } else { body.value(&format!("fptrunc {float} {wide} to {to}")) }
        }
        ("f", sign) => {
            let convert = if sign == "s" { "sitofp" } else { "uitofp" };
            if to == "bfloat" && ["i32", "i64"].contains(&from) {
                let extend = if sign == "s" { "sext" } else { "zext" };
                let wide =
                    if from == "i64" { "%a0".into() } else { body.value(&format!("{extend} {from} %a0 to i64")) };
                let bits = body.value(&format!("call i32 @air_bfloat_of_{sign}64(i64 {wide})"));
                let narrow = body.value(&format!("trunc i32 {bits} to i16"));
                return Some(body.value(&format!("bitcast i16 {narrow} to bfloat")));
            }
            let float = body.value(&format!("{convert} {from} %a0 to float"));
            body.narrowed(to, &float)
        }
        (_, "f") if to == "i1" => body.value(&format!("fcmp une {from} %a0, 0.0")),
        (sign, "f") => {
            let float = body.widened(from, "%a0");
            let signed = u32::from(sign == "s");
            body.line(&format!(
                "call void @air_float_to_integer(float {float}, i32 {}, i32 {signed})",
                to.strip_prefix('i')?
            ));
            body.value(&format!("call {to} @llvm.fpto{sign}i.sat.{to}.f32(float {float})"))
        }
        _ => return None,
    })
}

/// A product to which something is added: rounded twice, or once.
fn multiply_add(ty: &str, result: &str, contract: bool, body: &mut Body) -> Option<String> {
    if !contract {
        let product = body.value(&format!("fmul {result} %a0, %a1"));
        return Some(body.value(&format!("fadd {result} {product}, %a2")));
    }
    let small = match ty {
        "f16" => Some("half"),
        "bf16" => Some("bfloat"),
        _ => None,
    };
    let Some(small) = small else {
        if ty.ends_with("f16") {
            return None;
        }
        return Some(body.value(&format!("call {result} @llvm.fma.{ty}({result} %a0, {result} %a1, {result} %a2)")));
    };
    let wide: Vec<String> = (0..3).map(|n| body.value(&format!("fpext {small} %a{n} to double"))).collect();
    let sum =
        body.value(&format!("call double @llvm.fma.f64(double {}, double {}, double {})", wide[0], wide[1], wide[2]));
    let bits = body.value(&format!("call i32 @air_{small}_of_double(double {sum})"));
    let narrow = body.value(&format!("trunc i32 {bits} to i16"));
    Some(body.value(&format!("bitcast i16 {narrow} to {small}")))
}

/// Operations on matrices of this project's own sources: a lane's elements lie in memory.
fn own_matrix_operation(operation: &str, body: &mut Body) -> Option<()> {
    let types = match operation {
        "load" | "store" => "ptr i64 i64 i64 i32 i32 ptr",
        "multiply" => "i32 i32 ptr ptr ptr ptr",
        _ => return None,
    };
    let passed = types.split(' ').enumerate().map(|(n, ty)| format!("{ty} %a{n}, ")).collect::<String>();
    body.line(&format!("call void @air_matrix_{operation}({passed}i32 %site)"));
    Some(())
}

/// The value that is returned, if any.
fn matrix_operation(
    operation: &str,
    signature: &Signature,
    body: &mut Body,
    meets: &mut bool,
    source: &mut Source,
) -> Option<Option<String>> {
    let types: Vec<&str> = signature.parameters.iter().map(String::as_str).collect();
    let result = signature.result.as_str();
    let origin = |body: &mut Body, operand: &str| -> Vec<String> {
        (0..2).map(|n| body.value(&format!("extractelement <2 x i64> {operand}, i64 {n}"))).collect()
    };
    Some(match (operation, &types[..]) {
        ("init_filled", [element]) => {
            (*meets, *source) = (false, Source::Instruction);
            let one = body.value(&format!("insertelement {result} zeroinitializer, {element} %a0, i64 0"));
            Some(body.value(&format!("insertelement {result} {one}, {element} %a0, i64 1")))
        }
        ("load", ["ptr", "i64", "<2 x i64>", "i1"]) => {
            *source = Source::Instruction;
            let element = matrix_element(result);
            let place = body.value(&format!("alloca [2 x {element}], align 8"));
            let at = origin(body, "%a2");
            let transpose = body.value("zext i1 %a3 to i32");
            body.line(&format!(
                "call void @air_matrix_load(ptr %a0, i64 %a1, i64 {}, i64 {}, i32 {transpose}, i32 {}, ptr {place}, i32 %site)",
                at[0], at[1], element_bytes(element)
            ));
            Some(body.matrix(result, &place))
        }
        ("store", [matrix, "ptr", "i64", "<2 x i64>", "i1"]) => {
            *source = Source::Instruction;
            let place = body.elements(matrix, "%a0");
            let at = origin(body, "%a3");
            let transpose = body.value("zext i1 %a4 to i32");
            body.line(&format!(
                "call void @air_matrix_store(ptr %a1, i64 %a2, i64 {}, i64 {}, i32 {transpose}, i32 {}, ptr {place}, i32 %site)",
                at[0], at[1], element_bytes(matrix_element(matrix))
            ));
            None
        }
        ("multiply_accumulate", [left, right, "<64 x float>"]) if result == "<64 x float>" => {
            let mut places = Vec::new();
            for (n, matrix) in [*left, *right, "<64 x float>"].into_iter().enumerate() {
                let element = matrix_element(matrix);
                let place = body.value("alloca [2 x i32], align 8");
                for part in 0..2 {
                    let value = body.value(&format!("extractelement {matrix} %a{n}, i64 {part}"));
                    let bits = body.bits(element, &value);
                    let narrow = body.value(&format!("trunc i64 {bits} to i32"));
                    let at = body.value(&format!("getelementptr i32, ptr {place}, i64 {part}"));
                    body.line(&format!("store i32 {narrow}, ptr {at}"));
                }
                places.push(place);
            }
            let sum = body.value("alloca [2 x float], align 8");
            body.line(&format!(
                "call void @air_matrix_multiply(i32 {}, i32 {}, ptr {}, ptr {}, ptr {}, ptr {sum}, i32 %site)",
                type_of_element(matrix_element(left)),
                type_of_element(matrix_element(right)),
                places[0],
                places[1],
                places[2]
            ));
            Some(body.matrix(result, &sum))
        }
        _ => return None,
    })
}

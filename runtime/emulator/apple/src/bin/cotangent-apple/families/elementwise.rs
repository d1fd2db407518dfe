//! Kernels in which each thread computes one element: unary, binary, copy, select, arange.

use cotangent_emulator::{BoundLaunch, Dtype};

use crate::case::{BOOL, Case, F32, FLOATS, INTEGERS, Type, all_types, input, launch, output, scalar};

const SIZES: [usize; 2] = [37, 1001];

pub fn cases() -> Vec<Case> {
    let mut cases = unary();
    cases.extend(binary());
    cases.extend(copies());
    cases.extend(all_types().into_iter().map(select));
    cases.extend([&INTEGERS[..], &FLOATS].concat().into_iter().map(arange));
    cases
}

fn each_size(of: impl Fn(usize) -> BoundLaunch<'static>) -> Vec<BoundLaunch<'static>> {
    SIZES.into_iter().map(of).collect()
}

fn unary() -> Vec<Case> {
    const UNIT: (f64, f64) = (-0.99, 0.99);
    const POSITIVE: (f64, f64) = (0.01, 8.0);
    const ANY: (f64, f64) = (-4.0, 4.0);
    let of_floats = [
        ("Abs", ANY),
        ("ArcCos", UNIT),
        ("ArcCosh", (1.01, 8.0)),
        ("ArcSin", UNIT),
        ("ArcSinh", ANY),
        ("ArcTan", ANY),
        ("ArcTanh", UNIT),
        ("Ceil", ANY),
        ("Cos", ANY),
        ("Cosh", ANY),
        ("Exp", ANY),
        ("Expm1", ANY),
        ("Floor", ANY),
        ("Log", POSITIVE),
        ("Log2", POSITIVE),
        ("Log10", POSITIVE),
        ("Log1p", (-0.9, 8.0)),
        ("Negative", ANY),
        ("Sigmoid", ANY),
        ("Erf", ANY),
        ("ErfInv", UNIT),
        ("Sign", ANY),
        ("Sin", ANY),
        ("Sinh", ANY),
        ("Square", ANY),
        ("Sqrt", POSITIVE),
        ("Rsqrt", POSITIVE),
        ("Tan", ANY),
        ("Tanh", ANY),
        ("Round", ANY),
    ];
    let of_integers = ["Abs", "Ceil", "Floor", "Negative", "Sign", "Square", "BitwiseInvert"];
    let case = |operation: &str, ty: Type, range: (f64, f64)| Case {
        family: "unary",
        function: format!("v_{operation}"),
        kernel: format!("v_{operation}{0}{0}", ty.library),
        headers: &["unary_ops", "unary"],
        instance: format!("unary_v<{0}, {0}, {operation}, 1>", ty.metal),
        constants: Vec::new(),
        launches: each_size(|n| {
            let buffers = vec![input(0, ty, n, range), output(1, ty.dtype, n), scalar(2, Dtype::U32, n as f64)];
            launch([n, 1, 1], [256, 1, 1], buffers)
        }),
    };
    let mut cases = Vec::new();
    for (operation, range) in of_floats {
        cases.extend(FLOATS.map(|ty| case(operation, ty, range)));
    }
    for operation in of_integers {
        let low = |ty: Type| if ty.library.starts_with('u') { 0.0 } else { -9.0 };
        cases.extend(INTEGERS.map(|ty| case(operation, ty, (low(ty), 11.0))));
    }
    cases.push(case("LogicalNot", BOOL, (0.0, 1.0)));
    cases
}

fn binary() -> Vec<Case> {
    let arithmetic =
        ["Add", "Subtract", "Multiply", "Divide", "Remainder", "FloorDivide", "Maximum", "Minimum", "Power"];
    let comparisons = ["Equal", "Greater", "GreaterEqual", "Less", "LessEqual", "NotEqual"];
    let numbers = [&FLOATS[..], &INTEGERS].concat();
    let mut wanted: Vec<(&str, Vec<Type>)> = Vec::new();
    wanted.extend(arithmetic.map(|operation| (operation, numbers.clone())));
    wanted.extend(comparisons.map(|operation| (operation, numbers.clone())));
    wanted.extend(["ArcTan2", "LogAddExp", "NaNEqual"].map(|operation| (operation, FLOATS.to_vec())));
    wanted.extend(["BitwiseAnd", "BitwiseOr", "BitwiseXor", "LeftShift", "RightShift"].map(|o| (o, INTEGERS.to_vec())));
    wanted.extend(["LogicalAnd", "LogicalOr"].map(|operation| (operation, vec![BOOL])));
    let mut cases = Vec::new();
    for (operation, types) in wanted {
        let truth = comparisons.contains(&operation) || operation == "NaNEqual";
        for ty in types {
            let result = if truth { BOOL } else { ty };
            let signed = ty.dtype.is_float() || ty.library.starts_with('i');
            let (a, b) = match operation {
                "Power" if ty.dtype.is_float() => ((0.1, 4.0), (-2.0, 3.0)),
                "Power" => ((0.0, 5.0), (0.0, 4.0)),
                "LeftShift" | "RightShift" => ((0.0, 100.0), (0.0, 7.0)),
                "Divide" | "Remainder" | "FloorDivide" if signed => ((-100.0, 100.0), (1.0, 9.0)),
                "Divide" | "Remainder" | "FloorDivide" => ((0.0, 100.0), (1.0, 9.0)),
                "Equal" | "NotEqual" => ((0.0, 3.0), (0.0, 3.0)),
                "Subtract" if !signed => ((50.0, 100.0), (0.0, 50.0)),
                _ if signed => ((-9.0, 9.0), (-9.0, 9.0)),
                _ => ((0.0, 9.0), (0.0, 9.0)),
            };
            cases.push(Case {
                family: "binary",
                function: format!("vv_{operation}"),
                kernel: format!("vv_{operation}{}", ty.library),
                headers: &["unary_ops", "binary_ops", "binary"],
                instance: format!("binary_vv<{}, {}, {operation}, 1>", ty.metal, result.metal),
                constants: Vec::new(),
                launches: each_size(|n| {
                    let buffers = vec![
                        input(0, ty, n, a),
                        input(1, ty, n, b),
                        output(2, result.dtype, n),
                        scalar(3, Dtype::U32, n as f64),
                    ];
                    launch([n, 1, 1], [256, 1, 1], buffers)
                }),
            });
        }
    }
    cases
}

fn copies() -> Vec<Case> {
    let mut cases = Vec::new();
    let case = |form: &str, template: &str, from: Type, to: Type, launches| Case {
        family: "copy",
        function: format!("{form}_copy to {}", to.library),
        kernel: format!("{form}_copy{}{}", from.library, to.library),
        headers: &["copy"],
        instance: template.replace("T, U", &format!("{}, {}", from.metal, to.metal)),
        constants: Vec::new(),
        launches,
    };
    let mut pairs: Vec<(Type, Type)> = Vec::new();
    for ty in all_types() {
        pairs.extend([(F32, ty), (FLOATS[1], ty), (ty, FLOATS[0]), (ty, FLOATS[1])]);
        pairs.extend([(INTEGERS[6], ty), (ty, INTEGERS[7])]);
    }
    pairs.sort_by_key(|(a, b)| (a.library, b.library));
    pairs.dedup();
    for (from, to) in pairs {
        let low = |ty: Type| -> f64 { if ty.library.starts_with('u') || ty == BOOL { 0.0 } else { -9.0 } };
        let range = (low(from).max(low(to)), 99.0);
        let vector = |n: usize| {
            let buffers = vec![input(0, from, n, range), output(1, to.dtype, n), scalar(2, Dtype::U32, n as f64)];
            launch([n, 1, 1], [256, 1, 1], buffers)
        };
        cases.push(case("v", "copy_v<T, U, 1>", from, to, each_size(vector)));
    }
    // The input is a transposed matrix whose row stride is larger than its width.
    for (from, to) in [(F32, F32), (F32, FLOATS[1]), (INTEGERS[6], F32)] {
        let strided = |n: usize| {
            let (rows, columns) = (n / 7 + 1, 7);
            let buffers = vec![
                input(0, from, rows * columns, (-9.0, 9.0)),
                output(1, to.dtype, rows * columns),
                cotangent_emulator::Bound::read(3, "strides", Dtype::I64, [1.0, columns as f64]),
            ];
            launch([rows, columns, 1], [32, 4, 1], buffers)
        };
        cases.push(case("g2", "copy_g_nd2<T, U, int>", from, to, each_size(strided)));
        let one = |n: usize| {
            let buffers = vec![input(0, from, 3 * n, (-9.0, 9.0)), output(1, to.dtype, n), scalar(3, Dtype::I64, 3.0)];
            launch([n, 1, 1], [256, 1, 1], buffers)
        };
        cases.push(case("g1", "copy_g_nd1<T, U, int>", from, to, each_size(one)));
        let same = |n: usize| {
            let buffers = vec![input(0, from, 1, (1.0, 9.0)), output(1, to.dtype, n), scalar(2, Dtype::U32, n as f64)];
            launch([n, 1, 1], [256, 1, 1], buffers)
        };
        cases.push(case("s", "copy_s<T, U, 1>", from, to, each_size(same)));
    }
    cases
}

fn select(ty: Type) -> Case {
    Case {
        family: "select",
        function: "v_Select".into(),
        kernel: format!("v_Select{}", ty.library),
        headers: &["ternary_ops", "ternary"],
        instance: format!("ternary_v<{}, Select, false, false, 1>", ty.metal),
        constants: Vec::new(),
        launches: each_size(|n| {
            let buffers = vec![
                input(0, BOOL, n, (0.0, 1.0)),
                input(1, ty, n, (0.0, 99.0)),
                input(2, ty, n, (0.0, 99.0)),
                output(3, ty.dtype, n),
                scalar(4, Dtype::U32, n as f64),
            ];
            launch([n, 1, 1], [256, 1, 1], buffers)
        }),
    }
}

fn arange(ty: Type) -> Case {
    Case {
        family: "arange",
        function: "arange".into(),
        kernel: format!("arange{}", ty.library),
        headers: &["arange"],
        instance: format!("arange<{}>", ty.metal),
        constants: Vec::new(),
        launches: [37, 120]
            .into_iter()
            .map(|n| {
                let step = if ty.dtype.is_float() { 0.3 } else { 1.0 };
                let buffers = vec![scalar(0, ty.dtype, 3.0), scalar(1, ty.dtype, step), output(2, ty.dtype, n)];
                launch([n, 1, 1], [64, 1, 1], buffers)
            })
            .collect(),
    }
}

//! Reductions of a whole array, of rows, and the values that they begin with.

use cotangent_emulator::{Bound, BoundLaunch, Dtype};

use crate::case::{BOOL, Case, FLOATS, INTEGERS, Type, input, launch, output, scalar};

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let integers = [INTEGERS[0], INTEGERS[4], INTEGERS[6], INTEGERS[7]];
    for (name, operation) in
        [("and", "And"), ("or", "Or"), ("sum", "Sum"), ("prod", "Prod"), ("min", "Min"), ("max", "Max")]
    {
        for ty in [&FLOATS[..], &integers].concat() {
            let result = match name {
                "and" | "or" => BOOL,
                // MLX sums small integers in 32 bits.
                "sum" | "prod" if ["int8", "uint8"].contains(&ty.library) => INTEGERS[6],
                _ => ty,
            };
            let range = match (name, ty.dtype.is_float()) {
                ("prod", true) => (0.9, 1.1),
                ("prod", false) => (1.0, 2.0),
                _ if ty.library.starts_with('u') => (0.0, 3.0),
                _ => (-2.0, 2.0),
            };
            let reducer = format!("{operation}<{}>", result.metal);
            let types = format!("{}, {}, {reducer}", ty.metal, result.metal);
            let case = |form: &str, instance: String, launches: Vec<BoundLaunch<'static>>| Case {
                family: "reduce",
                function: format!("{form}_{name}"),
                kernel: format!("{form}_reduce_{name}{}", ty.library)
                    .replace("all_reduce_reduce", "all_reduce")
                    .replace("simple_reduce", "simple"),
                headers: &[
                    "atomic",
                    "reduction/ops",
                    "reduction/reduce_all",
                    "reduction/reduce_row",
                    "reduction/reduce_col",
                ],
                instance,
                constants: Vec::new(),
                launches,
            };
            let all = |n: usize| {
                let buffers = vec![
                    input(0, ty, n, range),
                    output(1, result.dtype, 1),
                    scalar(2, Dtype::U64, n as f64),
                    scalar(3, Dtype::U64, n as f64),
                ];
                launch([64, 1, 1], [64, 1, 1], buffers)
            };
            cases.push(case("all_reduce", format!("all_reduce<{types}>"), vec![all(37), all(1001)]));
            let rows = |n: usize| {
                let count = 9;
                let buffers = vec![
                    input(0, ty, count * n, range),
                    output(1, result.dtype, count),
                    scalar(2, Dtype::U64, n as f64),
                    scalar(3, Dtype::I64, count as f64),
                ];
                let groups = count.div_ceil(4);
                launch([64, groups, 1], [64, 1, 1], buffers)
            };
            cases.push(case("row_reduce_simple", format!("row_reduce_simple<{types}>"), vec![rows(37), rows(1001)]));
            let columns = |n: usize| {
                let (rows, width) = (n, 9);
                let axis = |index, name: &str, dtype, value: usize| Bound::read(index, name, dtype, [value as f64]);
                let buffers = vec![
                    input(0, ty, rows * width, range),
                    output(1, result.dtype, width),
                    scalar(2, Dtype::U64, rows as f64),
                    scalar(3, Dtype::I64, width as f64),
                    axis(4, "shape", Dtype::I32, 1),
                    axis(5, "strides", Dtype::I64, 0),
                    scalar(6, Dtype::I32, 0.0),
                    axis(7, "reduce_shape", Dtype::I32, rows),
                    axis(8, "reduce_strides", Dtype::I64, width),
                    scalar(9, Dtype::I32, 1.0),
                    scalar(10, Dtype::U64, 1.0),
                    scalar(11, Dtype::I64, 0.0),
                ];
                launch([256, 1, 1], [256, 1, 1], buffers)
            };
            let instance = format!("col_reduce_looped<{types}, int, 1, 32, 32>");
            cases.push(case("col_reduce_looped_1_32_32", instance, vec![columns(37), columns(301)]));
        }
    }
    cases.extend(initial_values());
    cases
}

fn initial_values() -> Vec<Case> {
    let mut cases = Vec::new();
    let types: [Type; 3] = FLOATS;
    for (name, operation) in [("sum", "Sum"), ("prod", "Prod"), ("min", "Min"), ("max", "Max")] {
        cases.extend(types.map(|ty| Case {
            family: "reduce",
            function: format!("init_reduce_{name}"),
            kernel: format!("init_reduce_{name}{}", ty.library),
            headers: &["atomic", "reduction/ops", "reduction/reduce_init"],
            instance: format!("init_reduce<{0}, {operation}<{0}>>", ty.metal),
            constants: Vec::new(),
            launches:
                [37, 1001].into_iter().map(|n| launch([n, 1, 1], [64, 1, 1], vec![output(0, ty.dtype, n)])).collect(),
        }));
    }
    cases
}

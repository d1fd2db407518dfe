//! A product and what is added to it, rounded once. Needs clang, and a processor that multiplies and adds in one instruction.

use std::path::Path;

use cotangent_emulator::{Buffer, Dtype, Emulator, KernelText, Launch};

/// `(1 + e) (1 + e) - (1 + 2 e)`, which is `e` squared, and nothing if the product is rounded first.
const FORMS: [(&str, bool); 8] = [
    ("y[i] = a * b + c;", true),
    ("y[i] = c + a * b;", true),
    ("T r = c; r += a * b; y[i] = r;", true),
    ("T r = -c; r -= a * b; y[i] = -r;", true),
    ("y[i] = -(-(a * b) - c);", true),
    ("T p = a * b; y[i] = p + c;", false),
    ("y[i] = max(T(a * b), T(0)) + c;", false),
    ("y[i] = T((a * b) * T(1.0f)) + c;", false),
];

#[test]
fn products_are_rounded_with_the_sum_in_every_float_type() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("contraction");
    let Ok(contracting) = Emulator::contracting(&folder) else {
        println!("skipped: no clang, or no fused multiply-add");
        return;
    };
    let plain = Emulator::with_cache(&folder).unwrap();
    for (dtype, bits) in [(Dtype::F32, 13), (Dtype::F16, 10), (Dtype::BF16, 7)] {
        let e = (-f64::from(bits)).exp2();
        for (form, contracted) in FORMS {
            let body = format!(
                "uint i = thread_position_in_grid.x; typedef {} T; T a = x[0], b = x[1], c = x[2];\n{form}",
                dtype.metal()
            );
            let kernel = KernelText::new("form", body).input("x", dtype).output("y", dtype);
            let inputs = vec![Buffer::from_values(dtype, [3], [1.0 + e, 1.0 + e, -1.0 - 2.0 * e])];
            let launch =
                Launch { grid: [1; 3], threadgroup: [1; 3], inputs, output_shapes: vec![vec![1]], ..Launch::default() };
            let result = |emulator: &Emulator| dtype.decode(&emulator.run(&kernel, &launch).unwrap().outputs[0])[0];
            let expected = if contracted { e * e } else { 0.0 };
            assert_eq!((result(&plain), result(&contracting)), (0.0, expected), "{dtype}: {form}");
        }
    }
}

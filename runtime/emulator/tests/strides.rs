//! Inputs that do not lie row by row: read by their strides they are right; reads of what lies between their elements, and
//! kernels that ignore strides, are found.

#[allow(dead_code)]
mod table;

use cotangent_emulator::FindingKind::*;
use cotangent_emulator::{Buffer, Dtype};
use table::{Case, defect, judge, sound};

/// `x` lies in memory that counts 0, 1, 2 …
fn lies(case: Case, shape: &[usize], strides: &[i64], elements: usize, first: usize) -> Case {
    let mut case = case;
    let memory = Buffer::from_values(Dtype::F32, shape, (0..elements).map(|v| v as f64));
    let buffer = Buffer { first, ..memory.strided(strides) };
    let size = buffer.size();
    case.launch.inputs[0] = buffer;
    case.threads(size as u32, size as u32).y(Dtype::F32, &[size])
}

const BY_STRIDES: &str = "uint i = thread_position_in_grid.x;
    y[i] = x[i / x_shape[1] * x_strides[0] + i % x_shape[1] * x_strides[1]];";

#[test]
fn strides_are_followed() {
    judge(&[
        lies(sound("transposed", BY_STRIDES), &[2, 3], &[1, 2], 6, 0).gives([0.0, 2.0, 4.0, 1.0, 3.0, 5.0]),
        lies(sound("padded", BY_STRIDES), &[2, 3], &[4, 1], 8, 0).gives([0.0, 1.0, 2.0, 4.0, 5.0, 6.0]),
        lies(sound("reversed", BY_STRIDES), &[2, 2], &[-2, 1], 4, 2).gives([2.0, 3.0, 0.0, 1.0]),
        lies(sound("broadcast", BY_STRIDES), &[2, 3], &[0, 1], 3, 0).gives([0.0, 1.0, 2.0, 0.0, 1.0, 2.0]),
        lies(
            sound(
                "by elem_to_loc",
                "uint i = thread_position_in_grid.x; y[i] = x[elem_to_loc(i, x_shape, x_strides, x_ndim)];",
            ),
            &[2, 3],
            &[4, 1],
            8,
            0,
        )
        .gives([0.0, 1.0, 2.0, 4.0, 5.0, 6.0]),
        lies(
            sound("an extent of 1 has any stride", "y[thread_position_in_grid.x] = x[thread_position_in_grid.x];"),
            &[1, 4],
            &[9, 1],
            4,
            0,
        )
        .gives([0.0, 1.0, 2.0, 3.0]),
    ]);
}

#[test]
fn strides_are_not_ignored() {
    let plain = "uint i = thread_position_in_grid.x;\n y[i] = x[i]; //!";
    judge(&[
        lies(defect(IgnoredStrides, "transposed", plain), &[3, 5], &[1, 3], 15, 0),
        lies(defect(IgnoredStrides, "every second element", plain), &[4], &[2], 4, 0),
        lies(defect(IgnoredStrides, "reversed", plain), &[4], &[-1], 7, 3),
        lies(
            defect(
                OutOfBounds,
                "the padding of a row",
                "uint i = thread_position_in_grid.x;
                 y[i] = x[i / 5 * x_strides[0] + i % 5 + 1]; //!",
            ),
            &[3, 5],
            &[8, 1],
            24,
            0,
        ),
        lies(
            defect(
                OutOfBounds,
                "in front of a column",
                "uint i = thread_position_in_grid.x;
                 y[i] = x[int(i * x_strides[0]) - 1]; //!",
            ),
            &[4],
            &[3],
            13,
            2,
        ),
        lies(
            defect(
                OutOfBounds,
                "a vector that reaches into the padding",
                "uint i = thread_position_in_grid.x;
                 device const float4* row = (device const float4*)(x + i / 3 * x_strides[0]);
                 y[i] = row[0].w; //!",
            ),
            &[4, 3],
            &[4, 1],
            16,
            0,
        ),
    ]);
}

//! Times products with packed codes of every format, in several ways. `packed_linear` chooses by these times.

use std::time::Instant;

use cotangent::random::Key;
use cotangent::{CodeFormat, CodeMode, Dtype, Frozen, Infer, Packed, Result, Session, Stored, Tensor};
use cotangent_kernels::decoded_matrix;

/// Measured runs, after one that is not counted.
const RUNS: usize = 7;

/// Rows that are multiplied, and the rows and columns of the matrix.
const SIZES: [(i32, i32, i32); 4] = [(512, 256, 256), (512, 768, 256), (256, 1024, 1024), (1, 1024, 1024)];

/// The way in which a product is computed.
#[derive(Clone, Copy)]
enum Way {
    /// The product with the decoded matrix, decoded before.
    Dense,
    /// MLX's product with the codes.
    Codes,
    /// MLX decodes, then the dense product.
    DecodedByMlx,
    /// The project decodes, then the dense product.
    Decoded,
    /// MLX decodes, and nothing is multiplied.
    DecodesByMlx,
    /// The project decodes, and nothing is multiplied.
    Decodes,
}

/// A way, the codes, and the direction: `x W^T`, or `x W`.
type Host = (Way, Packed, bool);
type Tensors<M> = Vec<Tensor<M>>;

fn product(inputs: &Tensors<Infer>, _: &Tensors<Infer>, (way, matrix, transposed): &Host) -> Result<Tensors<Infer>> {
    let [x, dense] = &inputs[..] else { unreachable!("rows and a matrix") };
    let multiply = |weight: &Tensor<Infer>| if *transposed { x.linear(weight) } else { x.matmul(weight) };
    Ok(vec![match way {
        Way::Dense => multiply(dense)?,
        Way::Codes => x.multiply_codes(matrix, *transposed)?,
        Way::DecodedByMlx => multiply(&matrix.decode(x.dtype())?.to_tensor())?,
        Way::Decoded => multiply(&decoded_matrix(matrix, x.dtype())?)?,
        Way::DecodesByMlx => matrix.decode(x.dtype())?.to_tensor(),
        Way::Decodes => decoded_matrix(matrix, x.dtype())?,
    }])
}

/// The median of a product in milliseconds.
fn median(session: &mut Session, inputs: &Tensors<Stored>, host: &Host) -> Result<f64> {
    let mut times = Vec::new();
    for _ in 0..=RUNS {
        let start = Instant::now();
        drop(session.infer(inputs, &Tensors::<Stored>::new(), host, product)?);
        times.push(start.elapsed().as_secs_f64() * 1e3);
    }
    let measured = &mut times[1..];
    measured.sort_by(f64::total_cmp);
    Ok(measured[RUNS / 2])
}

fn formats() -> Result<Vec<CodeFormat>> {
    let affine = |(bits, group)| CodeFormat::new(CodeMode::Affine, Some(group), Some(bits));
    let affine = [(2, 64), (3, 64), (4, 32), (4, 64), (4, 128), (5, 64), (6, 64), (8, 64)].into_iter().map(affine);
    let floats = [CodeMode::Mxfp4, CodeMode::Mxfp8, CodeMode::Nvfp4].into_iter();
    affine.chain(floats.map(|mode| CodeFormat::new(mode, None, None))).collect()
}

/// Prints a table for each size, each line as soon as it is measured.
///
/// # Errors
/// What a backend returns.
pub fn run() -> Result<()> {
    let mut session = Session::new()?;
    println!("{}; milliseconds, medians of {RUNS}; float32", session.description());
    for (count, rows, columns) in SIZES {
        println!("\n{count} rows, a matrix of {rows} x {columns}, forward and gradient of the rows:\n");
        println!("| codes | dense | codes | decoded by MLX | decoded here | decoding, by MLX | decoding here |");
        println!("|---|---:|---:|---:|---:|---:|---:|");
        let (first, rest) = Key::new(1)?.split()?;
        let (second, third) = rest.split()?;
        let weight = first.normal(&[rows, columns])?;
        let (forward, backward) = (second.normal(&[count, columns])?, third.normal(&[count, rows])?);
        for format in formats()? {
            let parts: Vec<_> = weight.quantize(format)?.into_iter().map(Frozen::new).collect();
            let matrix = Packed::new(&parts[0], &parts[1], parts.get(2), format, Dtype::F32)?;
            let mut line =
                format!("| {} bits, groups of {}, {} |", format.bits(), format.group_size(), format.mode().name());
            for way in [Way::Dense, Way::Codes, Way::DecodedByMlx, Way::Decoded] {
                let mut time = |x: &Tensor<Stored>, transposed| {
                    median(&mut session, &vec![x.clone(), weight.clone()], &(way, matrix.clone(), transposed))
                };
                let (forward, backward) = (time(&forward, true)?, time(&backward, false)?);
                line += &format!(" {forward:.2}, {backward:.2} |");
            }
            for way in [Way::DecodesByMlx, Way::Decodes] {
                let host = (way, matrix.clone(), true);
                line += &format!(" {:.2} |", median(&mut session, &vec![forward.clone(), weight.clone()], &host)?);
            }
            println!("{line}");
        }
    }
    Ok(())
}

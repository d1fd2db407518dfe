//! The sizes of a kernel's arrays in threadgroup memory.

use cotangent_metal::tokens::scan::{Element, Scan, Shared};

use super::expression::{self, Names};
use crate::model::expression::Polynomial;
use crate::model::kernel::{Kernel, Size};

/// The bytes of an array, where its lengths are literal or named by the declaration; a dtype stands for the bytes of one
/// element.
pub fn bytes_of(sizes: &[Size], array: &Shared) -> Option<Polynomial> {
    let element = match array.element.as_ref()? {
        Element::Bytes(bytes) => Polynomial::constant(*bytes),
        Element::Type(name) => Polynomial::symbol(name),
    };
    let names = Names { constants: Vec::new(), sizes: sizes.to_vec() };
    array.lengths.iter().try_fold(element, |bytes, length| {
        let length: syn::Expr = syn::parse_str(length).ok()?;
        bytes.multiply(&expression::read(&names, &length).ok()?)
    })
}

/// The bytes of all arrays of a source that are there in any case and whose sizes only constants and dtypes of the kernel
/// decide; a dtype stands for the bytes of one element.
pub fn least_bytes(kernel: &Kernel, scan: &Scan) -> Polynomial {
    let is_known = |name: &String| {
        kernel.constants.iter().any(|constant| constant.name == name)
            || kernel.dtypes.iter().any(|parameter| parameter.name == name)
    };
    let arrays =
        scan.threadgroup.iter().filter(|array| array.is_outermost).filter_map(|array| bytes_of(&kernel.sizes, array));
    let known = arrays.filter(|bytes| bytes.symbols().iter().all(is_known));
    known.fold(Polynomial::constant(0), |sum, bytes| sum.add(&bytes).unwrap_or(sum))
}

#[cfg(test)]
mod tests {
    use cotangent_metal::tokens::lexer::lex;

    use super::*;

    #[test]
    fn bytes_are_those_of_all_elements() {
        for (text, expected) in [
            ("threadgroup float a[8][4];", Some("128")),
            ("constexpr int LANES = 32, ROWS = LANES / 4; threadgroup half a[ROWS * 2u][LANES];", Some("1024")),
            ("#define TILE 16\n#define AREA (TILE * TILE)\nthreadgroup float b[AREA];", Some("1024")),
            ("const uint n = 4; { const uint n = 8; threadgroup float a[n]; }", None),
            ("threadgroup float a[D];", Some("4 * D")),
            ("threadgroup T b[4];", Some("4 * T")),
        ] {
            let scan = Scan::new(&lex(text).0, Vec::new());
            let bytes = bytes_of(&[], &scan.threadgroup[0]).map(|bytes| bytes.to_string());
            assert_eq!(bytes.as_deref(), expected, "{text}");
        }
    }
}

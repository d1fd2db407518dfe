//! The elements of LLVM's types, which the emulator needs to watch memory.

use std::collections::BTreeMap;

use cotangent_emulator::Dtype;

/// The named types of a module.
#[derive(Default)]
pub(super) struct NamedTypes {
    named: BTreeMap<String, String>,
}

impl NamedTypes {
    /// Takes note of `%struct.S = type { .. }`.
    pub fn note(&mut self, line: &str) {
        if let Some((name, ty)) = line.split_once(" = type ") {
            self.named.insert(name.to_owned(), ty.to_owned());
        }
    }

    /// Bytes of the smallest piece that is watched, and the number of its type in `Dtype::ALL`; 255 if it has none.
    pub fn element(&self, ty: &str) -> (u64, u32) {
        let mut ty = ty.trim();
        while let Some(rest) = ty.strip_prefix(['[', '<']) {
            ty = rest.split_once(" x ").map_or("i8", |(_, element)| element).trim_end_matches([']', '>']);
        }
        if let Some(struct_type) = self.named.get(ty) {
            return (if struct_type.contains("i64") { 8 } else { 4 }, 255);
        }
        let dtype = match ty {
            "float" => Dtype::F32,
            "half" => Dtype::F16,
            "bfloat" => Dtype::BF16,
            "i1" | "i8" => Dtype::U8,
            "i16" => Dtype::U16,
            "i32" => Dtype::U32,
            "i64" => Dtype::U64,
            _ => return (4, 255),
        };
        let number = Dtype::ALL.iter().position(|known| *known == dtype);
        (dtype.size() as u64, number.map_or(255, |n| n as u32))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_those_of_the_innermost_type() {
        let mut layout = NamedTypes::default();
        layout.note("%struct.Pair = type { i32, float }");
        for (ty, expected) in [
            ("[32 x float]", (4, 11)),
            ("[4 x [8 x <2 x half>]]", (2, 9)),
            ("i8", (1, 5)),
            ("[256 x %struct.Pair]", (4, 255)),
        ] {
            assert_eq!(layout.element(ty), expected, "{ty}");
        }
    }
}

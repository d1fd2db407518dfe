//! Checks that the lowering puts in front of accesses: the memory must be aligned for what is read there, and an index that
//! is computed in 32 bits must not wrap around.

use std::collections::{BTreeMap, BTreeSet};

use super::syntax::{leading_type, parts};

/// Definitions of the checks. Both take the number of the call, so that no two calls become one.
pub(super) const DEFINITIONS: &str = "\
declare void @air_misaligned(i64, i64, i32)
declare void @air_wrapped_index(i64, i64, i32)
define internal void @air.check.aligned(ptr %p, i64 %n, i32 %site) alwaysinline {
  %at = ptrtoint ptr %p to i64
  %mask = sub i64 %n, 1
  %rest = and i64 %at, %mask
  %off = icmp ne i64 %rest, 0
  br i1 %off, label %found, label %done
found:
  call void @air_misaligned(i64 %at, i64 %n, i32 %site)
  br label %done
done:
  ret void
}
define internal void @air.check.index(i64 %unsigned, i64 %signed, i64 %index, i32 %site) alwaysinline {
  %a = icmp ne i64 %unsigned, %index
  %b = icmp ne i64 %signed, %index
  %wrapped = and i1 %a, %b
  br i1 %wrapped, label %found, label %done
found:
  call void @air_wrapped_index(i64 %unsigned, i64 %index, i32 %site)
  br label %done
done:
  ret void
}
";

/// Instructions that lead from one number to another without leaving the arithmetic of indices.
const OPERATIONS: [&str; 5] = ["add", "sub", "mul", "shl", "or"];
/// The most operations that are repeated for one index.
const MOST: usize = 16;

/// What a value is made of.
#[derive(Clone, Debug)]
enum Value {
    /// An operation on two numbers of this type.
    Operation { name: &'static str, ty: String, operands: [String; 2] },
    /// An `i32` as an `i64`.
    Wide { of: String },
    /// An address: another one, and indices.
    Place { base: String, indices: Vec<String> },
}

/// The checks of one function.
pub(super) struct Checks {
    values: BTreeMap<String, Value>,
    /// Checks that this block has already.
    made: BTreeSet<String>,
    next: usize,
}

impl Checks {
    pub fn new(instructions: &[String]) -> Self {
        let values = instructions.iter().filter_map(|line| value(line)).collect();
        Checks { values, made: BTreeSet::new(), next: 0 }
    }

    /// What stands in front of the instruction. `sites` counts the checks of a module.
    pub fn before(&mut self, line: &str, sites: &mut u32) -> Vec<String> {
        if !line.starts_with("  ") {
            self.made.clear();
            return Vec::new();
        }
        let Some((place, alignment)) = access(line) else { return Vec::new() };
        let mut lines = Vec::new();
        if alignment > 1 && self.made.insert(format!("{place} {alignment}")) {
            lines.push(format!("  call void @air.check.aligned(ptr {place}, i64 {alignment}, i32 {sites})"));
            *sites += 1;
        }
        for wide in self.indices(place) {
            let Some(Value::Wide { of }) = self.values.get(&wide).cloned() else { continue };
            if !matches!(self.values.get(&of), Some(Value::Operation { .. })) || !self.made.insert(wide.clone()) {
                continue;
            }
            let mut added = Vec::new();
            let both = ["zext", "sext"].map(|extend| self.again(&of, extend, &mut added, &mut 0));
            if let [Some(unsigned), Some(signed)] = both {
                lines.append(&mut added);
                lines.push(format!(
                    "  call void @air.check.index(i64 {unsigned}, i64 {signed}, i64 {wide}, i32 {sites})"
                ));
                *sites += 1;
            }
        }
        lines
    }

    /// Values of 64 bits that come from 32 and decide about an address.
    fn indices(&self, place: &str) -> Vec<String> {
        let mut waiting = vec![place.to_owned()];
        let mut seen = BTreeSet::new();
        let mut found = Vec::new();
        while let Some(name) = waiting.pop().filter(|_| seen.len() < 4 * MOST) {
            if !seen.insert(name.clone()) {
                continue;
            }
            match self.values.get(&name) {
                Some(Value::Place { base, indices }) => {
                    waiting.push(base.clone());
                    waiting.extend(indices.iter().cloned());
                }
                Some(Value::Operation { ty, operands, .. }) if ty == "i64" => waiting.extend(operands.iter().cloned()),
                Some(Value::Wide { .. }) => found.push(name),
                _ => {}
            }
        }
        found
    }

    /// The value computed again in 64 bits: its operands are extended before they are added or multiplied. `None` if that takes
    /// too many operations.
    fn again(&mut self, name: &str, extend: &str, lines: &mut Vec<String>, count: &mut usize) -> Option<String> {
        *count += 1;
        if *count > MOST {
            return None;
        }
        // LLVM writes a constant of 32 bits with its sign.
        if name.parse::<i64>().is_ok() {
            return Some(name.to_owned());
        }
        let instruction = match self.values.get(name).cloned() {
            Some(Value::Operation { name, ty, operands: [a, b] }) if ty == "i32" => {
                let a = self.again(&a, extend, lines, count)?;
                let b = self.again(&b, extend, lines, count)?;
                format!("{name} i64 {a}, {b}")
            }
            _ if name.starts_with('%') => format!("{extend} i32 {name} to i64"),
            _ => return None,
        };
        let fresh = format!("%air.wide.{}", self.next);
        self.next += 1;
        lines.push(format!("  {fresh} = {instruction}"));
        Some(fresh)
    }
}

/// `%5 = add nsw i32 %3, %4`
fn value(line: &str) -> Option<(String, Value)> {
    let (name, rest) = line.strip_prefix("  ")?.split_once(" = ")?;
    let (word, rest) = rest.split_once(' ')?;
    let flags = ["nuw ", "nsw ", "nneg ", "disjoint ", "inbounds ", "nusw "];
    let mut rest = rest;
    while let Some(shorter) = flags.iter().find_map(|flag| rest.strip_prefix(flag)) {
        rest = shorter;
    }
    let value = match word {
        "zext" | "sext" => {
            let of = rest.strip_prefix("i32 ")?.strip_suffix(" to i64")?;
            Value::Wide { of: of.to_owned() }
        }
        "getelementptr" => {
            let operands = parts(rest);
            let last = |operand: &&str| operand.rsplit(' ').next().unwrap_or_default().to_owned();
            let base = operands.get(1).filter(|base| base.starts_with("ptr "))?;
            Value::Place { base: last(base), indices: operands.get(2..)?.iter().map(last).collect() }
        }
        _ => {
            let name = OPERATIONS.iter().find(|name| **name == word)?;
            // `or` is a sum if no bit is set in both.
            if *name == "or" && !line.contains(" or disjoint ") {
                return None;
            }
            let ty = leading_type(rest);
            let operands = parts(&rest[ty.len()..]);
            let [a, b] = operands[..] else { return None };
            let name = if *name == "or" { "add" } else { name };
            Value::Operation { name, ty: ty.to_owned(), operands: [a.to_owned(), b.to_owned()] }
        }
    };
    Some((name.to_owned(), value))
}

/// The address and the alignment of a load or a store.
fn access(line: &str) -> Option<(&str, u64)> {
    let instruction = line.split_once(" = ").map_or(line, |(_, instruction)| instruction).trim_start();
    let rest = instruction.strip_prefix("load ").or_else(|| instruction.strip_prefix("store "))?;
    let operands = parts(rest);
    let place = operands.get(1)?.strip_prefix("ptr ")?;
    let alignment = operands.iter().find_map(|operand| operand.strip_prefix("align ")?.parse().ok()).unwrap_or(1);
    place.starts_with('%').then_some((place, alignment))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(lines: &[&str]) -> Vec<String> {
        let lines: Vec<String> = lines.iter().map(|line| format!("  {line}")).collect();
        let mut checks = Checks::new(&lines);
        lines.iter().flat_map(|line| checks.before(line, &mut 0)).map(|line| line.trim().to_owned()).collect()
    }

    #[test]
    fn an_index_is_computed_once_more_in_64_bits() {
        let found = checks(&[
            "%4 = mul i32 %1, %2",
            "%5 = add nsw i32 %4, -3",
            "%6 = zext i32 %5 to i64",
            "%7 = getelementptr inbounds float, ptr %0, i64 %6",
            "%8 = load float, ptr %7",
        ]);
        let wanted = [
            "%air.wide.0 = zext i32 %1 to i64",
            "%air.wide.1 = zext i32 %2 to i64",
            "%air.wide.2 = mul i64 %air.wide.0, %air.wide.1",
            "%air.wide.3 = add i64 %air.wide.2, -3",
            "%air.wide.4 = sext i32 %1 to i64",
            "%air.wide.5 = sext i32 %2 to i64",
            "%air.wide.6 = mul i64 %air.wide.4, %air.wide.5",
            "%air.wide.7 = add i64 %air.wide.6, -3",
            "call void @air.check.index(i64 %air.wide.3, i64 %air.wide.7, i64 %6, i32 0)",
        ];
        assert_eq!(found, wanted);
    }

    #[test]
    fn what_cannot_wrap_around_is_left_alone() {
        for lines in [
            &["%6 = zext i32 %5 to i64", "%7 = getelementptr float, ptr %0, i64 %6", "%8 = load float, ptr %7"][..],
            &[
                "%4 = and i32 %1, %2",
                "%6 = zext i32 %4 to i64",
                "%7 = getelementptr float, ptr %0, i64 %6",
                "%8 = load float, ptr %7",
            ],
            &["%4 = add i32 %1, %2", "%6 = zext i32 %4 to i64", "store i64 %6, ptr @a"],
        ] {
            assert!(checks(lines).is_empty(), "{lines:?}");
        }
    }

    #[test]
    fn an_access_says_how_its_memory_is_aligned() {
        for (line, found) in [
            ("  %8 = load <4 x float>, ptr %7, align 16", Some(("%7", 16))),
            ("  store float 1.0, ptr %7", Some(("%7", 1))),
            ("  store <2 x half> <half 0xH3C00, half 0xH0000>, ptr %7, align 4", Some(("%7", 4))),
            ("  %8 = load i32, ptr @_ZL5table, align 4", None),
            ("  %8 = call float @f(ptr %7)", None),
        ] {
            assert_eq!(access(line), found, "{line}");
        }
    }
}

//! A kernel's arguments, by the metadata that Apple's compiler leaves for the driver.

use super::Refusal;
use super::syntax::{closing, global, leading_type, parts};

/// An argument of a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// The name in the source.
    pub name: String,
    /// The role of the argument.
    pub role: ArgumentRole,
    /// The type in LLVM, without the address space.
    pub(super) ty: String,
}

/// The roles of an argument: what is passed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ArgumentRole {
    /// Memory that is bound by number.
    Buffer {
        /// `[[buffer(index)]]`
        index: u32,
        /// The element's type in Metal.
        ty: String,
        /// Whether the function may write it.
        writable: bool,
    },
    /// The value of an attribute, such as `thread_position_in_grid`.
    Attribute(String),
}

/// The content of metadata node `!n`.
pub(super) fn node<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let start = format!("{} = !{{", name.trim());
    text.lines().find_map(|line| line.strip_prefix(start.as_str()))?.strip_suffix('}')
}

/// The arguments of `kernel`, in order.
pub(super) fn arguments(text: &str, kernel: &str) -> Result<Vec<Argument>, Refusal> {
    let form = |what: &str| Refusal::Form(what.to_owned());
    let named =
        |line: &&str| line.starts_with("define ") && global(line, 0, |_| true).is_some_and(|(_, n)| n == kernel);
    let define = text.lines().find(named).ok_or_else(|| form("the kernel is not defined"))?;
    let open = global(define, 0, |_| true).map(|(at, name)| at + 1 + name.len()).unwrap_or_default();
    let end = closing(define, open).ok_or_else(|| form("the kernel's parameters"))?;
    let types: Vec<&str> = parts(&define[open + 1..end - 1]).into_iter().map(leading_type).collect();

    let kernels = text.lines().find_map(|line| line.strip_prefix("!air.kernel = !{"));
    let node_name = kernels.and_then(|list| list.split([',', '}']).next()).ok_or_else(|| form("no `!air.kernel`"))?;
    let kernel_node = node(text, node_name).ok_or_else(|| form("the node of `!air.kernel`"))?;
    let list = parts(kernel_node).get(2).and_then(|list| node(text, list)).unwrap_or_default();
    let mut found: Vec<Option<Argument>> = vec![None; types.len()];
    for described in parts(list) {
        let node = node(text, described).ok_or_else(|| form("an argument's node"))?;
        let words = parts(node);
        let number = words.first().and_then(|w| w.strip_prefix("i32 ")).and_then(|n| n.parse::<usize>().ok());
        let place = number.and_then(|n| found.get_mut(n)).ok_or_else(|| form(node))?;
        let ty = types[number.unwrap_or_default()].to_owned();
        let plain = |word: &str| word.trim_start_matches("!\"").trim_end_matches('"').to_owned();
        let after = |key: &str, n: usize| {
            let at = words.iter().position(|word| plain(word) == key)?;
            words.get(at + n).copied()
        };
        let name = after("air.arg_name", 1).map(plain).unwrap_or_default();
        let kind = words.get(1).map(|word| plain(word)).unwrap_or_default();
        // For a buffer that depends on a function constant, that constant is named first.
        let role = if kind == "air.buffer" || kind == "air.function_constant" {
            let index =
                after("air.location_index", 1).and_then(|w| w.strip_prefix("i32 ")).and_then(|n| n.parse().ok());
            let index = index.ok_or_else(|| form(node))?;
            let writable = words.iter().any(|word| plain(word) == "air.read_write" || plain(word) == "air.write");
            ArgumentRole::Buffer { index, ty: after("air.arg_type_name", 1).map(plain).unwrap_or_default(), writable }
        } else {
            ArgumentRole::Attribute(kind.strip_prefix("air.").ok_or_else(|| form(node))?.to_owned())
        };
        *place = Some(Argument { name, role, ty });
    }
    found.into_iter().collect::<Option<Vec<_>>>().ok_or_else(|| form("an argument without metadata"))
}

//! The bodies of functions: what each line becomes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::checks::Checks;
use super::syntax::{closing, global, without_spaces};
use super::{Refusal, Threadgroup, one_space, own_name};

/// Nodes of metadata below this are those of the unit.
const FIRST_NODE: u32 = 10;

/// The node of a line's place.
pub(super) fn node_of(line: u32) -> u32 {
    FIRST_NODE + line
}

/// Functions that have been lowered so far.
pub(super) struct Lowering<'m> {
    threadgroup: &'m [Threadgroup],
    /// Functions of AIR whose calls pass their number.
    meeting: &'m BTreeSet<&'m str>,
    kernel: &'m str,
    pub text: String,
    line: u32,
    pub sites: Vec<(String, u32)>,
    pub contractions: usize,
    /// How many checks there are.
    checks: u32,
    /// The line at which the function of each line with a place begins.
    pub lines: BTreeMap<u32, u32>,
}

impl<'m> Lowering<'m> {
    /// Begins with `types`, one a line.
    pub fn new(
        threadgroup: &'m [Threadgroup],
        meeting: &'m BTreeSet<&'m str>,
        kernel: &'m str,
        types: &[String],
    ) -> Self {
        let (text, sites, lines) = (String::new(), Vec::new(), BTreeMap::new());
        let mut lowering =
            Lowering { threadgroup, meeting, kernel, text, line: 1, sites, contractions: 0, checks: 0, lines };
        types.iter().for_each(|line| lowering.push(line));
        lowering
    }

    fn push(&mut self, line: &str) {
        self.text += line;
        self.text.push('\n');
        self.line += 1;
    }

    /// One function: its `define` line, its instructions, its brace.
    pub fn function(&mut self, lines: &[String]) -> Result<(), Refusal> {
        let form = |line: &str| Refusal::Form(line.to_owned());
        let (define, body) = lines.split_first().ok_or_else(|| form("a function without lines"))?;
        let (at, name) = global(define, 0, |_| true).ok_or_else(|| form(define))?;
        let end = closing(define, at + 1 + name.len()).ok_or_else(|| form(define))?;
        // Constructors run when the image is loaded, when there is no thread that could be watched.
        let watched = !name.starts_with("_GLOBAL__");
        let mut head = without_spaces(&define[..end]);
        for linkage in ["weak_odr ", "linkonce_odr ", "hidden ", "dso_local ", "private ", "internal "] {
            head = head.replacen(linkage, "", 1);
        }
        let attributes = define[end..].split_whitespace().filter(|word| word.starts_with('#'));
        let attributes = attributes.collect::<Vec<_>>().join(" ");
        let begin = self.line;
        let head = head.replacen("define ", "define internal ", 1);
        if watched {
            self.lines.insert(begin, begin);
            let stack = "\"warn-stack-size\"=\"131072\"";
            self.push(&format!("{head} {attributes} sanitize_thread {stack} !dbg !{} {{", node_of(begin)));
        } else {
            self.push(&format!("{head} {attributes} {{"));
        }
        let place = |lowering: &mut Self| {
            if !watched {
                return String::new();
            }
            lowering.lines.insert(lowering.line, begin);
            format!(", !dbg !{}", node_of(lowering.line))
        };
        let mut instructions = Vec::new();
        let mut hoisted = Vec::new();
        for line in joined(body) {
            let cut = line.find(", !").unwrap_or(line.len());
            let line = without_spaces(line[..cut].split(" ; ").next().unwrap_or_default());
            let line = one_space(&line).replace("addrspacecast ", "bitcast ");
            instructions.push(self.without_arrays(line, &mut hoisted));
        }
        for line in self.arrays(&instructions, &hoisted) {
            let place = place(self);
            self.push(&format!("  {line}{place}"));
        }
        let mut checks = Checks::new(&instructions);
        for line in instructions {
            for check in checks.before(&line, &mut self.checks) {
                let place = place(self);
                self.push(&format!("{check}{place}"));
            }
            if !line.starts_with("  ") {
                self.push(&line);
                continue;
            }
            let line = self.call(&line)?;
            let place = place(self);
            self.push(&format!("{line}{place}"));
        }
        if name == self.kernel {
            self.push("");
        }
        Ok(())
    }

    /// Returns what stands in front of a function's first instruction: the addresses of the arrays that it uses.
    fn arrays(&self, instructions: &[String], hoisted: &[String]) -> Vec<String> {
        let mentioned = |name: &str| {
            let whole = |line: &String| {
                let mut behind = line.match_indices(name).map(|(at, _)| line[at + name.len()..].chars().next());
                behind.any(|next| !next.is_some_and(|c| c.is_ascii_digit()))
            };
            instructions.iter().chain(hoisted).any(whole)
        };
        let mut lines = Vec::new();
        for (n, array) in self.threadgroup.iter().enumerate().filter(|(n, _)| mentioned(&format!("%air.array.{n}"))) {
            let bytes = format!("ptrtoint (ptr getelementptr ({}, ptr null, i64 1) to i64)", array.ty);
            lines.push(format!(
                "%air.array.{n} = call ptr @air_threadgroup(i32 {n}, i64 {bytes}, i64 {}, i32 {}, ptr @air.name.{n})",
                array.element_bytes, array.dtype
            ));
        }
        lines.extend_from_slice(hoisted);
        lines
    }

    /// The line with addresses of threadgroup memory as values. Constant expressions of them become instructions.
    fn without_arrays(&self, mut line: String, hoisted: &mut Vec<String>) -> String {
        let number = |name: &str| self.threadgroup.iter().position(|array| array.symbol == name);
        while let Some((at, name)) = global(&line, 0, |name| number(name).is_some()) {
            let (n, end) = (number(name).unwrap_or_default(), at + 1 + name.len());
            line.replace_range(at..end, &format!("%air.array.{n}"));
            let mut at = at;
            while let Some((start, open)) = enclosing_expression(&line, at) {
                let Some(end) = closing(&line, open) else { break };
                let expression = format!("{} {}", line[start..open].trim_end(), &line[open + 1..end - 1]);
                let known = hoisted.iter().position(|h| h.split_once(" = ").is_some_and(|(_, e)| e == expression));
                let number = known.unwrap_or_else(|| {
                    hoisted.push(format!("%air.place.{} = {expression}", hoisted.len()));
                    hoisted.len() - 1
                });
                line.replace_range(start..end, &format!("%air.place.{number}"));
                at = start;
            }
        }
        line
    }

    /// The line, with the call's number if threads must reach it together.
    fn call(&mut self, line: &str) -> Result<String, Refusal> {
        let ours = |name: &str| name.starts_with("air.") || name.starts_with("llvm.fmuladd.");
        let called = line.contains("call ").then(|| global(line, 0, ours)).flatten();
        let Some((at, name)) = called.filter(|(_, name)| !name.starts_with("air.name.")) else {
            return Ok(line.to_owned());
        };
        let open = at + 1 + name.len();
        let end = closing(line, open).ok_or_else(|| Refusal::Form(line.to_owned()))?;
        let own = own_name(name);
        self.contractions += usize::from(own.starts_with("air.fmuladd."));
        let mut out = format!("{}@{own}{}", &line[..at], &line[open..end - 1]);
        if self.meeting.contains(own.as_str()) {
            let comma = if out.ends_with('(') { "" } else { ", " };
            let _ = write!(out, "{comma}i32 {}", self.sites.len());
            self.sites.push((name.to_owned(), self.line));
        }
        out.push(')');
        Ok(out)
    }
}

/// Lines of one instruction each: that of a `switch` spans several.
fn joined(lines: &[String]) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut open = false;
    for line in lines.iter().filter(|line| !line.is_empty() && !line.starts_with(';')) {
        match out.last_mut().filter(|_| open) {
            Some(last) => *last += line,
            None => out.push(line.clone()),
        }
        open = out.last().is_some_and(|last| last.matches('[').count() > last.matches(']').count());
    }
    out
}

/// The innermost constant expression around `at`: where it starts, and its parenthesis.
fn enclosing_expression(line: &str, at: usize) -> Option<(usize, usize)> {
    const FLAGS: [&str; 7] = ["inbounds", "nuw", "nsw", "nusw", "exact", "inrange", "to"];
    const OPERATIONS: [&str; 8] =
        ["getelementptr", "bitcast", "ptrtoint", "inttoptr", "add", "sub", "addrspacecast", "mul"];
    let mut depth = 0;
    let open = line[..at].bytes().enumerate().rev().find_map(|(i, byte)| {
        depth += i32::from(byte == b')') - i32::from(byte == b'(');
        (depth < 0).then_some(i)
    })?;
    let mut start = open;
    loop {
        let before = line[..start].trim_end();
        let word_start = before.rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(0, |i| i + 1);
        let word = &before[word_start..];
        if OPERATIONS.contains(&word) {
            return Some((word_start, open));
        }
        if !FLAGS.contains(&word) {
            return None;
        }
        start = word_start;
    }
}

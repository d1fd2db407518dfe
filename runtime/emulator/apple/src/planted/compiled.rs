//! The defects that the emulator looks for in compiled code, in LLVM's text form as Apple's compiler writes it.
//!
//! `«bad|good»` is as in the list of texts, `;` ends a line, and words in capitals stand for the lines of [`line`]. `%i` is the
//! thread's place in the grid and `%t` its place in the threadgroup (`%2` and `%3` in 32 bits), `%v` is `x[i]`, `%yi` points to
//! `y[i]` and `%s` to the thread's place in threadgroup memory. Indices that wrap around lead back into the buffer.

use cotangent_emulator::{Bound, BoundLaunch, Dtype, Finding, Memory, Schedule};

use super::Kind::{self, *};
use super::{Planted, chosen, judged};
use crate::lower::Options;
use crate::{Failure, Workshop};

/// Kind, defect in words, instructions.
const DEFECTS: [(Kind, &str, &str); 32] = [
    (
        Race,
        "one element for all",
        "%r = getelementptr float, ptr addrspace(1) %1, i64 «0|%i»; store float %v, ptr addrspace(1) %r",
    ),
    (
        Race,
        "two threads for one element",
        "%h = lshr i64 %i, «1|0»; %r = getelementptr float, ptr addrspace(1) %1, i64 %h; store float %v, ptr addrspace(1) %r",
    ),
    (
        Race,
        "a neighbour's output",
        "store float %v, ptr addrspace(1) %yi; %n = xor i64 %i, «1|0»; %r = getelementptr float, ptr addrspace(1) %1, i64 %n; \
         %w = load float, ptr addrspace(1) %r; %z = fadd float %w, 1.0; store float %z, ptr addrspace(1) %yi",
    ),
    (
        Race,
        "one place for a simdgroup",
        "%h = lshr i64 %t, «5|0»; GEP(%q, %h); store float %v, ptr addrspace(3) %q; %w = load float, ptr addrspace(3) %q; OUT(%w)",
    ),
    (Barrier, "between a write and a read", "SET; «|BARRIER»; OTHER; OUT(%w)"),
    (Barrier, "for the other memory", "SET; call void @air.wg.barrier(i32 «1|2», i32 1); OTHER; OUT(%w)"),
    (Barrier, "for no memory", "SET; call void @air.wg.barrier(i32 «0|2», i32 1); OTHER; OUT(%w)"),
    (Barrier, "before the next write", "SET; BARRIER; OTHER; «|BARRIER»; store float %w, ptr addrspace(3) %s; OUT(%w)"),
    (
        Bounds,
        "a read far behind the end",
        "%n = add i64 %i, «4096|0»; %r = getelementptr float, ptr addrspace(1) %0, i64 %n; %w = load float, ptr addrspace(1) %r; OUT(%w)",
    ),
    (
        Bounds,
        "a read in front",
        "%r = getelementptr float, ptr addrspace(1) %0, i64 «-1|%i»; %w = load float, ptr addrspace(1) %r; OUT(%w)",
    ),
    (
        Bounds,
        "a write behind the last",
        "%n = add i64 %i, «1|0»; %r = getelementptr float, ptr addrspace(1) %1, i64 %n; store float %v, ptr addrspace(1) %r",
    ),
    (
        Bounds,
        "threadgroup memory",
        "SET; BARRIER; %n = add i64 %t, «64|0»; GEP(%q, %n); %w = load float, ptr addrspace(3) %q; OUT(%w)",
    ),
    (
        Overflow,
        "a product",
        "%a = mul i32 %2, 65536; %b = mul i32 %a, «65536|0»; %c = add i32 %b, %2; %z = zext i32 %c to i64; \
         %r = getelementptr float, ptr addrspace(1) %0, i64 %z; %w = load float, ptr addrspace(1) %r; OUT(%w)",
    ),
    (
        Overflow,
        "a signed product",
        "%a = mul nsw i32 %2, 65536; %b = mul nsw i32 %a, «65536|0»; %c = add nsw i32 %b, %2; %z = sext i32 %c to i64; \
         %n = add i64 %z, 0; %r = getelementptr float, ptr addrspace(1) %0, i64 %n; %w = load float, ptr addrspace(1) %r; OUT(%w)",
    ),
    (
        Overflow,
        "a sum, in a write",
        "%a = add i32 %2, «-2147483648|0»; %b = add i32 %a, «-2147483648|0»; %z = zext i32 %b to i64; \
         %r = getelementptr float, ptr addrspace(1) %1, i64 %z; store float %v, ptr addrspace(1) %r",
    ),
    (
        Overflow,
        "a shift, in threadgroup memory",
        "SET; BARRIER; %a = shl i32 %3, 16; %b = shl i32 %a, 16; %c = add i32 «%b|0», %3; %z = zext i32 %c to i64; GEP(%q, %z); \
         %w = load float, ptr addrspace(3) %q; OUT(%w)",
    ),
    (
        Misaligned,
        "four floats",
        "%q = getelementptr float, ptr addrspace(1) %0, i64 «1|4»; %f = load <4 x float>, ptr addrspace(1) %q, align 16; \
         %w = extractelement <4 x float> %f, i64 0; OUT(%w)",
    ),
    (
        Misaligned,
        "two floats that are written",
        "%c = icmp eq i32 %2, 0; IF; %q = getelementptr float, ptr addrspace(1) %1, i64 «1|2»; \
         store <2 x float> zeroinitializer, ptr addrspace(1) %q, align 8; END",
    ),
    (
        Misaligned,
        "an integer of 64 bits",
        "%q = getelementptr float, ptr addrspace(1) %0, i64 «3|2»; %l = load i64, ptr addrspace(1) %q, align 8; \
         %b = trunc i64 %l to i32; %w = bitcast i32 %b to float; OUT(%w)",
    ),
    (
        Misaligned,
        "threadgroup memory",
        "SET; BARRIER; GEP(%q, «2|4»); %f = load <4 x float>, ptr addrspace(3) %q, align 16; \
         %w = extractelement <4 x float> %f, i64 0; OUT(%w)",
    ),
    (Unset, "threadgroup memory", "«|SET»; %w = load float, ptr addrspace(3) %s; OUT(%w)"),
    (
        Unset,
        "the first part of threadgroup memory",
        "%c = icmp ult i32 %3, «16|64»; IF; SET; END; %w = load float, ptr addrspace(3) %s; OUT(%w)",
    ),
    (
        Unset,
        "every other place",
        "%b = and i32 %3, «1|0»; %c = icmp eq i32 %b, 0; IF; SET; END; %w = load float, ptr addrspace(3) %s; OUT(%w)",
    ),
    (
        Unset,
        "an output that is added to",
        "%w = «load float, ptr addrspace(1) %yi|fadd float %v, 2.0»; %z = fadd float %w, %v; OUT(%z)",
    ),
    (Unwritten, "the first element", "%c = icmp «ugt|uge» i32 %2, 0; IF; OUT(%v); END"),
    (Unwritten, "every other element", "%b = and i32 %2, «1|0»; %c = icmp eq i32 %b, 0; IF; OUT(%v); END"),
    (Unwritten, "half of each element", "store «i16|i32» 0, ptr addrspace(1) %yi"),
    (Unwritten, "the last of each threadgroup", "%c = icmp ult i32 %3, «31|64»; IF; OUT(%v); END"),
    (
        Collective,
        "a sum in a branch",
        "OUT(%v); %c = icmp ult i32 %3, «16|64»; IF; %q = call float @air.simd_sum.f32(float %v); OUT(%q); END",
    ),
    (Collective, "a barrier in a branch", "OUT(%v); %c = icmp ult i32 %3, «16|64»; IF; BARRIER; END"),
    (
        Collective,
        "a simdgroup's barrier in a branch",
        "OUT(%v); %c = icmp ult i32 %3, «9|64»; IF; call void @air.simdgroup.barrier(i32 2, i32 4); END",
    ),
    (Collective, "a return in front of a barrier", "OUT(%v); %c = icmp ne i32 %3, «3|999»; IF; BARRIER; END"),
];

/// Threads in the grid and in a threadgroup.
const LAUNCHES: [(u32, u32); 3] = [(64, 64), (192, 64), (128, 32)];

const NAMES: &str = "!air.kernel = !{!0}\n!0 = !{ptr @k, !1, !2}\n!1 = !{}\n!2 = !{!3, !4, !5, !6}\n\
    !3 = !{i32 0, !\"air.buffer\", !\"air.location_index\", i32 0, i32 1, !\"air.read\", !\"air.arg_type_name\", !\"float\", !\"air.arg_name\", !\"x\"}\n\
    !4 = !{i32 1, !\"air.buffer\", !\"air.location_index\", i32 1, i32 1, !\"air.read_write\", !\"air.arg_type_name\", !\"float\", !\"air.arg_name\", !\"y\"}\n\
    !5 = !{i32 2, !\"air.thread_position_in_grid\", !\"air.arg_type_name\", !\"uint\", !\"air.arg_name\", !\"i\"}\n\
    !6 = !{i32 3, !\"air.thread_index_in_threadgroup\", !\"air.arg_type_name\", !\"uint\", !\"air.arg_name\", !\"t\"}\n";

/// The line that a word of a defect stands for.
fn line(word: &str) -> String {
    let place = |to: &str, index: &str| {
        format!("{to} = getelementptr [64 x float], ptr addrspace(3) @_ZZ1kvE1s, i64 0, i64 {index}")
    };
    let inside = |name: &str| word.strip_prefix(name).and_then(|rest| rest.strip_prefix('(')?.strip_suffix(')'));
    match word {
        "SET" => "store float %v, ptr addrspace(3) %s".into(),
        "BARRIER" => "call void @air.wg.barrier(i32 2, i32 1)".into(),
        "OTHER" => format!("%o = xor i64 %t, 31\n{}\n%w = load float, ptr addrspace(3) %p", place("%p", "%o")),
        "IF" => "br i1 %c, label %some, label %all\nsome:".into(),
        "END" => "br label %all\nall:".into(),
        _ => match (inside("OUT"), inside("GEP").and_then(|both| both.split_once(", "))) {
            (Some(value), _) => format!("store float {value}, ptr addrspace(1) %yi"),
            (_, Some((to, index))) => place(to, index),
            _ => word.into(),
        },
    }
}

/// The module of a kernel `k(x, y, i, t)` with this defect, or its repair.
fn module(text: &str, repaired: bool) -> String {
    let before = "%i = zext i32 %2 to i64; %t = zext i32 %3 to i64; %xi = getelementptr float, ptr addrspace(1) %0, i64 %i; \
                  %v = load float, ptr addrspace(1) %xi; %yi = getelementptr float, ptr addrspace(1) %1, i64 %i; GEP(%s, %t)";
    let words = format!("{before}; {}; ret void", chosen(text, repaired));
    let lines: Vec<String> = words.split("; ").map(line).collect();
    // LLVM indents instructions, but not labels.
    let indent = |line: &str| if line.ends_with(':') { format!("{line}\n") } else { format!("  {line}\n") };
    let body: String = lines.join("\n").lines().map(indent).collect();
    format!(
        "@_ZZ1kvE1s = internal addrspace(3) global [64 x float] undef, align 4\n\
         declare void @air.wg.barrier(i32, i32)\ndeclare void @air.simdgroup.barrier(i32, i32)\n\
         declare float @air.simd_sum.f32(float)\n\
         define void @k(ptr addrspace(1) noundef %0, ptr addrspace(1) noundef %1, i32 noundef %2, i32 noundef %3) #0 {{\n{body}}}\n\
         attributes #0 = {{ convergent nounwind }}\n{NAMES}"
    )
}

/// Plants all defects in compiled code, or only the first kernel of each.
///
/// # Errors
/// If LLVM refuses a kernel.
pub fn plant_compiled(workshop: &Workshop<'_>, all: bool) -> Result<Vec<Planted>, Failure> {
    let mut planted = Vec::new();
    for (kind, name, text) in DEFECTS {
        let kernel = |repaired| workshop.kernel("k", &module(text, repaired), &Options::default());
        let kernels = [kernel(false)?, kernel(true)?];
        for (threads, group) in LAUNCHES.into_iter().take(if all { LAUNCHES.len() } else { 1 }) {
            let count = threads as usize;
            let run = |schedule: Schedule, repaired: bool| -> Result<Vec<Finding>, cotangent_emulator::Error> {
                let mut y = Bound::written(1, "y", Dtype::F32, count);
                if !matches!(kind, Unset | Unwritten) {
                    y.memory = Memory::Update(vec![0; count * 4].into());
                }
                let buffers = vec![Bound::read(0, "x", Dtype::F32, (0..count).map(|n| n as f64)), y];
                let (grid, threadgroup) = ([threads, 1, 1], [group, 1, 1]);
                let launch = BoundLaunch { grid, threadgroup, buffers, schedule, ..BoundLaunch::default() };
                let kernel = &kernels[usize::from(repaired)];
                workshop.emulator().run_object(&kernel.object, &launch).map(|run| run.findings)
            };
            planted.push(judged(kind, format!("{}, compiled, {name} ({threads} threads)", kind.title()), run));
        }
    }
    Ok(planted)
}

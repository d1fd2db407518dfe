//! Small modules in LLVM's text form, written by hand as Apple's compiler writes them, lowered and run. They need LLVM 19;
//! where it is missing each test says so and passes.

use std::path::Path;
use std::sync::OnceLock;

use cotangent_apple::lower::{ArgumentRole, Options, Refusal, lower};
use cotangent_apple::{Llvm, Workshop};
use cotangent_emulator::{Bound, BoundLaunch, BoundRun, Dtype, Emulator, FindingKind, Schedule};

/// A module of one kernel `k(x, y, thread)`, `thread` being its position in the grid, with these globals and instructions.
fn module(globals: &str, body: &str) -> String {
    let declarations = "declare void @air.wg.barrier(i32, i32)\ndeclare float @air.simd_sum.f32(float)\n\
                        declare float @llvm.fmuladd.f32(float, float, float)\n";
    format!(
        "{globals}\n{declarations}define void @k(ptr addrspace(1) noundef %0, ptr addrspace(1) noundef %1, i32 noundef %2) #0 {{\n\
         {body}  ret void\n}}\nattributes #0 = {{ convergent nounwind }}\n\
         !air.kernel = !{{!0}}\n!0 = !{{ptr @k, !1, !2}}\n!1 = !{{}}\n!2 = !{{!3, !4, !5}}\n\
         !3 = !{{i32 0, !\"air.buffer\", !\"air.location_index\", i32 0, i32 1, !\"air.read\", !\"air.arg_type_name\", !\"float\", !\"air.arg_name\", !\"x\"}}\n\
         !4 = !{{i32 1, !\"air.buffer\", !\"air.location_index\", i32 1, i32 1, !\"air.read_write\", !\"air.arg_type_name\", !\"float\", !\"air.arg_name\", !\"y\"}}\n\
         !5 = !{{i32 2, !\"air.thread_position_in_grid\", !\"air.arg_type_name\", !\"uint\", !\"air.arg_name\", !\"i\"}}\n"
    )
}

/// One workshop for all tests, kept between runs; `None`, and a line that says so, without LLVM.
fn workshop() -> Option<&'static Workshop<'static>> {
    static WORKSHOP: OnceLock<Option<Workshop<'static>>> = OnceLock::new();
    static EMULATOR: OnceLock<Emulator> = OnceLock::new();
    let made = || {
        let llvm = Llvm::find()?;
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("apple");
        let emulator = EMULATOR.get_or_init(|| Emulator::with_cache(&folder).unwrap());
        Some(Workshop::new(llvm, emulator, &folder).unwrap())
    };
    let workshop = WORKSHOP.get_or_init(made).as_ref();
    if workshop.is_none() {
        println!("skipped: {}", Llvm::MISSING);
    }
    workshop
}

/// Runs the module over the numbers from 0 on; `None` without LLVM.
fn run(module: &str, options: &Options, threads: u32, schedule: Schedule) -> Option<BoundRun> {
    let workshop = workshop()?;
    let kernel = workshop.kernel("k", module, options).unwrap();
    let count = threads as usize;
    let buffers =
        vec![Bound::read(0, "x", Dtype::F32, (0..count).map(|n| n as f64)), Bound::written(1, "y", Dtype::F32, count)];
    let launch =
        BoundLaunch { grid: [threads, 1, 1], threadgroup: [64, 1, 1], buffers, schedule, ..BoundLaunch::default() };
    Some(workshop.emulator().run_object(&kernel.object, &launch).unwrap())
}

fn numbers(run: &BoundRun) -> Vec<f64> {
    Dtype::F32.decode(run.buffer(1).unwrap())
}

const ARRAY: &str = "@_ZZ1kvE1s = internal addrspace(3) global [64 x float] undef, align 4";

/// `y[i] = s[63 - i]` of an array that all threads fill, with this line between.
fn reversal(between: &str) -> String {
    let body = format!(
        "  %4 = zext i32 %2 to i64\n  %5 = getelementptr inbounds float, ptr addrspace(1) %0, i64 %4\n\
         \x20 %6 = load float, ptr addrspace(1) %5, align 4, !tbaa !9\n\
         \x20 %7 = getelementptr inbounds [64 x float], ptr addrspace(3) @_ZZ1kvE1s, i64 0, i64 %4\n\
         \x20 store float %6, ptr addrspace(3) %7, align 4\n{between}\
         \x20 %8 = sub i64 0, %4\n\
         \x20 %9 = getelementptr inbounds float, ptr addrspace(3) getelementptr inbounds ([64 x float], ptr addrspace(3) @_ZZ1kvE1s, i64 0, i64 63), i64 %8\n\
         \x20 %10 = load float, ptr addrspace(3) %9, align 4\n\
         \x20 %11 = getelementptr inbounds float, ptr addrspace(1) %1, i64 %4\n  store float %10, ptr addrspace(1) %11, align 4\n"
    );
    module(ARRAY, &body)
}

#[test]
fn threadgroup_memory_and_barriers_are_the_emulators() {
    let text = reversal("  tail call void @air.wg.barrier(i32 2, i32 1) #1\n");
    for schedule in [Schedule::Forward, Schedule::Reversed] {
        let Some(run) = run(&text, &Options::default(), 64, schedule) else { return };
        assert!(run.findings.is_empty(), "{:?}", run.findings);
        assert_eq!(numbers(&run), (0..64).rev().map(f64::from).collect::<Vec<_>>());
    }
}

#[test]
fn a_missing_barrier_is_found_with_its_line_and_the_arrays_name() {
    let text = reversal("");
    let Some(run) = run(&text, &Options::default(), 64, Schedule::Forward) else { return };
    let [finding] = &run.findings[..] else { panic!("{:?}", run.findings) };
    assert_eq!((finding.kind, finding.subject.as_deref()), (FindingKind::DataRace, Some("s")));
    let lowered = lower(&text, "k.ll", &Options::default()).unwrap();
    let line = |side: Option<&cotangent_emulator::Location>| {
        lowered.text.lines().nth(side.unwrap().line as usize - 1).unwrap().to_owned()
    };
    let lines = line(finding.at()) + &line(finding.other_at());
    assert!(lines.contains("store float %6") && lines.contains("%10 = load"), "{lines}");
}

#[test]
fn lanes_sum_in_the_emulators_order() {
    let body = "  %4 = zext i32 %2 to i64\n  %5 = getelementptr float, ptr addrspace(1) %0, i64 %4\n\
                \x20 %6 = load float, ptr addrspace(1) %5\n  %7 = call float @air.simd_sum.f32(float %6)\n\
                \x20 %8 = getelementptr float, ptr addrspace(1) %1, i64 %4\n  store float %7, ptr addrspace(1) %8\n";
    let Some(run) = run(&module("", body), &Options::default(), 70, Schedule::Forward) else { return };
    assert!(run.findings.is_empty(), "{:?}", run.findings);
    let sums = numbers(&run);
    assert_eq!((sums[0], sums[32], sums[69]), (496.0, 1520.0, 399.0));
}

#[test]
fn what_leaves_its_memory_is_found() {
    let access = |pointer: &str| {
        format!(
            "  %4 = zext i32 %2 to i64\n  %5 = alloca [4 x float], align 4\n  store float 1.0, ptr %5\n\
             \x20 %6 = getelementptr {pointer}\n  store float 2.0, ptr addrspace(1) %6\n  %7 = load float, ptr %5\n\
             \x20 %8 = getelementptr float, ptr addrspace(1) %1, i64 %4\n  store float %7, ptr addrspace(1) %8\n"
        )
    };
    let beyond = access("float, ptr addrspace(1) %1, i64 64");
    let private = access("[4 x float], ptr %5, i64 0, i64 %4")
        .replace("store float 2.0, ptr addrspace(1) %6", "store float 2.0, ptr %6");
    for (body, subject) in [(beyond, Some("y")), (private, None)] {
        let Some(run) = run(&module("", &body), &Options::default(), 64, Schedule::Forward) else { return };
        assert!(!run.findings.is_empty());
        for finding in &run.findings {
            assert_eq!((finding.kind, finding.subject.as_deref()), (FindingKind::OutOfBounds, subject), "{finding}");
            assert!(finding.at().is_some_and(|at| at.file == "k.ll"), "{finding}");
        }
    }
}

#[test]
fn a_product_that_is_added_is_rounded_as_asked() {
    // 4097 * 4097 + -16785408 is 1 if the product is kept whole, and 0 if it is rounded.
    let body = "  %4 = zext i32 %2 to i64\n\
                \x20 %5 = call float @llvm.fmuladd.f32(float 4097.0, float 4097.0, float -16785408.0)\n\
                \x20 %6 = getelementptr float, ptr addrspace(1) %1, i64 %4\n  store float %5, ptr addrspace(1) %6\n";
    for (contract, expected) in [(false, 0.0), (true, 1.0)] {
        let options = Options { contract, ..Options::default() };
        let Some(run) = run(&module("", body), &options, 1, Schedule::Forward) else { return };
        assert_eq!(numbers(&run), [expected]);
    }
}

#[test]
fn function_constants_get_values() {
    let globals = "@_Z5twice.MTL_FC_INIT_20_b = internal addrspace(2) externally_initialized constant i8 undef, section \"air.fc_initializer\", align 1";
    let body = "  %4 = zext i32 %2 to i64\n  %5 = load i8, ptr addrspace(2) @_Z5twice.MTL_FC_INIT_20_b, align 1\n\
                \x20 %6 = icmp ne i8 %5, 0\n  %7 = select i1 %6, float 2.0, float 1.0\n\
                \x20 %8 = getelementptr float, ptr addrspace(1) %1, i64 %4\n  store float %7, ptr addrspace(1) %8\n";
    let text = module(globals, body);
    let refused = lower(&text, "k.ll", &Options::default()).unwrap_err();
    assert_eq!(refused, Refusal::Constants(vec![(20, "twice".into())]));
    for (value, expected) in [(0, 1.0), (1, 2.0)] {
        let options = Options { constants: [(20, value)].into(), ..Options::default() };
        let Some(run) = run(&text, &options, 1, Schedule::Forward) else { return };
        assert_eq!(numbers(&run), [expected]);
    }
}

#[test]
fn arguments_are_those_of_the_metadata() {
    let lowered = lower(&module("", ""), "k.ll", &Options::default()).unwrap();
    let roles: Vec<_> = lowered.arguments.iter().map(|argument| (argument.name.as_str(), &argument.role)).collect();
    let buffer = |index, writable| ArgumentRole::Buffer { index, ty: "float".into(), writable };
    let position = ArgumentRole::Attribute("thread_position_in_grid".into());
    assert_eq!(roles, [("x", &buffer(0, false)), ("y", &buffer(1, true)), ("i", &position)]);
}

#[test]
fn unknown_functions_are_refused_by_name() {
    let text = module("declare float @air.sparkle.f32(float)", "");
    assert_eq!(
        lower(&text, "k.ll", &Options::default()).unwrap_err(),
        Refusal::Functions(vec!["air.sparkle.f32".into()])
    );
    for damaged in ["", "define void @k(", "!air.kernel = !{!0}\n!0 = !{ptr @k, !1, !2}", "@a = addrspace(3) global"] {
        assert!(lower(damaged, "k.ll", &Options::default()).is_err(), "{damaged}");
    }
}

/// `y[i] = value`, with `value` computed by these lines as `%7`; `%4` is `i`, `%6` is `x[i]`.
fn stored(lines: &str) -> String {
    format!(
        "  %4 = zext i32 %2 to i64\n  %5 = getelementptr float, ptr addrspace(1) %0, i64 %4\n\
         \x20 %6 = load float, ptr addrspace(1) %5\n{lines}\
         \x20 %y = getelementptr float, ptr addrspace(1) %1, i64 %4\n  store float %7, ptr addrspace(1) %y\n"
    )
}

#[test]
fn planted_defects_show_in_compiled_code_in_both_orders() {
    let element = "  %s = getelementptr [64 x float], ptr addrspace(3) @_ZZ1kvE1s, i64 0, i64 %4\n";
    let half = "  %c = icmp ult i32 %2, 16\n  br i1 %c, label %some, label %all\n";
    let cases = [
        // Nothing is wrong here: these are the same shapes with their defects taken out.
        (stored("  %7 = call float @air.simd_sum.f32(float %6)\n"), None),
        (stored(&format!("{element}  store float %6, ptr addrspace(3) %s\n  %7 = load float, ptr addrspace(3) %s\n")), None),
        // Half of the lanes do not reach the sum.
        (
            format!(
                "{}{half}some:\n  %q = call float @air.simd_sum.f32(float %6)\n  store float %q, ptr addrspace(1) %y\n  br label %all\nall:\n",
                stored("  %7 = fadd float %6, 1.0\n")
            ),
            Some(FindingKind::DivergentSimd),
        ),
        // Half of the threads do not reach the barrier.
        (
            format!(
                "{}{half}some:\n  call void @air.wg.barrier(i32 2, i32 1)\n  br label %all\nall:\n",
                stored("  %7 = fadd float %6, 1.0\n")
            ),
            Some(FindingKind::DivergentBarrier),
        ),
        // Nothing has written this threadgroup memory.
        (stored(&format!("{element}  %7 = load float, ptr addrspace(3) %s\n")), Some(FindingKind::UninitialisedRead)),
        // Every thread writes the first element.
        (
            "  %4 = uitofp i32 %2 to float\n  store float %4, ptr addrspace(1) %1\n".to_owned(),
            Some(FindingKind::DataRace),
        ),
        // The barrier is for the other memory.
        (
            stored(&format!(
                "{element}  store float %6, ptr addrspace(3) %s\n  call void @air.wg.barrier(i32 1, i32 1)\n\
                 \x20 %7 = load float, ptr addrspace(3) getelementptr ([64 x float], ptr addrspace(3) @_ZZ1kvE1s, i64 0, i64 5)\n"
            )),
            Some(FindingKind::DataRace),
        ),
        // The first element is never written.
        (
            "  %4 = zext i32 %2 to i64\n  %c = icmp eq i32 %2, 0\n  br i1 %c, label %end, label %write\nwrite:\n\
             \x20 %y = getelementptr float, ptr addrspace(1) %1, i64 %4\n  store float 1.0, ptr addrspace(1) %y\n  br label %end\nend:\n"
                .to_owned(),
            Some(FindingKind::UnwrittenOutput),
        ),
        // The read is in front of the input.
        (
            stored("  %p = getelementptr float, ptr addrspace(1) %0, i64 -1\n  %7 = load float, ptr addrspace(1) %p\n"),
            Some(FindingKind::OutOfBounds),
        ),
    ];
    for (body, expected) in cases {
        for schedule in [Schedule::Forward, Schedule::Reversed] {
            let Some(run) = run(&module(ARRAY, &body), &Options::default(), 64, schedule) else { return };
            let kinds: Vec<FindingKind> = run.findings.iter().map(|finding| finding.kind).collect();
            match expected {
                Some(kind) => assert!(kinds.contains(&kind), "{kind:?} in {kinds:?}, {schedule:?}\n{body}"),
                None => assert_eq!(kinds, [], "{schedule:?}\n{body}"),
            }
        }
    }
}

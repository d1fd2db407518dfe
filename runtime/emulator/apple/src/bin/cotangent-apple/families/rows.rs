//! Kernels of which a threadgroup computes a row: softmax, logsumexp, cross-entropy, norms, scans, sorts.

use cotangent_emulator::{BoundLaunch, Dtype};

use crate::case::{Case, FLOATS, INTEGERS, Type, input, launch, output, scalar};

const ROWS: usize = 3;
const SIZES: [usize; 2] = [37, 1001];

pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for ty in FLOATS {
        cases.extend(softmax(ty));
        cases.extend(cross_entropy(ty));
        cases.extend(norms(ty));
    }
    cases.extend(scans());
    cases.extend(sorts());
    cases
}

/// Threads that read four elements each, in whole simdgroups.
fn threads(n: usize) -> usize {
    n.div_ceil(4).next_multiple_of(32)
}

fn each_size(of: impl Fn(usize) -> BoundLaunch<'static>) -> Vec<BoundLaunch<'static>> {
    SIZES.into_iter().map(of).collect()
}

fn softmax(ty: Type) -> Vec<Case> {
    let case = |family, form: &str, template: &str, looped: bool, out: usize| Case {
        family,
        function: form.to_owned(),
        kernel: format!("{form}_{}", ty.library),
        headers: if family == "softmax" { &["softmax"] } else { &["logsumexp"] },
        instance: format!("{template}<{}>", ty.metal),
        constants: Vec::new(),
        // MLX loops over rows of more than 4096 elements, with as many threads as a threadgroup may have.
        launches: if looped { [4301, 5003] } else { SIZES }
            .map(|n| {
                let threads = if looped { 1024 } else { threads(n) };
                let buffers = vec![
                    input(0, ty, ROWS * n, (-6.0, 6.0)),
                    output(1, ty.dtype, ROWS * if out == 0 { n } else { out }),
                    scalar(2, Dtype::I32, n as f64),
                ];
                launch([threads * ROWS, 1, 1], [threads, 1, 1], buffers)
            })
            .to_vec(),
    };
    let mut cases = vec![
        case("softmax", "block_softmax", "softmax_single_row", false, 0),
        case("softmax", "looped_softmax", "softmax_looped", true, 0),
        case("logsumexp", "block_logsumexp", "logsumexp", false, 1),
        case("logsumexp", "looped_logsumexp", "logsumexp_looped", true, 1),
    ];
    if ty.dtype != Dtype::F32 {
        for (form, template, looped) in
            [("block_softmax_precise", "softmax_single_row", false), ("looped_softmax_precise", "softmax_looped", true)]
        {
            let mut precise = case("softmax", form, template, looped, 0);
            precise.instance = format!("{template}<{}, float>", ty.metal);
            cases.push(precise);
        }
    }
    cases
}

fn cross_entropy(ty: Type) -> Vec<Case> {
    let case = |form: &str, launches| Case {
        family: "cross-entropy",
        function: form.to_owned(),
        kernel: format!("{form}_{}", ty.library),
        headers: &["cross_entropy"],
        instance: format!("{form}<{}>", ty.metal),
        constants: Vec::new(),
        launches,
    };
    let grid = ([64 * ROWS, 1, 1], [64, 1, 1]);
    let forward = |n: usize| {
        let buffers = vec![
            input(0, ty, ROWS * n, (-6.0, 6.0)),
            input(1, INTEGERS[6], ROWS, (0.0, n as f64)),
            output(2, Dtype::F32, ROWS),
            scalar(3, Dtype::I32, n as f64),
        ];
        launch(grid.0, grid.1, buffers)
    };
    let backward = |n: usize| {
        let float = FLOATS[2];
        let buffers = vec![
            input(0, ty, ROWS * n, (-6.0, 6.0)),
            input(1, INTEGERS[6], ROWS, (0.0, n as f64)),
            input(2, float, ROWS, (5.0, 9.0)),
            input(3, float, ROWS, (-1.0, 1.0)),
            output(4, ty.dtype, ROWS * n),
            scalar(5, Dtype::I32, n as f64),
        ];
        launch(grid.0, grid.1, buffers)
    };
    vec![case("cross_entropy", each_size(forward)), case("cross_entropy_vjp", each_size(backward))]
}

/// The package has no text of norms: they run as compiled, and are watched.
fn norms(ty: Type) -> Vec<Case> {
    let case = |form: &str, launches| Case {
        family: "norms",
        function: form.to_owned(),
        kernel: format!("{form}{}", ty.library),
        headers: &[],
        instance: String::new(),
        constants: Vec::new(),
        launches,
    };
    let rms = |n: usize, threads: usize| {
        let buffers = vec![
            input(0, ty, ROWS * n, (-2.0, 2.0)),
            input(1, ty, n, (-2.0, 2.0)),
            output(2, ty.dtype, ROWS * n),
            scalar(3, Dtype::F32, 1e-5),
            scalar(4, Dtype::U32, n as f64),
            scalar(5, Dtype::U32, 1.0),
        ];
        launch([threads * ROWS, 1, 1], [threads, 1, 1], buffers)
    };
    // As in MLX's launch, a thread has eight elements, and simdgroups are whole.
    let layer = |n: usize| {
        let threads = n.div_ceil(8).next_multiple_of(32);
        let buffers = vec![
            input(0, ty, ROWS * n, (-2.0, 2.0)),
            input(1, ty, n, (-2.0, 2.0)),
            input(2, ty, n, (-2.0, 2.0)),
            output(3, ty.dtype, ROWS * n),
            scalar(4, Dtype::F32, 1e-5),
            scalar(5, Dtype::U32, n as f64),
            scalar(6, Dtype::U32, 1.0),
            scalar(7, Dtype::U32, 1.0),
        ];
        launch([threads * ROWS, 1, 1], [threads, 1, 1], buffers)
    };
    vec![
        case("layer_norm", [256, 1020, 1, 249, 248, 1000].map(layer).to_vec()),
        case("rms", each_size(|n| rms(n, threads(n)))),
        case("rms_looped", each_size(|n| rms(n, 64))),
    ]
}

fn scans() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, operation) in
        [("sum", "CumSum"), ("prod", "CumProd"), ("max", "CumMax"), ("min", "CumMin"), ("logaddexp", "CumLogaddexp")]
    {
        let types = if name == "logaddexp" { FLOATS.to_vec() } else { [&FLOATS[..], &INTEGERS[6..7]].concat() };
        for ty in types {
            for (inclusive, reverse) in [(true, false), (false, false), (true, true), (false, true)] {
                let form = format!(
                    "{}{}_{name}",
                    if reverse { "reverse_" } else { "" },
                    if inclusive { "inclusive" } else { "exclusive" }
                );
                let range = match name {
                    "prod" if ty.dtype.is_float() => (0.9, 1.1),
                    "prod" => (1.0, 2.0),
                    _ if ty.library.starts_with('u') => (0.0, 3.0),
                    _ => (-2.0, 2.0),
                };
                cases.push(Case {
                    family: "scan",
                    function: format!("contig_scan_{form}"),
                    kernel: format!("contig_scan_{form}_{0}_{0}", ty.library),
                    headers: &["binary_ops", "scan"],
                    instance: format!(
                        "contiguous_scan<{0}, {0}, {operation}<{0}>, 4, {inclusive}, {reverse}>",
                        ty.metal
                    ),
                    constants: Vec::new(),
                    launches: each_size(|n| {
                        let threads = threads(n).min(64);
                        let buffers = vec![
                            input(0, ty, ROWS * n, range),
                            output(1, ty.dtype, ROWS * n),
                            scalar(2, Dtype::U64, n as f64),
                        ];
                        launch([threads, ROWS, 1], [threads, 1, 1], buffers)
                    }),
                });
            }
        }
    }
    cases
}

fn sorts() -> Vec<Case> {
    let mut cases = Vec::new();
    for ty in [&FLOATS[..], &INTEGERS].concat() {
        let range = if ty.library.starts_with('u') { (0.0, 99.0) } else { (-99.0, 99.0) };
        for (form, argument, out) in [("c", false, ty), ("carg", true, INTEGERS[2])] {
            cases.push(Case {
                family: "sort",
                function: format!("{form}_block_sort"),
                kernel: format!("{form}_block_sort_{}_{}_bn128_tn4", ty.library, out.library),
                headers: &["sort"],
                instance: format!("block_sort<{}, {}, {argument}, 128, 4>", ty.metal, out.metal),
                constants: Vec::new(),
                launches: [37, 301]
                    .into_iter()
                    .map(|n| {
                        let one = |index, value: usize| scalar(index, Dtype::I32, value as f64);
                        let buffers = vec![
                            input(0, ty, ROWS * n, range),
                            output(1, out.dtype, ROWS * n),
                            one(2, n),
                            one(3, 1),
                            one(4, 1),
                            one(5, n),
                            one(6, n),
                        ];
                        launch([128, ROWS, 1], [128, 1, 1], buffers)
                    })
                    .collect(),
            });
        }
        for (side, right) in [("left", false), ("right", true)] {
            cases.push(Case {
                family: "searchsorted",
                function: format!("searchsorted_{side}"),
                kernel: format!("searchsorted_{}_{side}", ty.library),
                headers: &["sort", "searchsorted"],
                instance: format!("searchsorted<{}, {right}>", ty.metal),
                constants: Vec::new(),
                launches: [37, 101]
                    .into_iter()
                    .map(|n| {
                        let mut sorted = crate::case::numbers(ty.dtype, n, range, 5);
                        sorted.sort_by(f64::total_cmp);
                        let buffers = vec![
                            cotangent_emulator::Bound::read(0, "a", ty.dtype, sorted),
                            input(1, ty, 61, range),
                            output(2, Dtype::U32, 61),
                            scalar(3, Dtype::U32, n as f64),
                            scalar(4, Dtype::I64, 1.0),
                        ];
                        launch([61, 1, 1], [64, 1, 1], buffers)
                    })
                    .collect(),
            });
        }
    }
    cases
}

//! The failures that a program built on Cotangent cannot contain without an error, each with its explanation.

use std::fmt;

macro_rules! codes {
    ($($code:ident),* $(,)?) => {
        /// The code of one failure.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs)]
        pub enum Code { $($code),* }

        impl Code {
            /// Every code, in order.
            pub const ALL: &'static [Code] = &[$(Code::$code),*];

            /// The code as it is written in messages, such as `C01`.
            pub const fn name(self) -> &'static str {
                match self { $(Code::$code => stringify!($code)),* }
            }

            /// The path of the page that explains it, in the runtime's documentation.
            pub const fn page(self) -> &'static str {
                match self { $(Code::$code => concat!("cotangent::errors::", stringify!($code))),* }
            }
        }
    };
}

codes!(C01, C02, C03, C04, C05, C06, C07, C08, C09, C10, C11, C12, C13, C14, C15, C16, C17, C18, C20, C21, C22);

impl fmt::Display for Code {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// The author of a failure's message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Cotangent: the message carries the code.
    Cotangent,
    /// The Rust compiler: the message is its own, and this entry explains it.
    Compiler,
    /// Cotangent, when the program runs: a driver ends in an error that carries the code.
    Driver,
}

/// The entry of the catalogue about one failure.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The code of the failure.
    pub code: Code,
    /// The failure in one line.
    pub title: &'static str,
    /// The reason why the failure matters, and its effect where nothing refuses it.
    pub explanation: &'static str,
    /// The remedy; it starts with a verb.
    pub help: &'static str,
    /// The part of the project that writes the message.
    pub source: Source,
    /// A program that contains the failure, and so does not compile; or, of a driver's, holds that it ends in the error.
    pub wrong: &'static str,
    /// A right program, beside the wrong one.
    pub right: &'static str,
}

/// A program from the compile-time tests: so every example is held to be what it says.
macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../programs/", $name, ".rs"))
    };
}

impl Entry {
    /// The entry as a page of Markdown, as it stands in `docs/errors`.
    pub fn page(&self) -> String {
        let Entry { code, title, explanation, help, .. } = self;
        let mut page = format!("# {code}: {title}\n\n{explanation}\n\n**What to do:** {help}.\n");
        if self.source == Source::Compiler {
            page += "\nThe message is the Rust compiler's own, so it does not carry this code.\n";
        }
        for (title, program) in [("Wrong", self.wrong), ("Right", self.right)] {
            page += &format!("\n## {title}\n\n```rust,ignore\n{}\n```\n", program.trim());
        }
        page
    }
}

/// Every failure, in the order of the codes.
pub fn catalogue() -> &'static [Entry] {
    ENTRIES
}

/// The entry whose code is written `name`, in either case.
pub fn find(name: &str) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.code.name().eq_ignore_ascii_case(name))
}

/// The entry of a code.
pub fn entry(code: Code) -> &'static Entry {
    &ENTRIES[code as usize]
}

const ENTRIES: &[Entry] = &[
    Entry {
        code: Code::C01,
        title: "a kernel with no gradient route",
        explanation: "MLX cannot differentiate a custom kernel. Without a route the first backward pass fails with \
                      `[Primitive::vjp] Not implemented for CustomKernel.`, which names no kernel, no file and no \
                      line; other frameworks cut the graph instead and everything before the kernel trains as if it \
                      were frozen.",
        help: "name a paired kernel with `backward = ..`, the same function made of differentiable operations with \
               `fallback = ..`, or say why there is none with `inference_only = \"reason\"`",
        source: Source::Cotangent,
        wrong: fixture!("route/C01_no_route"),
        right: fixture!("pass/launch"),
    },
    Entry {
        code: Code::C02,
        title: "a backward that misses a differentiable input, or returns one gradient too many",
        explanation: "MLX matches gradients to inputs by position and checks no count: a missing gradient is silently \
                      replaced by the cotangent of an output.",
        help: "declare one output `d_x` for each differentiable input `x` of the forward, and no other; mark a float \
               input that has no gradient `#[nodiff]` in the forward",
        source: Source::Cotangent,
        wrong: fixture!("pairing/C02_gradient_missing"),
        right: fixture!("pass/pair_of_rust_bodies"),
    },
    Entry {
        code: Code::C03,
        title: "a gradient whose shape is not its primal's",
        explanation: "MLX accepts a gradient of any shape and lets it broadcast or fail later, far from its cause. \
                      Shapes are compared symbolically: dimensions by name, expressions in normal form, so that \
                      `B * H` equals `H * B`.",
        help: "give `d_x` exactly the shape of `x`; sum over broadcast dimensions in a Rust body",
        source: Source::Cotangent,
        wrong: fixture!("pairing/C03_gradient_shape"),
        right: fixture!("pass/pair_of_rust_bodies"),
    },
    Entry {
        code: Code::C04,
        title: "a gradient whose dtype is not its primal's",
        explanation: "MLX accepts a gradient of any dtype. The optimizer then mixes precisions, or a bfloat16 \
                      parameter becomes float32 after one step.",
        help: "give `d_x` exactly the dtype of `x`; accumulate in float32 and convert at the end",
        source: Source::Cotangent,
        wrong: fixture!("pairing/C04_gradient_dtype"),
        right: fixture!("pass/pair_of_rust_bodies"),
    },
    Entry {
        code: Code::C05,
        title: "the cotangent of an output that the backward does not take, or never reads",
        explanation: "A hand-written gradient that forgets one of several outputs is right in every test that does \
                      not use that output, and wrong in the model that does.",
        help: "declare the input `d_y` for each output `y` and read it, or say `ignores(y)` in the backward",
        source: Source::Cotangent,
        wrong: fixture!("pairing/C05_cotangent_missing"),
        right: fixture!("pass/ignored_output"),
    },
    Entry {
        code: Code::C06,
        title: "an array captured instead of passed",
        explanation: "MLX differentiates with respect to a function's arguments only: an array that a closure captures \
                      gets gradient zero, silently. `checkpoint`, `custom_vjp`, fallbacks and blocks therefore take \
                      `fn` items, which capture nothing, and the compiler refuses a closure that does.",
        help: "pass the tensor as an argument, or put it into the parameter tree",
        source: Source::Compiler,
        wrong: fixture!("graph/C06_captured_weight"),
        right: fixture!("pass/weight_in_the_tree"),
    },
    Entry {
        code: Code::C07,
        title: "a value read inside a training graph",
        explanation: "Reading a value while a graph is being built turns it into a constant: the program runs, the \
                      loss falls, and the gradient is wrong.",
        help: "return the tensor from the step and read it through the session afterwards; decide on the host from \
               host data",
        source: Source::Cotangent,
        wrong: fixture!("graph/C07_value_read_in_training"),
        right: fixture!("pass/value_read_outside"),
    },
    Entry {
        code: Code::C08,
        title: "a gradient through an index, or an index used as a float",
        explanation: "Indices computed from activations have no gradient. MLX notices only in the backward pass, \
                      after minutes of work. `Indices` are behind a stop-gradient from the start and are not floats.",
        help: "use the indices to gather; where their value is wanted as data, convert it with a reason",
        source: Source::Cotangent,
        wrong: fixture!("graph/C08_index_as_float"),
        right: fixture!("pass/index_gathers"),
    },
    Entry {
        code: Code::C09,
        title: "a float path cut without `detach`",
        explanation: "A float that enters a `#[nodiff]` port gets no gradient. That is right for a table of \
                      frequencies and a silent loss of gradient for anything that trains.",
        help: "pass a `Constant`; cut a tensor with `x.detach(\"reason\")`, which the audit lists",
        source: Source::Compiler,
        wrong: fixture!("graph/C09_tensor_into_nodiff"),
        right: fixture!("pass/detached_with_a_reason"),
    },
    Entry {
        code: Code::C10,
        title: "an inference-only kernel in a training graph",
        explanation: "A fused kernel for decoding, reached from a training step through shared code, is the failure \
                      this project began with. An inference-only kernel takes tensors of mode `Infer`, and generic \
                      code that reaches it must say so in its bounds.",
        help: "take the training path of the layer in `Train`, or give the kernel a gradient",
        source: Source::Cotangent,
        wrong: fixture!("route/C10_inference_only_in_training"),
        right: fixture!("pass/inference_only"),
    },
    Entry {
        code: Code::C11,
        title: "a raw MLX array or kernel in a model",
        explanation: "Arrays that do not come through the runtime carry no trace, no mode and no gradient checks.",
        help: "use `Tensor<M>`, `Constant`, `Indices` or `Mask`; declare kernels with `#[differentiable]`",
        source: Source::Cotangent,
        wrong: fixture!("graph/C11_raw_array"),
        right: fixture!("pass/index_gathers"),
    },
    Entry {
        code: Code::C12,
        title: "a body that does not fit its declaration",
        explanation: "A body that reads an undeclared name, writes an input, never mentions an output as written, reads \
                      an optional input without asking whether it is there, or misspells a Metal attribute fails on a \
                      Mac at the first evaluation, or leaves an output uninitialised. So does a port that is named by a \
                      word of Metal, and a source that is not Metal: a power `**`, a component that a vector lacks, a \
                      call with too few arguments.",
        help: "declare every array the body uses as a port, write outputs only, and write each of them",
        source: Source::Cotangent,
        wrong: fixture!("body/C12_undeclared_name"),
        right: fixture!("pass/launch"),
    },
    Entry {
        code: Code::C13,
        title: "an accumulation into memory that nothing initialised, or in no fixed order",
        explanation: "Outputs start uninitialised. `+=` on one adds to garbage, and float atomics give different \
                      results in each run.",
        help: "store before accumulating, or say `init = 0.0`; say `atomic, nondeterministic` for float atomics",
        source: Source::Cotangent,
        wrong: fixture!("body/C13_sum_into_uninitialised"),
        right: fixture!("pass/initialised_sum"),
    },
    Entry {
        code: Code::C14,
        title: "a limit of Metal exceeded",
        explanation: "A threadgroup has at most 1024 threads and 32 KiB of memory, a kernel at most 31 buffers \
                      (MLX's own for shapes, strides and ranks included), and Metal has no `double`. Literal values, and \
                      sizes at the declared cases, are checked when the kernel is compiled by Rust, sizes that depend on \
                      shapes again when it is launched.",
        help: "split the work, or tile it",
        source: Source::Cotangent,
        wrong: fixture!("body/C14_double"),
        right: fixture!("pass/launch"),
    },
    Entry {
        code: Code::C15,
        title: "a residual that the forward does not declare, or the backward never reads",
        explanation: "A residual that is never read costs memory for nothing; one that is never written is a different array than \
                      its author believes.",
        help: "mark the forward's output `#[saved]` and take an input of the same name, shape and dtype in the \
               backward",
        source: Source::Cotangent,
        wrong: fixture!("pairing/C15_residual_never_read"),
        right: fixture!("pass/residual"),
    },
    Entry {
        code: Code::C16,
        title: "a backward paired with another forward, or with none",
        explanation: "A gradient that belongs to no kernel is dead code, and a gradient written for a namesake is \
                      wrong. Both sides name each other, and identity is by type.",
        help: "write `backward = k` at the forward and `backward_of = f` at the backward, naming each other",
        source: Source::Cotangent,
        wrong: fixture!("pairing/C16_backward_of_an_unpaired"),
        right: fixture!("pass/pair_of_rust_bodies"),
    },
    Entry {
        code: Code::C17,
        title: "a kernel without test cases, or without a ragged one",
        explanation: "Gradients are compared with finite differences and with the fallback at the sizes a kernel \
                      declares. Sizes that divide evenly hide errors at the edges, so at least one dimension of one \
                      case is odd and greater than one, unless what the kernel requires leaves no odd size. Each case \
                      gives every port a shape; one that breaks a requirement tests the fallback alone, so there is \
                      another that meets them all.",
        help: "add `cases = [(B = 1, S = 7, ..), ..]` that bind every dimension and constant of the signature, at least \
               one with an odd size",
        source: Source::Cotangent,
        wrong: fixture!("cases/C17_nothing_ragged"),
        right: fixture!("pass/launch"),
    },
    Entry {
        code: Code::C18,
        title: "a call that misses an argument the kernel gained",
        explanation: "Where kernels are patched in at run time, a new argument is an error in the middle of training, \
                      on the branch that calls it. Here a kernel is a function, and the compiler checks each call. One of \
                      more than three inputs takes a struct that names them, so that a new input, even an optional one, is a \
                      missing field, and no two inputs of one shape can be swapped.",
        help: "pass the new argument at each call: name its field, with `None` for an optional one that is left out",
        source: Source::Compiler,
        wrong: fixture!("graph/C18_argument_gained"),
        right: fixture!("pass/argument_passed"),
    },
    Entry {
        code: Code::C20,
        title: "a step in which nothing trains",
        explanation: "The loss depends on no parameter that trains, because it was computed from constants or every way is \
                      cut; or a selection picks no parameter, because a name in it has changed. All gradients are then zero \
                      or absent, the optimizer steps, and the loss stays where it is.",
        help: "compute the loss from the parameters that train; where no gradient is wanted, use `evaluate` or \
               `evaluate_stack`",
        source: Source::Driver,
        wrong: fixture!("run/C20_loss_of_nothing"),
        right: fixture!("pass/toy_trains"),
    },
    Entry {
        code: Code::C21,
        title: "a parameter and its name that do not belong to each other alone",
        explanation: "Gradients and new values find their parameters by name. Two tensors of one name get the sum of both \
                      gradients, and one is written over the other; one tensor under two names becomes two after the first \
                      step; a name that no parameter has trains nothing; and gradients of another model, or of the weights before \
                      a step, do not fit these. A tied weight is one tensor, shown under one name in each part.",
        help: "give each parameter a name of its own, use the names of the tree in selections and in the parts of a stack, \
               and begin each step with `Gradients::new()`",
        source: Source::Cotangent,
        wrong: fixture!("parameters/C21_two_fields_of_one_name"),
        right: fixture!("pass/parameters"),
    },
    Entry {
        code: Code::C22,
        title: "a block that computes something else when it is run again",
        explanation: "The block driver and `checkpoint` keep little and compute again what the gradient needs. A block that \
                      draws its dropout mask itself, counts its calls or reads what another has left computes something else \
                      the second time: the loss is of one function and the gradient of another. The two results are \
                      compared in the first step, in the first of each shape, in every hundredth, and always in builds for \
                      development and in audits.",
        help: "compute from the arguments alone: take random numbers from keys in the batch, as `dropout` does, and count \
               outside",
        source: Source::Driver,
        wrong: fixture!("run/C22_mask_drawn_inside"),
        right: fixture!("pass/dropout_by_key"),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_entry_in_its_place() {
        assert_eq!(ENTRIES.len(), Code::ALL.len());
        for code in Code::ALL {
            assert_eq!(entry(*code).code, *code);
            assert_eq!(find(&code.name().to_lowercase()).unwrap().code, *code);
        }
    }

    #[test]
    fn titles_and_helps_keep_the_house_style() {
        for entry in ENTRIES {
            assert!(entry.title.starts_with(|first: char| first.is_lowercase()), "{}", entry.code);
            assert!(!entry.help.ends_with('.'), "{}", entry.code);
            assert!(entry.explanation.ends_with('.'), "{}", entry.code);
        }
    }
}

//! What the documents tell people to type works: commands of this program are run, on the demo's checkpoint; of other
//! commands it is checked that what they name is there. A command that is neither fails, so that it gets a check or a reason.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Commands of which nothing can be checked here, and why.
const NOT_CHECKED: [(&str, &str); 14] = [
    ("git checkout ", "takes back a change that the reader made"),
    ("cargo insta ", "a program of others, for looking at snapshots"),
    ("cargo deny ", "a program of others, for licences and known holes"),
    ("cargo fmt", "a program of Rust's"),
    ("cargo doc ", "a program of Rust's"),
    ("COTANGENT=", "names the checkout for the commands after it"),
    ("cargo new ", "makes a crate of the reader's"),
    ("cargo add", "changes a crate of the reader's"),
    ("python -m venv ", "a program of Python's"),
    ("cd ", "means something with the commands around it"),
    ("cp ", "means something with the commands around it"),
    ("touch ", "means something with the commands around it"),
    ("mkdir ", "runs with the commands around it"),
    ("cat ", "runs with the commands around it"),
];

/// Words that begin a command in an indented block; other lines there are output.
const PROGRAMS: [&str; 7] = ["cargo", "python", "pip", "git", "cotangent", "mkdir", "target/"];

fn top(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn documents() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> =
        fs::read_dir(top("docs")).unwrap().map(|entry| Path::new("docs").join(entry.unwrap().file_name())).collect();
    found.retain(|file| file.extension().is_some_and(|extension| extension == "md"));
    let others =
        ["README.md", "CONTRIBUTING.md", "demo/README.md", "tests/foreign/README.md", "tests/reference/README.md"];
    found.extend(others.map(PathBuf::from));
    found.sort();
    found
}

/// The commands of a document: whole `sh` blocks in order, lines of indented blocks, and spans within sentences.
#[derive(Default)]
struct Commands {
    /// Each with the lines that it goes on with.
    blocks: Vec<String>,
    indented: Vec<String>,
    inline: Vec<String>,
}

impl Commands {
    fn new(text: &str) -> Self {
        let mut commands = Commands::default();
        let mut fence: Option<&str> = None;
        let mut end_of_input: Option<String> = None;
        for line in text.lines() {
            if let Some(language) = line.strip_prefix("```") {
                fence = if fence.is_some() { None } else { Some(language) };
            } else if fence == Some("sh") {
                let goes_on = end_of_input.is_some() || commands.blocks.last().is_some_and(|last| last.ends_with('\\'));
                match commands.blocks.last_mut() {
                    Some(last) if goes_on => *last = format!("{last}\n{line}"),
                    _ => commands.blocks.push(line.to_owned()),
                }
                if end_of_input.as_deref() == Some(line) {
                    end_of_input = None;
                } else if let Some((_, mark)) = line.split_once("<<") {
                    end_of_input = Some(mark.trim().trim_matches('\'').to_owned());
                }
            } else if fence.is_none() {
                let is_command =
                    |line: &&str| PROGRAMS.iter().any(|program| without_variables(line).starts_with(program));
                commands.indented.extend(line.strip_prefix("    ").filter(is_command).map(str::to_owned));
                let spans = line.split('`').skip(1).step_by(2);
                let is_span = |span: &&str| ["cargo ", "cotangent "].iter().any(|program| span.starts_with(program));
                commands.inline.extend(spans.filter(is_span).map(str::to_owned));
            }
        }
        commands
    }
}

/// A command without the variables that it sets and the remark behind it.
fn without_variables(command: &str) -> &str {
    let mut rest = command.trim();
    while let Some((word, after)) = rest.split_once(' ')
        && word.split('=').next().is_some_and(|name| {
            name.chars().all(|char| char.is_ascii_uppercase() || char == '_' || char.is_ascii_digit())
        })
        && word.contains('=')
    {
        rest = after.trim_start();
    }
    rest.split("  #").next().unwrap_or(rest).trim()
}

/// Returns what keeps a command of a document in folder `beside` from working, as far as can be seen without running
/// it.
fn fault(command: &str, beside: &Path) -> Option<String> {
    let command = without_variables(command);
    let words: Vec<&str> = command.split_whitespace().collect();
    let option = |name: &str| words.iter().position(|word| *word == name).and_then(|at| words.get(at + 1)).copied();
    let absent = |what: &str| Some(format!("`{command}`: {what} is not there"));
    let is_there = |path: &str| beside.join(path).exists() || top(path).exists();
    if NOT_CHECKED.iter().any(|(prefix, _)| command.starts_with(prefix)) {
        return None;
    }
    match words.as_slice() {
        ["cargo", "xtask", subcommand, rest @ ..] => {
            if !subcommand.starts_with('-') && !commands_of("xtask").contains(*subcommand) {
                return absent(subcommand);
            }
            rest.iter().find(|word| word.contains('/') && !is_there(word)).and_then(|file| absent(file))
        }
        ["cargo", "cotangent"] => None,
        ["cargo", "cotangent", subcommand, ..] => {
            let known = commands_of("cargo-cotangent").contains(*subcommand) || subcommand.starts_with('-');
            (!known).then(|| absent(subcommand))?
        }
        ["cargo", "package", rest @ ..] => {
            let mut packages = rest.iter().filter(|word| **word != "-p");
            packages.find(|name| package_folder(name).is_none()).and_then(|name| absent(name))
        }
        ["cargo", "install", ..] => option("--path").filter(|folder| !is_there(folder)).and_then(absent),
        ["cargo", "build" | "test" | "bench" | "run", ..] => {
            let package = option("-p").or(option("--package"));
            let folder = match package.map(package_folder) {
                Some(None) => return absent(package.unwrap_or_default()),
                Some(Some(folder)) => folder,
                None => top(""),
            };
            let targets = [("--bin", "src/bin"), ("--bench", "benches"), ("--test", "tests")];
            targets.iter().find_map(|(flag, place)| {
                let name = option(flag)?;
                let file = folder.join(place).join(format!("{name}.rs"));
                (!file.exists() && !folder.join(place).join(name).is_dir()).then(|| absent(name))?
            })
        }
        [program, file, ..] if ["python", "sh"].contains(&file_name(program)) => {
            (!is_there(file)).then(|| absent(file))?
        }
        [program, "install", ..] if file_name(program) == "pip" => {
            option("-r").filter(|file| !is_there(file)).and_then(absent)
        }
        ["cotangent" | "target/release/cotangent" | "../../target/debug/cotangent", subcommand, ..] => {
            (!own_commands().contains(*subcommand)).then(|| absent(subcommand))?
        }
        [program, ..] if program.starts_with("target/release/") => {
            let name = program.trim_start_matches("target/release/");
            (!top(format!("tests/src/bin/{name}.rs")).exists()).then(|| absent(program))?
        }
        _ => Some(format!("`{command}` is neither checked nor in the list of those that cannot be")),
    }
}

/// `python` of `/tmp/venv/bin/python`.
fn file_name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// The names of the variants of the enum `Command` in the `main.rs` of `package`, as the command line has them.
fn commands_of(package: &str) -> BTreeSet<String> {
    let source = fs::read_to_string(top(package).join("src/main.rs")).unwrap();
    let (_, body) = source.split_once("enum Command {").unwrap();
    let (body, _) = body.split_once("\n}").unwrap();
    let variant = |line: &str| {
        let name = line.strip_prefix("    ")?.trim_end_matches([' ', '{', ',', '(']);
        let is_name = name.starts_with(|char: char| char.is_ascii_uppercase()) && !name.contains(' ');
        is_name.then(|| name.split('(').next().unwrap_or(name).to_lowercase())
    };
    body.lines().filter_map(variant).collect()
}

fn own_commands() -> BTreeSet<String> {
    let help = help(&[]);
    let (_, list) = help.split_once("Commands:\n").unwrap();
    let names = list.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

fn package_folder(name: &str) -> Option<PathBuf> {
    let root = fs::read_to_string(top("Cargo.toml")).unwrap();
    let members = root.split('"').map(top).filter(|folder| folder.join("Cargo.toml").is_file());
    let line = format!("name = \"{name}\"");
    members
        .into_iter()
        .find(|folder| fs::read_to_string(folder.join("Cargo.toml")).is_ok_and(|toml| toml.contains(&line)))
}

fn help(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_cotangent")).args(arguments).arg("--help").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn commands_name_what_is_there() {
    let mut faults = Vec::new();
    for document in documents() {
        let commands = Commands::new(&fs::read_to_string(top(&document)).unwrap());
        let beside = top(&document).parent().unwrap().to_owned();
        for command in commands.blocks.iter().chain(&commands.indented).chain(&commands.inline) {
            faults.extend(fault(command, &beside).map(|fault| format!("{}: {fault}", document.display())));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for wrong in [
        "cargo xtask fly",
        "cargo cotangent fly",
        "cargo install --path absent",
        "cargo bench -p cotangent-kernels --bench absent",
        "python make/absent.py",
        "rm -r x",
    ] {
        assert!(fault(wrong, &top("demo")).is_some(), "`{wrong}` passes");
    }
}

/// The commands run in a folder with the names that the documents use; runs are shortened to two iterations.
#[test]
fn commands_of_this_program_work_when_pasted() {
    let mut ran = 0;
    for document in documents() {
        let commands = Commands::new(&fs::read_to_string(top(&document)).unwrap()).blocks;
        let is_own = |command: &String| {
            let command = without_variables(command);
            command.starts_with("target/release/cotangent ") || command.contains("-p cotangent-trainer -- ")
        };
        if !commands.iter().any(is_own) {
            continue;
        }
        let place = tempfile::tempdir().unwrap();
        let link = |from: PathBuf, to: &str| {
            let to = place.path().join(to);
            fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(from.canonicalize().unwrap(), to).unwrap();
        };
        link(PathBuf::from(env!("CARGO_BIN_EXE_cotangent")), "target/release/cotangent");
        link(top("demo"), "demo");
        link(top("demo/checkpoint"), "path/to/Qwen3.5-0.8B");
        link(top("demo/data"), "path/to/chats");
        let script: Vec<String> = commands
            .iter()
            .filter(|command| is_own(command) || !command.starts_with("cargo "))
            .map(|command| {
                let command =
                    command.replace("cargo run --release -p cotangent-trainer --", "target/release/cotangent");
                match command.split_once("--iters ") {
                    Some((before, after)) => {
                        format!("{before}--iters 2 {}", after.trim_start_matches(|char: char| char.is_ascii_digit()))
                    }
                    None => command,
                }
            })
            .collect();
        ran += script.len();
        let mut shell = Command::new("sh");
        shell.arg("-ec").arg(script.join("\n")).current_dir(place.path()).env("OPENBLAS_NUM_THREADS", "1");
        let output = shell.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {}\n{said}", document.display(), script.join("\n"));
    }
    assert!(ran >= 6, "only {ran} commands were run");
}

/// The long options in a text.
fn options(text: &str) -> BTreeSet<String> {
    let words = text.split(|char: char| !char.is_ascii_alphanumeric() && char != '-');
    words.filter(|word| word.starts_with("--") && word.len() > 3).map(str::to_owned).collect()
}

/// Returns the options that a command takes, as its help lists them.
fn options_of(command: &str) -> BTreeSet<String> {
    let help = help(&[command]);
    let entries = help.lines().filter(|line| line.trim_start().starts_with('-'));
    let mut found: BTreeSet<String> =
        entries.flat_map(|line| options(line.trim_start().split("  ").next().unwrap_or(""))).collect();
    // The text is joined to one line, because the list may begin on a new one.
    let words: Vec<&str> = help.split_whitespace().collect();
    let line = words.join(" ");
    let aliases = line.split("[alias").skip(1).map(|aliases| aliases.split(']').next().unwrap_or(""));
    found.extend(aliases.flat_map(options));
    found.remove("--help");
    found
}

#[test]
fn every_option_is_described_once_and_no_other() {
    let text = fs::read_to_string(top("docs/training.md")).unwrap();
    for command in ["train", "generate"] {
        let (_, section) = text.split_once(&format!("## Options of `cotangent {command}`")).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let rows = section.lines().filter(|line| line.starts_with("| `--"));
        let described: Vec<String> = rows.flat_map(|row| options(row.split('|').nth(1).unwrap())).collect();
        let once: BTreeSet<String> = described.iter().cloned().collect();
        assert_eq!(described.len(), once.len(), "an option of `{command}` is described twice: {described:?}");
        assert_eq!(once, options_of(command), "`cotangent {command}`");
    }
    let mentioned = options(&text);
    for command in ["evaluate", "audit"] {
        let missing: Vec<String> = options_of(command).difference(&mentioned).cloned().collect();
        assert!(missing.is_empty(), "`cotangent {command}`: {missing:?} are not in docs/training.md");
    }
}

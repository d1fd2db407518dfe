//! Tests of checkpoints in several files.

use super::*;

/// The name of a file, and the name and shape of each tensor in it.
type Shard<'a> = (&'a str, &'a [(&'a str, &'a [usize])]);

/// Writes `files` into a fresh folder, with `index` as the index.
fn folder(index: &str, files: &[Shard]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.safetensors.index.json"), index).unwrap();
    for (name, tensors) in files {
        fs::write(dir.path().join(name), f32_file(tensors)).unwrap();
    }
    dir
}

const ONE: Shard = ("one.safetensors", &[("a", &[2]), ("b", &[3])]);
const TWO: Shard = ("two.safetensors", &[("c", &[1])]);

#[test]
fn tensors_are_found_in_their_shards() {
    let map = json!({"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"});
    let dir = folder(&index_of(map), &[ONE, TWO]);
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b", "c"]);
    assert_eq!(checkpoint.get("c").unwrap().file, dir.path().join("two.safetensors"));
    assert_eq!(checkpoint.read("b").unwrap().to_f32().unwrap(), [0.0, 1.0, 2.0]);
}

/// Some programs lay the head for several tokens beside a model, and list it nowhere.
#[test]
fn a_file_that_the_index_does_not_list_is_left_alone() {
    let beside: Shard = ("mtp.safetensors", &[("mtp.fc.weight", &[2])]);
    let map = json!({"a": "one.safetensors", "b": "one.safetensors"});
    let dir = folder(&index_of(map), &[ONE, beside]);
    assert_eq!(Checkpoint::open(dir.path()).unwrap().names().collect::<Vec<_>>(), ["a", "b"]);
}

#[test]
fn a_hostile_file_name_in_the_index_is_refused() {
    for name in [
        "../one.safetensors",
        "/etc/one.safetensors",
        "sub/one.safetensors",
        "./one.safetensors",
        "..",
        "",
        "C:\\x.safetensors",
        "one.bin",
        "one.safetensors/",
    ] {
        let dir = folder(&index_of(json!({ "a": name })), &[ONE]);
        assert_eq!(
            message(Checkpoint::open(dir.path()), dir.path()),
            format!(
                "`model.safetensors.index.json`: tensor `a`: is said to be in `{}`, expected the name of a safetensors \
                 file in the same folder",
                crate::quoting::quoted(name)
            )
        );
    }
}

#[test]
fn an_index_that_disagrees_with_its_shards_is_refused() {
    let whole = json!({"a": "one.safetensors", "b": "one.safetensors"});
    let both: &[_] = &[ONE, TWO];
    let copy: Shard = ("two.safetensors", &[("a", &[2]), ("c", &[1])]);
    let table: &[(String, &[_], &str)] = &[
        ("{".into(), &[ONE], "`model.safetensors.index.json`: is not a valid index: EOF while parsing an object"),
        ("{}".into(), &[ONE], "`model.safetensors.index.json`: is not a valid index: missing field `weight_map`"),
        (index_of(json!([])), &[ONE], "`model.safetensors.index.json`: is not a valid index: invalid type: sequence"),
        (index_of(json!({})), &[ONE], "`model.safetensors.index.json`: lists no tensors"),
        (
            r#"{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}"#.into(),
            both,
            "`model.safetensors.index.json`: is not a valid index: tensor `a` appears twice",
        ),
        (
            index_of(json!({"a": "gone.safetensors"})),
            &[ONE],
            "`gone.safetensors`: is missing, but `model.safetensors.index.json` says that it holds the tensor `a`",
        ),
        (
            index_of(json!({"z": "one.safetensors"})),
            &[ONE],
            "`one.safetensors`: tensor `z`: is not in the file, although `model.safetensors.index.json` says so",
        ),
        (
            index_of(json!({"a": "one.safetensors"})),
            &[ONE],
            "`one.safetensors`: tensor `b`: is in the file, but `model.safetensors.index.json` does not list it",
        ),
        (
            index_of(json!({"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"})),
            &[ONE, copy],
            "`two.safetensors`: tensor `a`: is in the file, but `model.safetensors.index.json` says that it is \
             in `one.safetensors`",
        ),
        (
            index_of(whole),
            &[ONE, ("model.safetensors", &[("a", &[2])])],
            "`model.safetensors.index.json`: names other files than `model.safetensors`, which is there too",
        ),
    ];
    for (index, files, expected) in table {
        let dir = folder(index, files);
        let message = message(Checkpoint::open(dir.path()), dir.path());
        assert!(message.starts_with(expected), "{index}\n{message}\n{expected}");
    }
}

#[test]
fn an_index_beside_a_single_file_that_it_names_is_fine() {
    let map = json!({"a": "model.safetensors"});
    let dir = folder(&index_of(map), &[("model.safetensors", &[("a", &[2])])]);
    assert_eq!(Checkpoint::open(dir.path()).unwrap().names().count(), 1);
}

#[test]
fn a_damaged_shard_is_named() {
    let dir = folder(&index_of(json!({"a": "one.safetensors", "c": "two.safetensors"})), &[TWO]);
    fs::write(dir.path().join("one.safetensors"), "a page that says `not found`").unwrap();
    let message = message(Checkpoint::open(dir.path()), dir.path());
    assert!(message.starts_with("`one.safetensors`: claims a header of"), "{message}");
}

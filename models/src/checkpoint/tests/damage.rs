//! Tests of single files: sound ones are read, and damaged ones are refused.

use proptest::prelude::*;

use super::*;

const SOUND: &str = r#"{
  "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
  "b": {"dtype": "BF16", "shape": [2, 1], "data_offsets": [8, 12]}
}"#;

fn open(bytes: &[u8]) -> String {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    message(Checkpoint::open(dir.path()), dir.path())
}

#[test]
fn a_sound_file_is_read_tensor_by_tensor() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.safetensors"), file_of(SOUND, &[0, 0, 128, 63, 0, 0, 0, 64, 128, 63, 0, 192]))
        .unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    assert_eq!(checkpoint.names().collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(checkpoint.get("b").unwrap().shape, [2, 1]);
    assert_eq!(checkpoint.read("a").unwrap().to_f32().unwrap(), [1.0, 2.0]);
    assert_eq!(checkpoint.read("b").unwrap().to_f32().unwrap(), [1.0, -2.0]);
    assert_eq!(message(checkpoint.read("c"), dir.path()), "`.`: tensor `c`: is not in the checkpoint");
}

/// MLX writes `null` where there is no metadata.
#[test]
fn metadata_may_be_null() {
    let header = r#"{"__metadata__":null,"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#;
    assert_eq!(open(&file_of(header, &[0; 4])), "no error");
}

#[test]
fn a_pointer_of_git_lfs_is_recognised() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1234\n";
    let message = open(pointer.as_bytes());
    assert!(message.starts_with("`model.safetensors`: is a Git LFS pointer"), "{message}");
}

#[test]
fn a_damaged_header_is_named_with_its_tensor() {
    let twelve = [0; 12];
    let table: &[(&str, &[u8], &str)] = &[
        ("[]", &[], "the header is not valid: invalid type: sequence, expected an object of tensors"),
        ("{\"a\":", &[], "the header is not valid: tensor `a`: EOF while parsing"),
        ("{\"\u{1}\":0}", &[], "the header is not valid: control character"),
        (r#"{"a":{"dtype":"F33","shape":[],"data_offsets":[0,4]}}"#, &twelve[..4], "tensor `a`: unknown dtype `F33`"),
        (r#"{"a":{"dtype":"F32","shape":[]}}"#, &[], "tensor `a`: missing field `data_offsets`"),
        (
            r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#,
            &twelve[..4],
            "tensor `a`: invalid value: integer `-1`",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#,
            &twelve[..4],
            "tensor `a`: ends at byte 0, before its start at byte 4",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
            &twelve[..8],
            "tensor `a`: has 8 bytes, expected 12 for F32 [3]",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}"#,
            &twelve[..8],
            "tensor `a`: has an impossible shape [4294967296, 4294967296]",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}"#,
            &twelve[..8],
            "tensor `a`: reaches to byte 12 of the data, but the file has only 8: it is truncated or damaged",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},
                "b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
            &twelve,
            "tensor `b`: starts at byte 4 of the data, expected 8: it overlaps the tensor before it",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
                "b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}"#,
            &twelve,
            "tensor `b`: starts at byte 8 of the data, expected 4: it leaves a gap before it",
        ),
        (
            r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},
                "a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
            &twelve[..8],
            "tensor `a` appears twice",
        ),
        (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#, &twelve, "has 8 bytes after its last tensor"),
        (r#"{"__metadata__":{"format":1}}"#, &[], "`__metadata__`: invalid type: integer `1`, expected a string"),
        ("{}", &[], "holds no tensors"),
    ];
    for (header, data, expected) in table {
        let message = open(&file_of(header, data));
        assert!(
            message.starts_with("`model.safetensors`: ") && message.contains(expected),
            "{header}\n{message}\n{expected}"
        );
    }
}

#[test]
fn an_absurd_header_length_is_refused_before_anything_is_allocated() {
    for (length, limit) in [(u64::MAX, 2), (1 << 40, 2), (3, 2)] {
        let bytes = [&length.to_le_bytes()[..], b"{}"].concat();
        let expected = format!("`model.safetensors`: claims a header of {length} bytes, expected at most {limit}");
        assert!(open(&bytes).starts_with(&expected), "{}", open(&bytes));
    }
}

#[test]
fn a_shape_of_a_million_axes_is_refused() {
    let header = format!(r#"{{"a":{{"dtype":"F32","shape":[{}1],"data_offsets":[0,4]}}}}"#, "1,".repeat(1_000_000));
    assert!(
        open(&file_of(&header, &[0; 4])).contains("tensor `a`: invalid length 33, expected a list of at most 32 sizes")
    );
}

#[test]
fn a_file_cut_off_at_any_byte_is_refused() {
    let whole = file_of(SOUND, &[7; 12]);
    assert_eq!(open(&whole), "no error");
    for length in 0..whole.len() {
        assert!(open(&whole[..length]).starts_with("`model.safetensors`: "), "cut at {length}");
    }
}

#[test]
fn a_file_that_shrinks_while_it_is_open_is_an_error_naming_the_tensor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("model.safetensors");
    fs::write(&path, f32_file(&[("a", &[4]), ("b", &[4])])).unwrap();
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let length = fs::metadata(&path).unwrap().len();
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(length - 4).unwrap();
    assert!(checkpoint.read("a").is_ok());
    assert_eq!(
        message(checkpoint.read("b"), dir.path()),
        "`model.safetensors`: tensor `b`: the file became shorter while it was open"
    );
}

#[test]
fn what_stands_where_a_file_should_be_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let none = message(Checkpoint::open(dir.path()), dir.path());
    assert!(none.starts_with("`.`: found no weights, expected `model.safetensors` or"), "{none}");

    fs::write(dir.path().join("pytorch_model.bin"), "").unwrap();
    let other = message(Checkpoint::open(dir.path()), dir.path());
    assert!(other.starts_with("`.`: found `pytorch_model.bin`, expected `model.safetensors` or"), "{other}");

    std::os::unix::fs::symlink(dir.path(), dir.path().join("model.safetensors")).unwrap();
    let link = message(Checkpoint::open(dir.path()), dir.path());
    assert_eq!(link, "`model.safetensors`: found a folder, expected a file");

    let file = message(Checkpoint::open(dir.path().join("pytorch_model.bin")), dir.path());
    assert_eq!(file, "`pytorch_model.bin`: found a file, expected the folder of a checkpoint");

    let absent = message(Checkpoint::open(dir.path().join("absent")), dir.path());
    assert!(absent.starts_with("`absent`: No such file"), "{absent}");

    fs::remove_file(dir.path().join("model.safetensors")).unwrap();
    std::os::unix::fs::symlink("gone", dir.path().join("model.safetensors")).unwrap();
    let broken = message(Checkpoint::open(dir.path()), dir.path());
    assert!(broken.starts_with("`model.safetensors`: No such file"), "{broken}");
}

proptest! {
    /// A sound file with any bytes changed is refused, or every tensor can still be read with its size.
    #[test]
    fn no_change_of_bytes_makes_reading_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = file_of(SOUND, &[7; 12]);
        for (position, value) in changes {
            let position = position.index(bytes.len());
            bytes[position] = value;
        }
        read_everything(&bytes)?;
    }

    /// This also holds for changes that keep the header JSON: numbers, dtypes and names.
    #[test]
    fn no_value_in_the_header_makes_reading_panic(
        dtype in prop::sample::select(vec!["F32", "BF16", "F4", "F6_E2M3", "BOOL", "I64", "X"]),
        shape in prop::collection::vec(prop_oneof![0u64..5, any::<u64>()], 0..4),
        offsets in (prop_oneof![0u64..16, any::<u64>()], prop_oneof![0u64..16, any::<u64>()]),
        data in prop::collection::vec(any::<u8>(), 0..16),
    ) {
        let header = json!({"a": {"dtype": dtype, "shape": shape, "data_offsets": [offsets.0, offsets.1]}});
        read_everything(&file_of(&header.to_string(), &data))?;
    }
}

fn read_everything(bytes: &[u8]) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("model.safetensors"), bytes).unwrap();
    if let Ok(checkpoint) = Checkpoint::open(dir.path()) {
        for name in checkpoint.names() {
            let tensor = checkpoint.read(name).unwrap();
            let bits = tensor.shape.iter().product::<usize>() * tensor.dtype.bitsize();
            prop_assert_eq!(tensor.bytes.len() * 8, bits);
        }
    }
    Ok(())
}

use std::collections::BTreeMap;
use std::io;

use proptest::prelude::*;

use super::*;

#[test]
fn a_failed_write_leaves_the_old_file_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("adapters.safetensors");
    fs::write(&path, "old").unwrap();
    let result = write_atomically(&path, |file| {
        file.write_all(b"half of the new")?;
        Err(io::Error::from(io::ErrorKind::StorageFull))
    });
    assert_eq!(message(result, dir.path()), "`adapters.safetensors`: no storage space");
    assert_eq!(fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_new_file_replaces_the_old_one_and_is_readable_by_others_as_usual() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let (path, ordinary) = (dir.path().join("new"), dir.path().join("ordinary"));
    fs::write(&path, "old").unwrap();
    fs::write(&ordinary, "").unwrap();
    write_atomically(&path, |file| file.write_all(b"new")).unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "new");
    let mode = |path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&ordinary));
}

#[test]
fn a_target_that_cannot_be_written_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let told = message(write_atomically(&dir.path().join("no/adapters"), |_| Ok(())), dir.path());
    assert!(told.starts_with("`no/adapters`: No such file"), "{told}");
    fs::create_dir(dir.path().join("folder")).unwrap();
    let told = message(write_atomically(&dir.path().join("folder"), |_| Ok(())), dir.path());
    assert!(told.starts_with("`folder`: Is a directory"), "{told}");
}

#[test]
fn a_tensor_whose_bytes_do_not_fit_its_shape_is_not_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.safetensors");
    let tensor = HostTensor { dtype: Dtype::F32, shape: vec![3], bytes: vec![0; 8] };
    assert!(write_safetensors(&path, &[("a".to_owned(), tensor)].into(), &BTreeMap::new()).is_err());
    assert!(!path.exists());
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(
        tensors in prop::collection::btree_map(
            "[a-z.\"\\\\é]{1,12}",
            (
                prop::sample::select(vec![Dtype::F32, Dtype::BF16, Dtype::I64, Dtype::BOOL]),
                prop::collection::vec(0usize..4, 0..3),
            ),
            0..6,
        ),
        metadata in prop::collection::btree_map("[a-z]{1,5}", ".{0,8}", 0..3),
    ) {
        let tensors: BTreeMap<String, HostTensor> = tensors
            .into_iter()
            .map(|(name, (dtype, shape))| {
                let length = shape.iter().product::<usize>() * dtype.bitsize() / 8;
                let bytes = (0..length).map(|i| i as u8).collect();
                (name, HostTensor { dtype, shape, bytes })
            })
            .collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        write_safetensors(&path, &tensors, &metadata).unwrap();

        let file = SafetensorsFile::open(&path).unwrap();
        prop_assert_eq!(file.metadata(), &metadata);
        prop_assert_eq!(file.names().collect::<Vec<_>>(), tensors.keys().collect::<Vec<_>>());
        for (name, tensor) in &tensors {
            prop_assert_eq!(&file.read(name).unwrap(), tensor);
        }
        // And the format's own reader agrees.
        let bytes = fs::read(&path).unwrap();
        prop_assert_eq!(safetensors::SafeTensors::deserialize(&bytes).unwrap().len(), tensors.len());
    }
}

//! Tests of writing: files and folders appear complete or not at all.

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
        // The reader of the format agrees.
        let bytes = fs::read(&path).unwrap();
        prop_assert_eq!(safetensors::SafeTensors::deserialize(&bytes).unwrap().len(), tensors.len());
        // The same content has the same bytes.
        let again = dir.path().join("y.safetensors");
        write_safetensors(&again, &tensors, &metadata).unwrap();
        prop_assert_eq!(fs::read(&again).unwrap(), bytes);
    }
}

fn plans(names: &[(&str, Dtype, usize)]) -> Vec<TensorPlan> {
    names
        .iter()
        .map(|(name, dtype, size)| TensorPlan { name: (*name).into(), dtype: *dtype, shape: vec![*size] })
        .collect()
}

fn zeros(plan: &TensorPlan) -> HostTensor {
    HostTensor {
        dtype: plan.dtype,
        shape: plan.shape.clone(),
        bytes: vec![plan.name.as_bytes()[0]; plan.bytes() as usize],
    }
}

#[test]
fn shards_are_written_tensor_by_tensor_in_any_order() {
    let tensors = plans(&[("a", Dtype::U8, 3), ("b", Dtype::U32, 2), ("c", Dtype::BF16, 40), ("d", Dtype::F32, 1)]);
    // There are 95 bytes in all. At a limit of 12 bytes the first two tensors share a file, and the largest has one of
    // its own.
    for (limit, expected) in [
        (1000, vec!["model.safetensors"; 4]),
        (12, {
            let name = |number: usize| {
                [
                    "model-00001-of-00003.safetensors",
                    "model-00002-of-00003.safetensors",
                    "model-00003-of-00003.safetensors",
                ][number]
            };
            vec![name(0), name(0), name(1), name(2)]
        }),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = ShardWriter::create(dir.path(), tensors.clone(), limit).unwrap();
        assert_eq!(writer.size().1, 95);
        for plan in tensors.iter().rev() {
            writer.write(&plan.name, &zeros(plan)).unwrap();
        }
        writer.finish(46).unwrap();
        let checkpoint = Checkpoint::open(dir.path()).unwrap();
        for (plan, file) in tensors.iter().zip(expected) {
            assert_eq!(checkpoint.get(&plan.name).unwrap().file, dir.path().join(file));
            assert_eq!(checkpoint.read(&plan.name).unwrap(), zeros(plan));
        }
        assert!(checkpoint.written_by_mlx());
    }
}

#[test]
fn a_shard_takes_each_planned_tensor_once() {
    let dir = tempfile::tempdir().unwrap();
    let tensors = plans(&[("a", Dtype::U8, 3), ("b", Dtype::U32, 2)]);
    let mut writer = ShardWriter::create(dir.path(), tensors.clone(), 1000).unwrap();
    let mut refused = |name: &str, plan: &TensorPlan| message(writer.write(name, &zeros(plan)), dir.path());
    assert_eq!(refused("c", &tensors[0]), "`.`: tensor `c`: is not to be written");
    assert_eq!(refused("b", &tensors[0]), "`model.safetensors`: tensor `b`: is U8 [3], planned was U32 [2]");
    writer.write("a", &zeros(&tensors[0])).unwrap();
    assert!(writer.write("a", &zeros(&tensors[0])).is_err());
    let twice = plans(&[("a", Dtype::U8, 3), ("a", Dtype::U8, 3)]);
    let other = tempfile::tempdir().unwrap();
    assert!(ShardWriter::create(other.path(), twice, 1000).is_err());

    let unfinished = tempfile::tempdir().unwrap();
    let writer = ShardWriter::create(unfinished.path(), tensors, 1000).unwrap();
    assert!(message(writer.finish(5), unfinished.path()).ends_with("tensor `a`: was not written"));
    assert!(!unfinished.path().join("model.safetensors.index.json").exists());
}

#[test]
fn a_folder_is_there_only_once_it_is_complete() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/out");
    let left = || fs::read_dir(dir.path().join("new")).map_or(0, Iterator::count);
    let full = |dir: &Path| {
        fs::write(dir.join("half"), "").unwrap();
        Err::<Option<()>, _>(CheckpointError::io(&dir.join("half"), io::Error::from(io::ErrorKind::StorageFull)))
    };
    assert!(write_folder_atomically(&path, full).is_err());
    assert_eq!(left(), 0);
    let stopped = write_folder_atomically(&path, |_| Ok::<_, CheckpointError>(None::<()>));
    assert!(matches!(stopped, Ok(None)));
    assert_eq!(left(), 0);
    let fill = |dir: &Path| {
        assert!(!path.exists());
        fs::write(dir.join("whole"), "").unwrap();
        Ok::<_, CheckpointError>(Some(7))
    };
    assert_eq!(write_folder_atomically(&path, fill).unwrap(), Some(7));
    assert!(path.join("whole").exists());
    assert_eq!(left(), 1);
    assert!(message(write_folder_atomically(&path, fill), dir.path()).starts_with("`new/out`: is not empty"));
}

#[test]
fn what_a_killed_process_left_is_removed_and_nothing_that_is_in_use() {
    let dir = tempfile::tempdir().unwrap();
    let an_hour_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let folder = |name: &str| {
        let path = dir.path().join(name);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("model.safetensors"), "half").unwrap();
        fs::File::open(path).unwrap()
    };
    let (left, in_use, other) = (folder(".writing-left"), folder(".writing-in-use"), folder("writing"));
    for handle in [&left, &in_use, &other] {
        handle.set_modified(an_hour_ago).unwrap();
    }
    in_use.lock().unwrap();
    // The process that made the folder has had no time to lock it.
    folder(".writing-new");
    let fill = |_: &Path| Ok::<_, CheckpointError>(Some(()));
    write_folder_atomically(&dir.path().join("whole"), fill).unwrap();
    let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, [".writing-in-use", ".writing-new", "whole", "writing"]);
}

//! Names of libraries in programs and libraries of Linux (ELF, 64 bits, little-endian): which are needed, and another name in the
//! place of one. The format is that of the System V ABI, "Dynamic Linking".

use anyhow::{Context, Result, bail, ensure};
use std::ops::Range;

/// The meaning of an entry of the dynamic section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A library that is loaded with this one.
    Needed = 1,
    /// The name under which others need this library.
    Name = 14,
    /// The folders in which libraries are searched.
    SearchPath = 29,
}

const LOADED: u32 = 1;
const DYNAMIC: u32 = 2;
const STRINGS: u64 = 5;

/// The names that the entries of one kind have, each with its place in the file.
fn names(file: &[u8], kind: Entry) -> Result<Vec<(String, Range<usize>)>> {
    ensure!(file.starts_with(b"\x7fELF\x02\x01"), "expected an ELF file of 64 bits");
    let (headers, size, count) = (word(file, 32)? as usize, half(file, 54)?, half(file, 56)?);
    let header = |index: usize| -> Result<(u32, u64, u64, u64)> {
        let at = headers + index * size;
        let kind = u32::from_le_bytes(bytes(file, at)?);
        Ok((kind, word(file, at + 8)?, word(file, at + 16)?, word(file, at + 32)?))
    };
    let segments = (0..count).map(header).collect::<Result<Vec<_>>>()?;
    let offset_of = |address: u64| {
        let holds = |&&(kind, _, start, size): &&(u32, u64, u64, u64)| {
            kind == LOADED && (start..start.saturating_add(size)).contains(&address)
        };
        let &(_, offset, start, _) = segments.iter().find(holds).context("an address lies in no segment")?;
        Ok::<_, anyhow::Error>((offset + (address - start)) as usize)
    };
    let &(_, dynamic, _, size) = segments.iter().find(|(kind, ..)| *kind == DYNAMIC).context("no dynamic section")?;
    let entry = |index: usize| {
        let at = dynamic as usize + 16 * index;
        Ok::<_, anyhow::Error>((word(file, at)?, word(file, at + 8)?))
    };
    let entries = (0..size as usize / 16).map(entry).collect::<Result<Vec<_>>>()?;
    let &(_, strings) = entries.iter().find(|(tag, _)| *tag == STRINGS).context("no table of strings")?;
    let strings = offset_of(strings)?;
    let name = |&(_, offset): &(u64, u64)| {
        let start = strings + offset as usize;
        let rest = file.get(start..).context("a name lies outside of the file")?;
        let length = rest.iter().position(|&byte| byte == 0).context("a name has no end")?;
        Ok((String::from_utf8_lossy(&rest[..length]).into_owned(), start..start + length))
    };
    entries.iter().filter(|(tag, _)| *tag == kind as u64).map(name).collect()
}

fn bytes<const N: usize>(file: &[u8], at: usize) -> Result<[u8; N]> {
    let slice = file.get(at..).and_then(|rest| rest.first_chunk());
    slice.copied().context("the file ends too early")
}

fn half(file: &[u8], at: usize) -> Result<usize> {
    Ok(u16::from_le_bytes(bytes(file, at)?).into())
}

fn word(file: &[u8], at: usize) -> Result<u64> {
    Ok(u64::from_le_bytes(bytes(file, at)?))
}

/// Writes `new` in the place of the one name of this kind for which `is_it`. A linker has the files at absolute paths of this
/// machine, which are longer than a path from a file to the one beside it.
///
/// # Errors
/// If it is no ELF file, if there is not one such name, or if it is shorter than `new`.
pub fn rename(file: &mut [u8], kind: Entry, is_it: impl Fn(&str) -> bool, new: &str) -> Result<()> {
    let mut found = names(file, kind)?;
    found.retain(|(name, _)| is_it(name));
    let [(name, place)] = &found[..] else { bail!("expected one name to replace by `{new}`, found {}", found.len()) };
    ensure!(new.len() <= place.len(), "`{name}` has no room for `{new}`\n  help: move the checkout into a folder");
    let (text, rest) = file[place.clone()].split_at_mut(new.len());
    text.copy_from_slice(new.as_bytes());
    rest.fill(0);
    Ok(())
}

/// The newest version of glibc that a file asks for, such as `(2, 35)`: each is named `GLIBC_2.35` in it.
pub fn glibc(file: &[u8]) -> Option<(u32, u32)> {
    const MARK: &[u8] = b"GLIBC_";
    let starts = file.windows(MARK.len()).enumerate().filter(|(_, window)| *window == MARK).map(|(at, _)| at);
    let version = |at: usize| {
        let rest = &file[at + MARK.len()..];
        let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'.')?;
        let (major, minor) = std::str::from_utf8(&rest[..end]).ok()?.split_once('.')?;
        Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
    };
    starts.filter_map(version).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own() -> Vec<u8> {
        std::fs::read(std::env::current_exe().unwrap()).unwrap()
    }

    fn needed(file: &[u8]) -> Vec<String> {
        names(file, Entry::Needed).unwrap().into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_needed_library_gets_another_name() {
        let mut file = own();
        let before = needed(&file);
        assert!(before.iter().any(|name| name == "libc.so.6"), "{before:?}");
        rename(&mut file, Entry::Needed, |name| name == "libc.so.6", "ours.so").unwrap();
        let expected: Vec<String> = before.iter().map(|name| name.replace("libc.so.6", "ours.so")).collect();
        assert_eq!(needed(&file), expected);
        assert_eq!(file.len(), own().len());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn what_does_not_fit_is_left_alone() {
        for (is_it, new, expected) in [
            (true, "/a/path/longer/than/the/name", "`libc.so.6` has no room for"),
            (false, "x", "expected one name to replace by `x`, found 0"),
        ] {
            let mut file = own();
            let error = rename(&mut file, Entry::Needed, |name| is_it && name == "libc.so.6", new).unwrap_err();
            assert!(error.to_string().starts_with(expected), "{error}");
            assert!(file == own());
        }
    }

    #[test]
    fn damaged_files_are_errors() {
        assert!(names(b"#!/bin/sh\n", Entry::Needed).is_err());
        let file = own();
        for length in [0, 5, 40, 64, 100, 500] {
            assert!(names(&file[..length.min(file.len())], Entry::Needed).is_err(), "{length}");
        }
    }

    #[test]
    fn the_newest_glibc_is_found() {
        assert_eq!(glibc(b"GLIBC_2.4\0GLIBC_2.35\0GLIBC_PRIVATE\0GLIBCXX_3.4.30\0GLIBC_2.2.5\0"), Some((2, 35)));
        assert_eq!(glibc(b"nothing"), None);
    }
}

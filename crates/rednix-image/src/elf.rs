//! Which shared libraries an ELF file names (`DT_NEEDED`). It resolves nothing, and what is no ELF file, or a
//! broken one, names none: packages hold scripts and data under the same folders.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use object::elf::{DT_NEEDED, DT_NULL, DT_STRTAB, FileHeader32, FileHeader64, PT_DYNAMIC, PT_LOAD};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, ReadCache, ReadRef};

use crate::error::{Error, Result};
use crate::limits::{ELF_DYNAMIC_SIZE_MAX, ELF_NAME_LENGTH_MAX, ELF_NEEDED_MAX};

/// The names a file of the host asks for, in its order. Reads only the parts it needs.
pub fn needed(path: &Path) -> Result<Vec<String>> {
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let mut magic = [0; 4];
    match file.read_exact(&mut magic) {
        Ok(()) if magic == object::elf::ELFMAG => {}
        Ok(()) => return Ok(Vec::new()),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read", path)(error)),
    }
    Ok(parse(&ReadCache::new(file)))
}

/// The same for bytes.
pub fn needed_by_bytes(bytes: &[u8]) -> Vec<String> {
    parse(bytes)
}

fn parse<'data, R: ReadRef<'data>>(data: R) -> Vec<String> {
    // The fifth byte says how wide addresses are.
    let names = match data.read_bytes_at(4, 1) {
        Ok([1]) => names::<FileHeader32<Endianness>, R>(data),
        Ok([2]) => names::<FileHeader64<Endianness>, R>(data),
        _ => None,
    };
    names.unwrap_or_default()
}

fn names<'data, Elf: FileHeader, R: ReadRef<'data>>(data: R) -> Option<Vec<String>> {
    let header = Elf::parse(data).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, data).ok()?;
    let dynamic = segments.iter().find(|segment| segment.p_type(endian) == PT_DYNAMIC)?;
    if dynamic.p_filesz(endian).into() > ELF_DYNAMIC_SIZE_MAX {
        return None;
    }
    let (mut needed, mut strings) = (Vec::new(), None);
    for entry in dynamic.dynamic(endian, data).ok()?? {
        let tag = entry.d_tag(endian);
        if tag == DT_NULL {
            break;
        } else if tag == DT_STRTAB {
            strings = Some(entry.d_val(endian).into());
        } else if tag == DT_NEEDED && needed.len() < ELF_NEEDED_MAX {
            needed.push(entry.d_val(endian).into());
        }
    }
    // The table's address is a virtual one; a loaded segment says where in the file it is.
    let strings = strings?;
    let (offset, size) = segments.iter().find_map(|segment| {
        let start: u64 = segment.p_vaddr(endian).into();
        let inside = strings.checked_sub(start).filter(|&at| at < segment.p_filesz(endian).into())?;
        let offset: u64 = segment.p_offset(endian).into();
        (segment.p_type(endian) == PT_LOAD)
            .then_some((offset.checked_add(inside)?, segment.p_filesz(endian).into() - inside))
    })?;
    let name = |at: u64| {
        if at >= size {
            return None;
        }
        let start = offset.checked_add(at)?;
        let end = start.checked_add((size - at).min(ELF_NAME_LENGTH_MAX as u64 + 1))?;
        let name = data.read_bytes_at_until(start..end, 0).ok()?;
        let name = std::str::from_utf8(name).ok()?;
        // A library is a file's name; a path would lead elsewhere.
        (!matches!(name, "" | "." | "..") && !name.contains('/')).then(|| name.to_owned())
    };
    Some(needed.into_iter().filter_map(name).collect())
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A shared object that names `libraries`, as small as one can be: header, one loaded segment over the whole
    /// file, the dynamic section, and its strings.
    pub(crate) fn sample(libraries: &[&str], wide: bool, big: bool) -> Vec<u8> {
        const BASE: u64 = 0x40_0000;
        let (header, segment, pair) = if wide { (64, 56, 16) } else { (52, 32, 8) };
        let dynamic = header + 2 * segment;
        let strings = dynamic + (libraries.len() + 2) * pair;
        let mut text = vec![0];
        let mut entries = Vec::new();
        for library in libraries {
            entries.push((1u64, text.len() as u64));
            text.extend_from_slice(library.as_bytes());
            text.push(0);
        }
        entries.extend([(5, BASE + strings as u64), (0, 0)]);
        let size = (strings + text.len()) as u64;

        let mut out = vec![0x7f, b'E', b'L', b'F', 1 + u8::from(wide), 1 + u8::from(big), 1];
        out.resize(16, 0);
        let number = |out: &mut Vec<u8>, value: u64, width: usize| {
            let bytes = value.to_le_bytes();
            if big { out.extend(bytes[..width].iter().rev()) } else { out.extend(&bytes[..width]) }
        };
        let word = if wide { 8 } else { 4 };
        for (value, width) in [(3, 2), (62, 2), (1, 4), (0, word), (header as u64, word), (0, word), (0, 4)] {
            number(&mut out, value, width);
        }
        for value in [header as u64, segment as u64, 2, 0, 0, 0] {
            number(&mut out, value, 2);
        }
        for (kind, offset, size) in [(1, 0, size), (2, dynamic as u64, (entries.len() * pair) as u64)] {
            number(&mut out, kind, 4);
            if wide {
                number(&mut out, 4, 4);
            }
            for value in [offset, BASE + offset, BASE + offset, size, size] {
                number(&mut out, value, word);
            }
            if !wide {
                number(&mut out, 4, 4);
            }
            number(&mut out, 0x1000, word);
        }
        for (tag, value) in entries {
            number(&mut out, tag, word);
            number(&mut out, value, word);
        }
        out.extend(text);
        out
    }

    #[test]
    fn this_test_itself_names_its_libraries() {
        let names = needed(&std::env::current_exe().unwrap()).unwrap();
        assert!(names.iter().any(|name| name.starts_with("libc.so")), "{names:?}");
    }

    #[test]
    fn what_is_no_elf_file_names_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for bytes in [&b""[..], b"#!", b"#!/bin/sh\n", b"\x7fELF", b"\x7fELF\x02\x01\x01"] {
            std::fs::write(file.path(), bytes).unwrap();
            assert!(needed(file.path()).unwrap().is_empty());
        }
        assert!(needed(Path::new("/nowhere/at/all")).is_err());
    }

    #[test]
    fn paths_are_no_libraries() {
        assert_eq!(needed_by_bytes(&sample(&["../x", "/lib/a.so", "", "..", "b.so"], true, false)), ["b.so"]);
    }

    proptest! {
        #[test]
        fn names_come_back(
            names in prop::collection::vec("[a-zA-Z0-9_+.-]{0,20}[a-z]", 0..8), wide: bool, big: bool,
        ) {
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            let bytes = sample(&names, wide, big);
            prop_assert_eq!(&needed_by_bytes(&bytes), &names);
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &bytes).unwrap();
            prop_assert_eq!(&needed(file.path()).unwrap(), &names);
        }

        /// A file and its bytes are read alike, however damaged.
        #[test]
        fn damage_is_survived(wide: bool, big: bool, at in 0usize..400, byte: u8, cut in 0usize..400) {
            let mut bytes = sample(&["libz.so.1", "libcurl.so.4"], wide, big);
            let length = bytes.len();
            bytes[at % length] = byte;
            bytes.truncate(length - cut % length);
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), &bytes).unwrap();
            prop_assert_eq!(needed(file.path()).unwrap(), needed_by_bytes(&bytes));
        }
    }
}

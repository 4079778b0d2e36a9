//! Where in a file two versions of it differ: looks into `ar` archives, tars and ELF files, by name rather than by
//! offset, so that one longer section does not make all after it look different. Anything it cannot read is just
//! bytes.

use std::fmt;

use object::read::archive::ArchiveFile;
use object::{Object, ObjectSection};

use crate::limits::LOCATED_DEPTH_MAX;

/// A place in a file, from outside to inside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub steps: Vec<Step>,
    /// First differing byte, within the innermost step.
    pub offset: u64,
    /// First differing byte of the whole file.
    pub file_offset: u64,
}

/// A named part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Member(String),
    /// Two archives whose members are not the same: the first that differ.
    Members {
        first: Option<String>,
        second: Option<String>,
    },
    Section(String),
    /// Sections only one of the two has.
    Sections {
        first: Option<String>,
        second: Option<String>,
    },
    /// A part that has no name of its own.
    Part(&'static str),
}

impl Place {
    /// A place in a file without parts.
    pub fn at(offset: u64) -> Place {
        Place { steps: Vec::new(), offset, file_offset: offset }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for step in &self.steps {
            match step {
                Step::Member(name) => write!(formatter, "member `{name}`, ")?,
                Step::Section(name) => write!(formatter, "section `{name}`, ")?,
                Step::Part(name) => write!(formatter, "{name}, ")?,
                Step::Members { first, second } => {
                    write!(formatter, "member {} and member {}, ", or_none(first), or_none(second))?;
                }
                Step::Sections { first, second } => {
                    write!(formatter, "section {} and section {}, ", or_none(first), or_none(second))?;
                }
            }
        }
        write!(formatter, "byte {:#x}", self.offset)?;
        if !self.steps.is_empty() {
            write!(formatter, " (of the file: {:#x})", self.file_offset)?;
        }
        Ok(())
    }
}

fn or_none(name: &Option<String>) -> String {
    name.as_ref().map_or("(none)".to_owned(), |name| format!("`{name}`"))
}

/// Index of the first element that is not in both.
pub fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    let common = a.iter().zip(b).position(|(x, y)| x != y);
    common.or_else(|| (a.len() != b.len()).then(|| a.len().min(b.len())))
}

/// The first place where two files differ; `None` where they are the same.
pub fn locate(first: &[u8], second: &[u8]) -> Option<Place> {
    locate_at_depth(first, second, 0)
}

fn locate_at_depth(first: &[u8], second: &[u8], depth: usize) -> Option<Place> {
    let file_offset = first_difference(first, second)? as u64;
    let plain = Place::at(file_offset);
    if depth >= LOCATED_DEPTH_MAX {
        return Some(plain);
    }
    let is_ar = |bytes: &[u8]| bytes.starts_with(b"!<arch>\n");
    let is_elf = |bytes: &[u8]| bytes.starts_with(b"\x7fELF");
    let is_tar = |bytes: &[u8]| bytes.get(257..262) == Some(b"ustar");
    let found = if is_ar(first) && is_ar(second) {
        members(first, second, ar_members, "the archive's own tables", depth)
    } else if is_elf(first) && is_elf(second) {
        sections(first, second)
    } else if is_tar(first) && is_tar(second) {
        members(first, second, tar_members, "the headers of the members", depth)
    } else {
        None
    };
    Some(match found {
        Some((steps, offset)) => Place { steps, offset, file_offset },
        None => plain,
    })
}

type Found = Option<(Vec<Step>, u64)>;
type Parts<'a> = Vec<(String, &'a [u8])>;

fn members<'a>(
    first: &'a [u8],
    second: &'a [u8],
    read: fn(&'a [u8]) -> Option<Parts<'a>>,
    rest: &'static str,
    depth: usize,
) -> Found {
    let (a, b) = (read(first)?, read(second)?);
    for index in 0..a.len().max(b.len()) {
        let names = (a.get(index).map(|part| &part.0), b.get(index).map(|part| &part.0));
        if names.0 != names.1 {
            let step = Step::Members { first: names.0.cloned(), second: names.1.cloned() };
            return Some((vec![step], 0));
        }
        if let Some(place) = locate_at_depth(a[index].1, b[index].1, depth + 1) {
            let mut steps = vec![Step::Member(a[index].0.clone())];
            steps.extend(place.steps);
            return Some((steps, place.offset));
        }
    }
    Some((vec![Step::Part(rest)], first_difference(first, second)? as u64))
}

fn ar_members(bytes: &[u8]) -> Option<Parts<'_>> {
    let archive = ArchiveFile::parse(bytes).ok()?;
    let mut parts = Vec::new();
    for member in archive.members() {
        let member = member.ok()?;
        parts.push((String::from_utf8_lossy(member.name()).into_owned(), member.data(bytes).ok()?));
    }
    Some(parts)
}

fn tar_members(bytes: &[u8]) -> Option<Parts<'_>> {
    let mut archive = tar::Archive::new(bytes);
    let mut parts = Vec::new();
    for entry in archive.entries().ok()? {
        let entry = entry.ok()?;
        let start = usize::try_from(entry.raw_file_position()).ok()?;
        let end = start.checked_add(usize::try_from(entry.size()).ok()?)?;
        // Only files have contents of their own in the archive.
        let contents = if entry.header().entry_type().is_file() { bytes.get(start..end)? } else { &[] };
        parts.push((String::from_utf8_lossy(&entry.path_bytes()).into_owned(), contents));
    }
    Some(parts)
}

fn sections(first: &[u8], second: &[u8]) -> Found {
    let (a, b) = (elf_sections(first)?, elf_sections(second)?);
    for index in 0..a.len().max(b.len()) {
        let names = (a.get(index).map(|part| &part.0), b.get(index).map(|part| &part.0));
        if names.0 != names.1 {
            let step = Step::Sections { first: names.0.cloned(), second: names.1.cloned() };
            return Some((vec![step], 0));
        }
        if let Some(offset) = first_difference(a[index].1, b[index].1) {
            return Some((vec![Step::Section(a[index].0.clone())], offset as u64));
        }
    }
    Some((
        vec![Step::Part("outside all sections (ELF headers or padding)")],
        first_difference(first, second)? as u64,
    ))
}

/// Sections with contents in the file, in the file's own order of headers.
fn elf_sections(bytes: &[u8]) -> Option<Parts<'_>> {
    let file = object::read::File::parse(bytes).ok()?;
    let mut parts = Vec::new();
    for section in file.sections() {
        let name = section.name_bytes().map(String::from_utf8_lossy).unwrap_or_default().into_owned();
        parts.push((name, section.data().unwrap_or_default()));
    }
    Some(parts)
}

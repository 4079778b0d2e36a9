//! The list of files an image carries about itself: one line per regular file and symbolic link. Compares nothing; the
//! reader of a disk does.

use alloc::string::String;
use core::fmt;

use crate::text::parse_digest;

/// Where the manifest lies in the image; it does not list itself.
pub const MANIFEST_PATH: &str = "usr/share/rednix/manifest";

/// What one line states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    File { path: String, sha256: [u8; 32], size: u64, mode: u16 },
    Link { path: String, target: String },
}

impl Entry {
    pub fn path(&self) -> &str {
        match self {
            Entry::File { path, .. } | Entry::Link { path, .. } => path,
        }
    }
}

/// A line that is none, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ManifestError {
    pub line: usize,
}

impl fmt::Display for ManifestError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {} of the manifest is malformed", self.line)
    }
}

/// The entries of a manifest, each line `<sha256> <size> <octal mode> <path>` or
/// `link <length of target> 120777 <path> -> <target>`.
pub fn parse(text: &[u8]) -> impl Iterator<Item = Result<Entry, ManifestError>> + '_ {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let lines = (!text.is_empty()).then(|| text.split(|&byte| byte == b'\n'));
    lines.into_iter().flatten().enumerate().map(|(index, line)| {
        core::str::from_utf8(line).ok().and_then(parse_line).ok_or(ManifestError { line: index + 1 })
    })
}

fn parse_line(line: &str) -> Option<Entry> {
    let mut fields = line.splitn(4, ' ');
    let (kind, size, mode, rest) = (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
    let size: u64 = size.parse().ok()?;
    let mode = u16::from_str_radix(mode, 8).ok()?;
    if kind == "link" {
        // The length says where the target starts, whatever arrows the names hold.
        let start = rest.len().checked_sub(usize::try_from(size).ok()?)?;
        let path = rest.get(..start)?.strip_suffix(" -> ")?;
        return checked_path(path).map(|path| Entry::Link { path, target: rest[start..].into() });
    }
    let sha256 = parse_digest(kind)?;
    checked_path(rest).map(|path| Entry::File { path, sha256, size, mode })
}

fn checked_path(path: &str) -> Option<String> {
    (!path.is_empty() && !path.starts_with('/')).then(|| path.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn zeroes() -> String {
        "0".repeat(64)
    }

    #[test]
    fn lines() {
        let text = std::format!(
            "{} 5 100644 etc/a b\n{} 0 100755 usr/bin/sh\nlink 9 120777 x -> y -> ../z -> q\n",
            zeroes(),
            zeroes()
        );
        let entries: Vec<Entry> = parse(text.as_bytes()).map(|entry| entry.expect("a good line")).collect();
        assert_eq!(
            entries,
            [
                Entry::File { path: "etc/a b".into(), sha256: [0; 32], size: 5, mode: 0o100644 },
                Entry::File { path: "usr/bin/sh".into(), sha256: [0; 32], size: 0, mode: 0o100755 },
                Entry::Link { path: "x -> y".into(), target: "../z -> q".into() },
            ]
        );
        assert_eq!(parse(b"").count(), 0);
    }

    #[test]
    fn malformed_lines_are_named() {
        for wrong in ["", "link 3 120777 a -> b", "link 1 120777 a", "00 1 100644 a", "x y z w"] {
            let text = std::format!("{} 5 100644 a\n{wrong}\n", zeroes());
            let error = parse(text.as_bytes()).find_map(Result::err);
            assert_eq!(error, Some(ManifestError { line: 2 }), "{wrong:?}");
        }
        let absolute = std::format!("{} 5 100644 /a\n", zeroes());
        assert_eq!(parse(absolute.as_bytes()).find_map(Result::err), Some(ManifestError { line: 1 }));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(link |[0-9]{1,3} |120777 |->|é|\n| ){0,40}") {
            let _ = parse(text.as_bytes()).count();
        }
    }
}

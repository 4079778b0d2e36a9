//! Debian packages as trees: the data archive of a `.deb`, with `/usr` merged.
//!
//! Runs no maintainer script and reads no control data: a build root is files.

use std::borrow::Cow;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Component, Path, PathBuf};

use tar::EntryType;

use super::ar::ArReader;
use super::tar::{Layout, unpack_stream};
use super::writer::TreeWriter;
use super::{Error, attributes};
use crate::limits;

/// Attributes of `builtin:rednix-unpack-deb`.
#[derive(serde::Deserialize)]
struct Attributes {
    src: PathBuf,
}

/// `builtin:rednix-unpack-deb`: the files of a package as a tree.
pub fn unpack_deb(value: &serde_json::Value, output: &Path) -> Result<(), Error> {
    let attributes: Attributes = attributes("builtin:rednix-unpack-deb", value)?;
    let mut writer = TreeWriter::create(output)?;
    unpack_deb_file(&attributes.src, &mut writer)
}

/// Unpacks a `.deb` into a writer, in one pass over the file.
pub fn unpack_deb_file(package: &Path, writer: &mut TreeWriter) -> Result<(), Error> {
    let wrong = |reason: String| Error::Archive { archive: package.to_path_buf(), reason };
    let file = File::open(package).map_err(|error| Error::io("open", package, error))?;
    let file = BufReader::with_capacity(limits::BUFFER_BYTES, file);
    let mut members = ArReader::new(file).map_err(|error| wrong(error.to_string()))?;
    let mut is_first = true;
    while let Some(member) = members.next_member().map_err(|error| wrong(error.to_string()))? {
        if is_first {
            let mut version = String::new();
            let read = (&mut members).take(16).read_to_string(&mut version);
            if member.name != "debian-binary" || read.is_err() || !version.starts_with("2.") {
                return Err(wrong("it is no Debian package of format 2".to_owned()));
            }
            is_first = false;
        } else if member.name == "data.tar" || member.name.starts_with("data.tar.") {
            return unpack_stream(package, &mut members, writer, &UsrMerge);
        }
    }
    Err(wrong("it has no data archive".to_owned()))
}

/// The folders that are links into `/usr` on a merged system.
const MERGED: [&str; 6] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"];

fn is_merged(component: Option<Component>) -> bool {
    matches!(component, Some(Component::Normal(name)) if MERGED.iter().any(|merged| name == *merged))
}

/// Puts `/bin/x` at `/usr/bin/x`. The links `/bin` → `usr/bin` themselves stay where they are.
#[derive(Clone, Copy, Debug)]
pub struct UsrMerge;

impl UsrMerge {
    fn merge(path: &Path) -> Cow<'_, Path> {
        if is_merged(path.components().next()) {
            Cow::Owned(Path::new("usr").join(path))
        } else {
            Cow::Borrowed(path)
        }
    }
}

impl Layout for UsrMerge {
    fn place(&self, path: &Path, kind: EntryType) -> Option<PathBuf> {
        if kind == EntryType::Symlink && path.components().count() == 1 {
            return Some(path.to_path_buf());
        }
        Some(Self::merge(path).into_owned())
    }

    /// A link that moved one folder down and climbs to the root must climb one step more.
    fn target<'t>(&self, path: &Path, place: &Path, target: &'t Path) -> Cow<'t, Path> {
        if path == place || target.is_absolute() {
            return Cow::Borrowed(target);
        }
        let depth = path.components().count() - 1;
        let climbs = target.components().take_while(|part| *part == Component::ParentDir).count();
        if climbs < depth {
            return Cow::Borrowed(target);
        }
        let below: PathBuf = target.components().skip(climbs).collect();
        let climb: PathBuf = std::iter::repeat_n("..", place.components().count() - 1).collect();
        Cow::Owned(climb.join(Self::merge(&below)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merged_places_and_targets() {
        let regular = EntryType::Regular;
        let places = [
            ("bin/sh", regular, "usr/bin/sh"),
            ("lib", EntryType::Directory, "usr/lib"),
            ("lib", EntryType::Symlink, "lib"),
            ("library/x", regular, "library/x"),
            ("usr/bin/x", regular, "usr/bin/x"),
            ("lib64/ld.so", EntryType::Symlink, "usr/lib64/ld.so"),
        ];
        for (path, kind, expected) in places {
            assert_eq!(UsrMerge.place(Path::new(path), kind).unwrap(), Path::new(expected), "{path}");
        }
        let targets = [
            ("lib/x/a.so", "a.so.1", "a.so.1"),
            ("lib/x/a.so", "../y/b", "../y/b"),
            ("lib/x/a.so", "../../usr/share/b", "../../../usr/share/b"),
            ("lib/x/a.so", "../../bin/b", "../../../usr/bin/b"),
            ("bin/a", "../lib/b", "../../usr/lib/b"),
            ("bin/a", "/lib/b", "/lib/b"),
            ("usr/bin/a", "../../lib/b", "../../lib/b"),
        ];
        for (path, target, expected) in targets {
            let place = UsrMerge.place(Path::new(path), EntryType::Symlink).unwrap();
            assert_eq!(
                UsrMerge.target(Path::new(path), &place, Path::new(target)),
                Path::new(expected),
                "{path} -> {target}"
            );
        }
    }
}

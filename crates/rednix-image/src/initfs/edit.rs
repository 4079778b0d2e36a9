//! Changes an initfs image that is there: files are added, texts grow, everything else stays as it was, the bootstrap
//! program to the byte. It does not know what the files mean.

use super::{BOOTSTRAP_ENTRY_OFFSET, Entry, Header, Node, PAGE_SIZE, read, write};
use crate::error::{Error, Result};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new file. One of that name with the same contents may be there.
    Add { path: String, data: Vec<u8>, executable: bool },
    /// Text at the end of the first of these files that is there, on a line of its own.
    Append { paths: Vec<String>, text: String, optional: bool },
}

/// The changed image, in the format it had, and a sentence for each change that was made. Equal input gives equal bytes.
pub fn edit(image: &[u8], changes: &[Change]) -> Result<(Vec<u8>, Vec<String>)> {
    let (header, mut entries) = read::parse(image)?;
    let bootstrap = bootstrap(image, &header)?;
    let mut notes = Vec::new();
    for change in changes {
        notes.extend(apply(change, &mut entries)?);
    }
    let image = write::build_with(header.format, bootstrap, header.bootstrap_entry, &entries)?;
    Ok((image, notes))
}

fn apply(change: &Change, entries: &mut Vec<Entry>) -> Result<Option<String>> {
    match change {
        Change::Add { path, data, executable } => {
            let node = Node::File { data: data.clone(), executable: *executable };
            match entries.iter().find(|entry| entry.path == *path) {
                Some(entry) if entry.node == node => return Ok(None),
                Some(_) => {
                    return Err(Error::malformed(
                        "initfs",
                        format!("it has another `{path}` already, which is not replaced"),
                    ));
                }
                None => entries.push(Entry { path: path.clone(), node }),
            }
            Ok(Some(format!("initfs: added `{path}`")))
        }
        Change::Append { paths, text, optional } => {
            let found = paths.iter().find_map(|path| entries.iter().position(|entry| entry.path == *path));
            let Some(index) = found else {
                let named: Vec<String> = paths.iter().map(|path| format!("`{path}`")).collect();
                let missing = || format!("it has no {} to add to", named.join(" or "));
                return if *optional { Ok(None) } else { Err(Error::malformed("initfs", missing())) };
            };
            let entry = &mut entries[index];
            let Node::File { data, .. } = &mut entry.node else {
                return Err(Error::malformed("initfs", format!("`{}` is no file to add to", entry.path)));
            };
            if data.last().is_some_and(|last| *last != b'\n') {
                data.push(b'\n');
            }
            data.extend_from_slice(text.as_bytes());
            Ok(Some(format!("initfs: added to `{}`", entry.path)))
        }
    }
}

/// The bootstrap program's pages: from page 1 to whatever comes first after them. Its length stands nowhere.
fn bootstrap<'a>(image: &'a [u8], header: &Header) -> Result<Option<&'a [u8]>> {
    let end = read::first_offset(image, header)?;
    match image.get(PAGE_SIZE..end).filter(|pages| !pages.is_empty()) {
        Some(pages) => Ok(Some(pages)),
        None if header.bootstrap_entry == 0 => Ok(None),
        None => Err(Error::malformed(
            "initfs",
            format!("it has a program's entry at {BOOTSTRAP_ENTRY_OFFSET:#x}, but no program on page 1"),
        )),
    }
}

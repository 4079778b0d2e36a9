//! What a system adds to the initfs that one of its packages brings: files, and lines at the end of texts. The package
//! is not touched; the image gets a changed copy. It does not know what an initfs of a certain age has in it.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::initfs::{self, Change};
use crate::limits::INITFS_SIZE_MAX;
use crate::loaders::FOLDERS;
use crate::tree::{Content, Entry, Node, Tree, join};

/// One addition: `source` or `text` make a file of the first path; `append` is text for the first path that is there.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Addition {
    paths: Vec<String>,
    source: Option<PathBuf>,
    text: Option<String>,
    append: Option<String>,
    #[serde(default)]
    executable: bool,
    /// Nothing to append to is no error.
    #[serde(default)]
    optional: bool,
}

impl Addition {
    fn change(&self) -> Result<Change> {
        let first = self.paths.first().ok_or_else(|| fail("an addition has no path"))?;
        let add = |data| Change::Add { path: first.clone(), data, executable: self.executable };
        match (&self.source, &self.text, &self.append) {
            (Some(source), None, None) => Ok(add(read_bounded(source)?)),
            (None, Some(text), None) => Ok(add(text.clone().into_bytes())),
            (None, None, Some(text)) => {
                Ok(Change::Append { paths: self.paths.clone(), text: text.clone(), optional: self.optional })
            }
            _ => Err(fail(&format!("the addition `{first}` needs one of `source`, `text` and `append`"))),
        }
    }
}

fn fail(message: &str) -> Error {
    Error::Attributes { builder: "builtin:rednix-image", message: message.to_owned() }
}

/// Changes every initfs in the tree, and says what was done.
pub(crate) fn apply(tree: &mut Tree, additions: &[Addition]) -> Result<Vec<String>> {
    if additions.is_empty() {
        return Ok(Vec::new());
    }
    let changes: Vec<Change> = additions.iter().map(Addition::change).collect::<Result<_>>()?;
    let mut notes = Vec::new();
    let mut found = false;
    for folder in FOLDERS {
        let path = join(folder, "initfs");
        let Some(Entry { node: Node::File(content), .. }) = tree.get_mut(&path) else { continue };
        let (changed, said) = initfs::edit(&read_content(content, &path)?, &changes)?;
        *content = Content::Bytes(changed);
        // Of two equal ones one is enough to hear of.
        if !found {
            notes = said;
        }
        found = true;
    }
    if !found {
        return Err(Error::Config(
            "no package brings an initfs, so nothing can be added to it\n\nhint: add the package `base`, or take `rednix.virtio` out".into(),
        ));
    }
    Ok(notes)
}

fn read_content(content: &Content, path: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut reader = content.open()?.take(INITFS_SIZE_MAX + 1);
    reader.read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > INITFS_SIZE_MAX {
        return Err(Error::malformed("initfs", format!("`/{path}` is larger than an initfs may be")));
    }
    Ok(bytes)
}

fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let size = fs::metadata(path).map_err(Error::io("inspect", path))?.len();
    if size > INITFS_SIZE_MAX {
        return Err(Error::malformed(
            "initfs",
            format!("`{}` is larger than an initfs may be", path.display()),
        ));
    }
    fs::read(path).map_err(Error::io("read", path))
}

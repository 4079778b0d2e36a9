//! Which working copies there are: per recipe tree, in the user's own state and not in the tree. It builds nothing;
//! how a copy is built is in `rednix_build::work`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use rednix_store::hash::Hash;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::failure::Failure;
use crate::project::Project;

const FORMAT_VERSION: u32 = 1;

/// A working copy with its contents as they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    pub recipe: String,
    pub folder: PathBuf,
    pub kept: PathBuf,
    pub generation: u64,
    /// Hash of everything in it.
    pub content: String,
}

impl Copy {
    /// What derivations call it. Another after what was kept of builds is thrown away: nothing built before is taken
    /// for what would be built then.
    pub fn key(&self) -> String {
        format!("{}#{}", self.recipe, self.generation)
    }
}

/// A working copy as it is remembered. Folders are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Entry {
    pub folder: PathBuf,
    pub kept: PathBuf,
    /// The commit that holds the source as it was put there; none where the folder was there before.
    pub base: Option<String>,
    pub generation: u64,
}

/// All copies of one tree.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    format_version: u32,
    /// For people who look.
    tree: PathBuf,
    pub copies: BTreeMap<String, Entry>,
}

impl State {
    pub fn read(config: &Config, project: &Project) -> Result<State, Failure> {
        let tree = project.tree_key();
        let file = file_of(config, &tree);
        let text = match std::fs::read(&file) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(State { format_version: FORMAT_VERSION, tree, copies: BTreeMap::new() });
            }
            Err(error) => {
                return Err(Failure::usage(format!("cannot read `{}`: {error}", file.display())));
            }
        };
        parse(&text).map_err(|reason| {
            Failure::usage(format!("`{}` is not as rednix writes it: {reason}", file.display())).hint(
                "delete the file to forget the working copies of that tree; the folders themselves stay",
            )
        })
    }

    pub fn write(&self, config: &Config) -> Result<(), Failure> {
        let file = file_of(config, &self.tree);
        let failed = |e: std::io::Error| Failure::failed(format!("cannot write `{}`: {e}", file.display()));
        let folder = file.parent().expect("the file lies in a folder");
        std::fs::create_dir_all(folder).map_err(failed)?;
        let text = serde_json::to_vec_pretty(self).expect("the state holds only text and numbers");
        let mut temporary = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        temporary.write_all(&text).map_err(failed)?;
        temporary.persist(&file).map_err(|e| failed(e.error))?;
        Ok(())
    }
}

fn file_of(config: &Config, tree: &Path) -> PathBuf {
    let name = Hash::sha256(tree.as_os_str().as_encoded_bytes()).to_nix32();
    config.state.join("work").join(format!("{}.json", &name[..20]))
}

fn parse(text: &[u8]) -> Result<State, String> {
    // The version first: a newer file may have anything else in it.
    let value: serde_json::Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    match value["formatVersion"].as_u64() {
        Some(version) if version == u64::from(FORMAT_VERSION) => {}
        _ => return Err("its format is not one this rednix knows".to_owned()),
    }
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// The copies of a project's tree, looked at now.
pub fn copies(config: &Config, project: &Project) -> Result<Vec<Copy>, Failure> {
    let state = State::read(config, project)?;
    state.copies.into_iter().map(|(recipe, entry)| look(recipe, entry)).collect()
}

fn look(recipe: String, entry: Entry) -> Result<Copy, Failure> {
    let Entry { folder, kept, generation, .. } = entry;
    if !folder.is_dir() {
        let message = format!("the working copy of `{recipe}`, `{}`, is gone", folder.display());
        let hint = format!("`rednix work --done {recipe}` goes back to the recipe's own source");
        return Err(Failure::usage(message).hint(hint));
    }
    let content = rednix_build::work::scan(&folder, &kept)?.content.to_sri();
    Ok(Copy { recipe, folder, kept, generation, content })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_written_is_read_back_and_newer_is_refused() {
        let entry = Entry { folder: "/w".into(), kept: "/w.build".into(), base: None, generation: 3 };
        let copies = BTreeMap::from([("kernel".to_owned(), entry)]);
        let state = State { format_version: FORMAT_VERSION, tree: "/t".into(), copies };
        let text = serde_json::to_vec(&state).unwrap();
        assert_eq!(parse(&text).unwrap(), state);
        let newer = String::from_utf8(text).unwrap().replace("\"formatVersion\":1", "\"formatVersion\":2");
        assert!(parse(newer.as_bytes()).unwrap_err().contains("format"));
    }

    proptest! {
        #[test]
        fn reading_never_panics(text: String) {
            let _ = parse(text.as_bytes());
        }
    }
}

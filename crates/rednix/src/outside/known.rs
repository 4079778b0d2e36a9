//! What sources came to, remembered between runs: a pinned one for ever, others while they are fresh.
//!
//! Only hints: what they name must still be in the store, and may be deleted at any time.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rednix_flake::{Attributes, Input, Kind};
use rednix_store::hash::Hash;
use rednix_store::path::StorePath;
use serde_json::{Value, json};

const VERSION: u64 = 1;

pub struct Known {
    folder: PathBuf,
    fresh_s: u64,
}

impl Known {
    pub fn new(cache: &Path, fresh_s: u64) -> Known {
        Known { folder: cache.join("known"), fresh_s }
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{}.json", Hash::sha256(key.as_bytes()).to_nix32()))
    }

    fn read(&self, key: &str, for_ever: bool) -> Option<Value> {
        let json: Value = serde_json::from_slice(&std::fs::read(self.path(key)).ok()?).ok()?;
        let is_fresh = for_ever || now_s().saturating_sub(json["time"].as_u64()?) < self.fresh_s;
        (json["version"] == VERSION && json["key"] == key && is_fresh).then_some(json)
    }

    fn write(&self, key: &str, mut json: Value) {
        json["version"] = VERSION.into();
        json["key"] = key.into();
        json["time"] = now_s().into();
        // A hint that cannot be kept costs time, nothing else.
        let _ = std::fs::create_dir_all(&self.folder).and_then(|()| {
            let draft = tempfile::NamedTempFile::new_in(&self.folder)?;
            std::fs::write(draft.path(), json.to_string())?;
            draft.persist(self.path(key)).map(drop).map_err(|error| error.error)
        });
    }

    pub fn tree(&self, input: &Input) -> Option<Attributes> {
        let (key, for_ever) = key(input)?;
        let json = self.read(&key, for_ever)?;
        let found = Attributes::from_json(&json["attributes"]).ok()?;
        // What was asked for comes first; what is known completes it.
        let mut attributes = input.attributes.clone();
        for (name, value) in found.0 {
            let is_answer = ["rev", "revCount", "lastModified", "narHash", "ref"].contains(&name.as_str());
            if is_answer && (!attributes.has(&name) || name == "narHash") {
                attributes.0.insert(name, value);
            }
        }
        if matches!(input.kind(), Kind::GitHub | Kind::GitLab | Kind::SourceHut) {
            attributes.remove("ref");
        }
        Some(attributes)
    }

    pub fn note_tree(&self, input: &Input, result: &Attributes) {
        if let Some((key, _)) = key(input) {
            self.write(&key, json!({ "attributes": result.to_json() }));
        }
    }

    pub fn file(&self, key: &str) -> Option<StorePath> {
        StorePath::parse(self.read(key, false)?["path"].as_str()?).ok()
    }

    pub fn note_file(&self, key: &str, path: &StorePath) {
        self.write(key, json!({ "path": path.to_string() }));
    }
}

/// What an input is remembered by, and whether that stands for the same contents for ever.
fn key(input: &Input) -> Option<(String, bool)> {
    let mut attributes = input.attributes.clone();
    for name in ["narHash", "lastModified", "revCount"] {
        attributes.remove(name);
    }
    let pinned = input.rev().ok().flatten().is_some();
    let text = attributes.to_json().to_string();
    match input.kind() {
        // The working tree of a repository and a branch are looked at each time: both cost little.
        Kind::Git => pinned.then_some((text, true)),
        Kind::GitHub | Kind::GitLab | Kind::SourceHut => Some((text, pinned)),
        Kind::Tarball | Kind::File if !input.text("url")?.starts_with("file:") => Some((text, false)),
        _ => None,
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

//! One remembered evaluation as a file has it: its own hash on a line, then JSON. Says nothing about whether it holds.

use serde::{Deserialize, Serialize};

use rednix_store::hash::Hash;

use super::reads::Read;

/// Changes with every change of what is in an entry, or what it means.
pub const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
pub struct Entry {
    pub version: u32,
    pub reads: Vec<Read>,
    pub valid: Vec<String>,
    pub messages: Vec<String>,
    /// One for each part.
    pub results: Vec<String>,
}

impl Entry {
    /// Nothing where the text is damaged, or of another version.
    pub fn parse(bytes: &[u8]) -> Option<Entry> {
        let line = bytes.iter().position(|&byte| byte == b'\n')?;
        let (hash, text) = (&bytes[..line], &bytes[line + 1..]);
        if Hash::sha256(text).to_nix32().as_bytes() != hash {
            return None;
        }
        let entry: Entry = serde_json::from_slice(text).ok()?;
        (entry.version == VERSION).then_some(entry)
    }

    pub fn write(&self) -> serde_json::Result<Vec<u8>> {
        let text = serde_json::to_vec(self)?;
        let mut written = Hash::sha256(&text).to_nix32().into_bytes();
        written.push(b'\n');
        written.extend(text);
        Ok(written)
    }
}

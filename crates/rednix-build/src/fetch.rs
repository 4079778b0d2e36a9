//! Fixed outputs that come from the network: what the scheduler asks for, and the trait that answers. It
//! speaks no protocol; whoever implements [`Fetch`] does, and what arrives is checked here again.

use std::path::PathBuf;

use rednix_events::Events;
use rednix_store::hash::Hash;
use rednix_store::path::{ContentMethod, StorePath};
use serde_json::{Map, Value};

use crate::cancel::CancelToken;

/// One fixed output to be fetched.
#[derive(Clone, Debug)]
pub struct FetchRequest {
    /// The derivation that wants it.
    pub derivation: StorePath,
    /// Name of the output.
    pub name: String,
    /// The builder without `builtin:`, such as `fetchurl`.
    pub builder: String,
    /// The derivation's attributes: structured ones, or its variables as texts.
    pub attributes: Map<String, Value>,
    pub method: ContentMethod,
    /// Over the file for [`ContentMethod::Flat`], over the NAR of the tree for [`ContentMethod::Recursive`].
    pub hash: Hash,
    /// The file or folder to create; its parent exists, is private, and is on the store's file system.
    pub destination: PathBuf,
}

impl FetchRequest {
    /// The attributes `urls` or `url` as a list.
    pub fn urls(&self) -> Vec<String> {
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        match (self.attributes.get("urls"), self.attributes.get("url")) {
            (Some(Value::Array(list)), _) => {
                list.iter().filter_map(|entry| entry.as_str().map(str::to_owned)).collect()
            }
            (Some(Value::String(text)), _) if !text.is_empty() => words(text),
            (_, Some(Value::String(text))) => words(text),
            _ => Vec::new(),
        }
    }

    /// Whether an attribute is set, however the derivation spells it.
    pub fn flag(&self, name: &str) -> bool {
        match self.attributes.get(name) {
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) => text == "1",
            _ => false,
        }
    }

    /// Size of the file where the derivation tells it, for progress.
    pub fn size_bytes(&self) -> Option<u64> {
        match self.attributes.get("size") {
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.parse().ok(),
            _ => None,
        }
    }
}

/// Brings fixed outputs here. The binary implements it.
pub trait Fetch: Send + Sync {
    /// Whether derivations with this builder (without `builtin:`) are fetched rather than built.
    fn handles(&self, builder: &str) -> bool;

    /// Fetches all requests, as many at a time as it sees fit, and calls `done` exactly once for each (by
    /// index, from any thread) as soon as its destination is complete. An error's text ends with what to do.
    fn fetch(
        &self,
        requests: &[FetchRequest],
        cancel: &CancelToken,
        events: &Events,
        done: &(dyn Fn(usize, Result<(), String>) + Sync),
    );
}

/// Fetches nothing: for stores that have everything, and for tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFetch;

impl Fetch for NoFetch {
    fn handles(&self, builder: &str) -> bool {
        builder == "fetchurl"
    }

    fn fetch(
        &self,
        requests: &[FetchRequest],
        _: &CancelToken,
        _: &Events,
        done: &(dyn Fn(usize, Result<(), String>) + Sync),
    ) {
        for (index, request) in requests.iter().enumerate() {
            done(index, Err(format!("nothing is fetched here, but `{}` is missing", request.name)));
        }
    }
}

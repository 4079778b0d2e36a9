//! What the system's own package manager finds about the packages it was installed with: `/etc/pkg/packages.toml`
//! and `/var/lib/packages/*.pkgar_head`, in upstream's formats. It installs nothing.
//!
//! A `pkg` from before 2026-02-25 looks for the heads in `/pkg/packages`. The program in the image says which.
//!
//! Heads are signed, and an image is a pure function of its inputs, so no secret key can have a part in it. They are
//! signed with a key that anybody can derive. That is sound, because the signature protects nothing here: whoever
//! can change a head in an installed system is its administrator. The key is listed for a remote whose name has a
//! colon, which no server's name can have, so nothing that is downloaded is ever checked against it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Serialize;

use crate::closure::{Closure, Reason};
use crate::error::{Error, Result};
use crate::limits::{HASH_THREADS_MAX, PACKAGE_MANAGER_SIZE_MAX};
use crate::manifest::hex;
use crate::pkgar::{Contents, SecretKey};
use crate::repository;
use crate::tree::{Content, Entry, Node, Tree, join};

const ORIGIN: &str = "package state";
const STATE: &str = "etc/pkg/packages.toml";
const HEADS: &str = "var/lib/packages";
/// Where programs of before 2026-02-25 keep them.
const HEADS_BEFORE: &str = "pkg/packages";
const MANAGER: &str = "usr/bin/pkg";
/// The remote that installed the packages of an image.
pub const REMOTE: &str = "rednix:image";
/// Packages the package manager never removes by accident; upstream's own list.
const PROTECTED: [&str; 8] = ["base", "base-initfs", "ion", "kernel", "libgcc", "libstdcxx", "pkg", "relibc"];

/// The key heads in images are signed with. It is no secret.
pub fn public_knowledge_key() -> SecretKey {
    SecretKey::from_seed(blake3::derive_key("rednix image: heads of installed packages, version 1", b""))
}

/// The packages' files as archives would list them, by package name; meta packages have none.
#[derive(Debug)]
pub struct State {
    pub contents: BTreeMap<String, Contents>,
}

impl State {
    /// Reads and hashes all packages of a closure, in parallel.
    pub fn read(closure: &Closure<'_>) -> Result<Self> {
        let members: Vec<_> = closure
            .members
            .iter()
            .filter_map(|member| Some((&member.package.name, member.package.path.as_deref()?)))
            .collect();
        let threads = std::thread::available_parallelism().map_or(1, |n| n.get()).min(HASH_THREADS_MAX);
        let next = AtomicUsize::new(0);
        let results = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some((name, folder)) = members.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let contents = Contents::read(folder);
                        results.lock().expect("no holder panics").insert((*name).clone(), contents);
                    }
                });
            }
        });
        let results = results.into_inner().expect("no holder panics");
        let named = results.into_iter().map(|(name, contents)| match contents {
            Ok(contents) => Ok((name, contents)),
            Err(Error::Malformed { what, message }) => {
                Err(Error::Malformed { what, message: format!("package {name}: {message}") })
            }
            Err(other) => Err(other),
        });
        Ok(State { contents: named.collect::<Result<_>>()? })
    }

    /// A name for exactly these packages.
    pub fn build_id(&self) -> String {
        repository::build_id(
            self.contents.iter().map(|(name, contents)| (name.as_str(), &contents.head.hash)),
        )
    }

    /// Puts the record and the heads into the tree.
    pub fn place(&self, tree: &mut Tree, closure: &Closure<'_>) -> Result<()> {
        let key = public_knowledge_key();
        let heads = tree.make_directories(heads_folder(tree)?, ORIGIN)?;
        for (name, contents) in &self.contents {
            let bytes = Content::Bytes(contents.head.encode(&key));
            tree.put(&join(&heads, &format!("{name}.pkgar_head")), Entry::file(bytes, 0o644, ORIGIN))?;
        }
        let folder = tree.make_directories(crate::tree::parent_of(STATE), ORIGIN)?;
        let text = self.record(closure, &hex(&key.public().0));
        tree.put(
            &join(&folder, "packages.toml"),
            Entry::file(Content::Bytes(text.into_bytes()), 0o644, ORIGIN),
        )
    }

    fn record(&self, closure: &Closure<'_>, key: &str) -> String {
        #[derive(Serialize)]
        struct Record<'a> {
            protected: [&'a str; 8],
            pubkeys: BTreeMap<&'a str, BTreeMap<&'a str, &'a str>>,
            installed: BTreeMap<&'a str, Installed<'a>>,
        }
        #[derive(Serialize)]
        struct Installed<'a> {
            remote: &'a str,
            blake3: String,
            manual: bool,
            storage_size: u64,
            dependencies: BTreeSet<&'a str>,
            dependents: BTreeSet<&'a str>,
        }
        let installed = closure.members.iter().map(|member| {
            let name = member.package.name.as_str();
            let head = self.contents.get(name).map(|contents| &contents.head);
            let depends_on_it =
                closure.members.iter().filter(|other| other.depends.iter().any(|d| d == name));
            let installed = Installed {
                remote: REMOTE,
                blake3: head.map(|head| head.hash_hex()).unwrap_or_default(),
                manual: member.reason == Reason::Listed,
                storage_size: head.map_or(0, |head| head.archive_size()),
                dependencies: member.depends.iter().map(String::as_str).collect(),
                dependents: depends_on_it.map(|other| other.package.name.as_str()).collect(),
            };
            (name, installed)
        });
        let record = Record {
            protected: PROTECTED,
            pubkeys: BTreeMap::from([(REMOTE, BTreeMap::from([("pkey", key)]))]),
            installed: installed.collect(),
        };
        toml::to_string(&record).expect("a record is tables of texts and numbers")
    }
}

/// Where the image's own package manager looks for heads: the folder is named in the program. Without one, where the
/// present one does.
fn heads_folder(tree: &Tree) -> Result<&'static str> {
    let Some(Entry { node: Node::File(content), .. }) = tree.get(MANAGER) else { return Ok(HEADS) };
    if content.size() > PACKAGE_MANAGER_SIZE_MAX {
        return Ok(HEADS);
    }
    let program = match content {
        Content::Bytes(bytes) => bytes.clone(),
        Content::Host { path, .. } => std::fs::read(path).map_err(Error::io("read", path))?,
    };
    let names = |folder: &str| program.windows(folder.len()).any(|bytes| bytes == folder.as_bytes());
    Ok(if !names(HEADS) && names(HEADS_BEFORE) { HEADS_BEFORE } else { HEADS })
}

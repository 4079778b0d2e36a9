//! A world that notes what is read of another one. What it cannot note makes the evaluation one that is not
//! remembered.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rednix_eval::{AddPath, FetchedTree, FileKind, FileRequest, FlakeSources, World, WorldResult};
use rednix_flake::{FlakeRef, Input};
use rednix_store::derivation::Derivation;
use rednix_store::path::{STORE_DIR, StorePath};

use super::reads::{Identity, Read};
use crate::world::StoreWorld;

/// What was read so far, by what it was.
#[derive(Debug, Default)]
pub struct Noted {
    pub reads: BTreeMap<(u8, PathBuf), Read>,
    /// Store paths that the result leans on.
    pub valid: BTreeSet<StorePath>,
    /// What the user was told.
    pub messages: Vec<String>,
    /// Something was used that is never the same twice, or cannot be known again.
    pub fleeting: bool,
}

impl Noted {
    /// Adds what another evaluator noted. Where both saw the same thing differently, it changed meanwhile.
    pub fn unite(&mut self, other: Noted) {
        for (key, read) in other.reads {
            if let Some(known) = self.reads.get(&key) {
                self.fleeting |= *known != read;
            }
            self.reads.insert(key, read);
        }
        self.valid.extend(other.valid);
        self.messages.extend(other.messages);
        self.fleeting |= other.fleeting;
    }
}

#[derive(Clone)]
pub struct RecordingWorld {
    inner: StoreWorld,
    noted: Rc<RefCell<Noted>>,
}

/// Kinds of reads, so that one path may be read in several ways.
const FILE: u8 = 0;
const FOLDER: u8 = 1;
const KIND: u8 = 2;
const LINK: u8 = 3;
const VARIABLE: u8 = 4;
const PART: u8 = 5;

impl RecordingWorld {
    pub fn new(inner: StoreWorld) -> (RecordingWorld, Rc<RefCell<Noted>>) {
        let noted = Rc::new(RefCell::default());
        (RecordingWorld { inner, noted: Rc::clone(&noted) }, noted)
    }

    /// The store path a path lies in: its contents never change, but it may go away.
    fn in_store(&self, path: &Path) -> bool {
        if !path.starts_with(STORE_DIR) {
            return false;
        }
        match path.to_str().map(StorePath::split) {
            Some(Ok((store_path, _))) => drop(self.noted.borrow_mut().valid.insert(store_path)),
            _ => self.noted.borrow_mut().fleeting = true,
        }
        true
    }

    fn note(&self, kind: u8, path: &Path, read: Read) {
        let mut noted = self.noted.borrow_mut();
        let earlier = noted.reads.insert((kind, path.to_owned()), read);
        // The same thing twice with different answers: it changed under the evaluation.
        if earlier.is_some_and(|earlier| noted.reads.get(&(kind, path.to_owned())) != Some(&earlier)) {
            noted.fleeting = true;
        }
    }

    fn note_part(&self, path: &Path) {
        match Read::part(path) {
            Some(read) => self.note(PART, path, read),
            None => self.noted.borrow_mut().fleeting = true,
        }
    }

    /// Everything of a tree that is added: each file, and each folder for what may be added to it.
    fn note_tree(&self, request: &AddPath<'_>) {
        self.note_part(request.path);
        if let Some(accepted) = request.accepted {
            accepted.iter().for_each(|relative| self.note_part(&request.path.join(relative)));
            return;
        }
        let mut pending = vec![request.path.to_owned()];
        while let Some(folder) = pending.pop() {
            let Ok(entries) = std::fs::read_dir(&folder) else { continue };
            for entry in entries.flatten() {
                self.note_part(&entry.path());
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    pending.push(entry.path());
                }
            }
        }
    }
}

fn name_of(kind: FileKind) -> String {
    format!("{kind:?}")
}

impl World for RecordingWorld {
    fn read_file(&mut self, path: &Path) -> WorldResult<Vec<u8>> {
        if self.in_store(path) {
            return self.inner.read_file(path);
        }
        let before = Identity::of(path);
        let contents = self.inner.read_file(path)?;
        self.note(FILE, path, Read::file(path, before, &contents));
        Ok(contents)
    }

    fn read_dir(&mut self, path: &Path) -> WorldResult<Vec<(Vec<u8>, FileKind)>> {
        if self.in_store(path) {
            return self.inner.read_dir(path);
        }
        let before = Identity::of(path);
        let entries = self.inner.read_dir(path)?;
        let named: Vec<_> = entries.iter().map(|(name, kind)| (name.clone(), name_of(*kind))).collect();
        self.note(FOLDER, path, Read::folder(path, before, &named));
        Ok(entries)
    }

    fn file_kind(&mut self, path: &Path) -> WorldResult<Option<FileKind>> {
        let kind = self.inner.file_kind(path)?;
        if path.starts_with(STORE_DIR) && path != Path::new(STORE_DIR) && kind.is_some() {
            self.in_store(path);
            return Ok(kind);
        }
        if path.starts_with(STORE_DIR) {
            // Whether something is in the store is not a matter of this machine's files.
            self.noted.borrow_mut().fleeting |= path != Path::new(STORE_DIR);
            return Ok(kind);
        }
        self.note(KIND, path, Read::Kind { path: path.to_owned(), kind: kind.map(name_of) });
        Ok(kind)
    }

    fn read_link(&mut self, path: &Path) -> WorldResult<PathBuf> {
        let target = self.inner.read_link(path)?;
        if !self.in_store(path) {
            self.note(LINK, path, Read::Link { path: path.to_owned(), target: target.clone() });
        }
        Ok(target)
    }

    fn environment(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        use std::os::unix::ffi::OsStrExt;
        let value = self.inner.environment(name);
        let key = Path::new(std::ffi::OsStr::from_bytes(name)).to_owned();
        self.note(VARIABLE, &key, Read::variable(name, value.as_deref()));
        value
    }

    fn add_path(&mut self, request: &AddPath<'_>) -> WorldResult<StorePath> {
        // Noted before it is read: what changes in between has other times than those noted.
        if !self.in_store(request.path) {
            self.note_tree(request);
        }
        let path = self.inner.add_path(request)?;
        self.noted.borrow_mut().valid.insert(path.clone());
        Ok(path)
    }

    fn add_text(
        &mut self,
        name: &str,
        text: &[u8],
        references: &BTreeSet<StorePath>,
    ) -> WorldResult<StorePath> {
        let path = self.inner.add_text(name, text, references)?;
        self.noted.borrow_mut().valid.insert(path.clone());
        Ok(path)
    }

    fn write_derivation(
        &mut self,
        path: &StorePath,
        derivation: &Derivation,
        aterm: &[u8],
    ) -> WorldResult<()> {
        self.inner.write_derivation(path, derivation, aterm)
    }

    fn read_derivation(&mut self, path: &StorePath) -> WorldResult<Derivation> {
        self.noted.borrow_mut().valid.insert(path.clone());
        self.inner.read_derivation(path)
    }

    fn realise(&mut self, wanted: &[(StorePath, Option<String>)]) -> WorldResult<Vec<StorePath>> {
        // What a derivation was built to may change with the next build of it.
        self.noted.borrow_mut().fleeting = true;
        self.inner.realise(wanted)
    }

    fn is_valid(&mut self, path: &StorePath) -> WorldResult<bool> {
        let valid = self.inner.is_valid(path)?;
        match valid {
            true => drop(self.noted.borrow_mut().valid.insert(path.clone())),
            false => self.noted.borrow_mut().fleeting = true,
        }
        Ok(valid)
    }

    fn fetch_tree(&mut self, input: &Input, is_final: bool) -> WorldResult<FetchedTree> {
        // What an address gives may change without a file here changing.
        self.noted.borrow_mut().fleeting = true;
        self.inner.fetch_tree(input, is_final)
    }

    fn fetch_file(&mut self, request: &FileRequest<'_>) -> WorldResult<StorePath> {
        self.noted.borrow_mut().fleeting = true;
        self.inner.fetch_file(request)
    }

    fn search_entry(&mut self, entry: &str) -> WorldResult<Option<PathBuf>> {
        self.noted.borrow_mut().fleeting = true;
        self.inner.search_entry(entry)
    }

    fn get_flake(&mut self, reference: &FlakeRef, pure: bool) -> WorldResult<FlakeSources> {
        self.noted.borrow_mut().fleeting = true;
        self.inner.get_flake(reference, pure)
    }

    fn current_system(&self) -> String {
        self.inner.current_system()
    }

    fn tells_time(&self) -> bool {
        self.inner.tells_time()
    }

    fn current_time(&self) -> Option<i64> {
        self.noted.borrow_mut().fleeting = true;
        self.inner.current_time()
    }

    fn message(&mut self, text: &str) {
        self.noted.borrow_mut().messages.push(text.to_owned());
        self.inner.message(text);
    }
}

//! Adding contents that are named by themselves: texts, derivations, sources, archives. What is there already is
//! not written again. Outputs of builds come in through `import`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::protocol::{self, Entering, at_once};
use super::register::{KnownOutputs, known_outputs};
use super::{PathInfo, PathLocks, ScratchDir, Store};
use crate::canonical;
use crate::derivation::Derivation;
use crate::error::{Error, Result};
use crate::handle::{Dir, Kind};
use crate::hash::{Hash, HashAlgorithm, Hasher};
use crate::limits::ADD_IN_MEMORY_BYTES;
use crate::nar::{self, HashingReader, Tree, Writer};
use crate::path::{ContentMethod, StorePath, content_address, fixed_output_path, text_path};

/// What became of something added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddedPath {
    pub path: StorePath,
    /// False where it was valid before.
    pub new: bool,
}

/// How a source is added.
pub struct Source<'a> {
    pub name: &'a str,
    pub method: ContentMethod,
    pub algorithm: HashAlgorithm,
    /// Which entries become part of it; everything where there is none.
    pub accept: Option<nar::Accept<'a>>,
    /// The hash it must have.
    pub expected: Option<Hash>,
}

impl Source<'_> {
    /// A whole tree, hashed as NAR with SHA-256.
    pub fn tree(name: &str) -> Source<'_> {
        Source {
            name,
            method: ContentMethod::Recursive,
            algorithm: HashAlgorithm::Sha256,
            accept: None,
            expected: None,
        }
    }
}

/// A derivation's file to be written.
pub struct DerivationText {
    pub path: StorePath,
    /// The ATerm text; the path must follow from it.
    pub contents: Vec<u8>,
    pub references: BTreeSet<StorePath>,
    /// Outputs whose paths are known.
    pub outputs: Vec<(String, StorePath)>,
}

impl DerivationText {
    pub fn new(path: StorePath, derivation: &Derivation, contents: Vec<u8>) -> DerivationText {
        DerivationText {
            path,
            contents,
            references: derivation.references(),
            outputs: known_outputs(derivation),
        }
    }
}

/// One text on its way into the store.
struct Text {
    path: StorePath,
    contents: Vec<u8>,
    references: BTreeSet<StorePath>,
    hash: Hash,
}

impl Store {
    /// Adds a text file that may refer to other paths (`builtins.toFile`).
    pub fn add_text(
        &self,
        name: &str,
        contents: &[u8],
        references: &BTreeSet<StorePath>,
    ) -> Result<StorePath> {
        let hash = Hash::sha256(contents);
        let path = text_path(name, &hash, references)?;
        let text =
            Text { path: path.clone(), contents: contents.to_vec(), references: references.clone(), hash };
        self.add_texts(vec![text], &KnownOutputs::new())?;
        Ok(path)
    }

    /// Writes derivations, thousands in one transaction; their inputs must be valid or among them. Returns their
    /// paths in the same order.
    pub fn write_derivations(&self, derivations: &[Derivation]) -> Result<Vec<StorePath>> {
        let mut paths = Vec::with_capacity(derivations.len());
        let mut texts = Vec::with_capacity(derivations.len());
        let mut outputs = KnownOutputs::new();
        for derivation in derivations {
            let contents = derivation.to_aterm();
            let (hash, references) = (Hash::sha256(&contents), derivation.references());
            let path = text_path(&format!("{}.drv", derivation.name), &hash, &references)?;
            outputs.insert(path.clone(), known_outputs(derivation));
            paths.push(path.clone());
            texts.push(Text { path, contents, references, hash });
        }
        self.add_texts(texts, &outputs)?;
        Ok(paths)
    }

    /// [`Store::write_derivations`] for a caller who has texts and paths already.
    pub fn write_derivation_texts(&self, derivations: Vec<DerivationText>) -> Result<()> {
        let mut texts = Vec::with_capacity(derivations.len());
        let mut outputs = KnownOutputs::new();
        for DerivationText { path, contents, references, outputs: known } in derivations {
            let hash = Hash::sha256(&contents);
            outputs.insert(path.clone(), known);
            texts.push(Text { path, contents, references, hash });
        }
        self.add_texts(texts, &outputs)
    }

    pub fn write_derivation(&self, derivation: &Derivation) -> Result<StorePath> {
        let mut paths = self.write_derivations(std::slice::from_ref(derivation))?;
        Ok(paths.pop().expect("one derivation has one path"))
    }

    fn add_texts(&self, mut texts: Vec<Text>, outputs: &KnownOutputs) -> Result<()> {
        self.add_temp_roots(texts.iter().map(|text| &text.path))?;
        let valid = self.valid_among(texts.iter().map(|text| &text.path))?;
        let mut seen = BTreeSet::new();
        texts.retain(|text| !valid.contains(&text.path) && seen.insert(text.path.clone()));
        if texts.is_empty() {
            return Ok(());
        }
        self.need_writable("add a text")?;
        let scratch = self.scratch_dir("texts")?;
        let mut infos = Vec::with_capacity(texts.len());
        let mut new_outputs = BTreeMap::new();
        for text in texts {
            infos.push(self.place_text(&scratch, &text)?);
            if let Some(outputs) = outputs.get(&text.path) {
                new_outputs.insert(text.path, outputs.clone());
            }
        }
        self.register_with_outputs(&infos, &new_outputs)
    }

    fn place_text(&self, scratch: &ScratchDir, text: &Text) -> Result<PathInfo> {
        let name = OsStr::new(text.path.basename());
        let mut file = scratch.dir().create_file(name, 0o600)?;
        file.write_all(&text.contents).map_err(|error| scratch.dir().error("write", name, error))?;
        canonical::settle(&file, canonical::MODE_FILE)
            .map_err(|errno| scratch.dir().error("set the mode of", name, errno))?;
        // Whoever else adds the same text places the same bytes: no lock is needed.
        self.place_unless(scratch.dir(), name, &text.path, |contents| {
            let mut found = Vec::new();
            let mut file = contents.open_file(name)?.take(text.contents.len() as u64 + 1);
            file.read_to_end(&mut found).map_err(|error| contents.error("read", name, error))?;
            Ok(found == text.contents)
        })?;
        let mut hasher = Hasher::new(HashAlgorithm::Sha256);
        let nar_size = nar::dump_file(false, &text.contents, &mut hasher)?;
        let mut info = PathInfo::new(text.path.clone(), hasher.finish(), nar_size);
        info.references.clone_from(&text.references);
        info.content_address = Some(content_address(ContentMethod::Text, &text.hash));
        Ok(info)
    }

    /// Adds a file or folder from anywhere on this machine. Trees of moderate size are read once; larger ones are
    /// hashed first, so that one that is there already is not copied, and hashed again while copied.
    pub fn add_from_path(&self, from: &Path, mut source: Source<'_>) -> Result<AddedPath> {
        let mut spool = Spool::new(source.method, source.algorithm);
        // Asked once only: the answer may cost an evaluation, and must be the same both times.
        let mut accepted: BTreeSet<PathBuf> = BTreeSet::new();
        match source.method {
            ContentMethod::Flat => dump_flat(from, &mut spool)?,
            ContentMethod::Recursive => {
                let accept = &mut source.accept;
                let mut remember = |relative: &Path, kind: Kind| match accept {
                    None => Ok(true),
                    Some(accept) => {
                        let take = accept(relative, kind)?;
                        if take {
                            accepted.insert(relative.to_path_buf());
                        }
                        Ok(take)
                    }
                };
                nar::dump_accepted(from, &mut remember, &mut spool)?;
            }
            ContentMethod::Text | ContentMethod::Git => {
                let reason = "sources are added flat or recursively".to_owned();
                return Err(Error::BadContentAddress { name: source.name.to_owned(), reason });
            }
        }
        let selective = source.accept.is_some();
        let mut again = |out: &mut dyn Write| match source.method {
            ContentMethod::Flat => dump_flat(from, out),
            _ => nar::dump_accepted(from, &mut |path, _| Ok(!selective || accepted.contains(path)), out)
                .map(drop),
        };
        self.add_spooled(from, source.name, source.method, source.expected, spool, &mut again)
    }

    /// The path that [`Store::add_from_path`] would add it at. Touches no store.
    pub fn name_of_path(from: &Path, mut source: Source<'_>) -> Result<StorePath> {
        let mut spool = Spool::new(source.method, source.algorithm);
        spool.kept = None;
        match (source.method, &mut source.accept) {
            (ContentMethod::Flat, _) => dump_flat(from, &mut spool)?,
            (_, Some(accept)) => drop(nar::dump_accepted(from, accept, &mut spool)?),
            (_, None) => drop(nar::dump_accepted(from, &mut |_, _| Ok(true), &mut spool)?),
        }
        let (_, hash, ..) = spool.finish();
        if let Some(expected) = source.expected.filter(|expected| *expected != hash) {
            return Err(Error::HashMismatch {
                what: from.display().to_string(),
                expected: expected.to_sri(),
                found: hash.to_sri(),
            });
        }
        fixed_output_path(source.method, &hash, source.name, &BTreeSet::new(), false)
    }

    /// Adds a tree that is in memory.
    pub fn add_source_tree(&self, name: &str, tree: &Tree) -> Result<AddedPath> {
        let mut spool = Spool::new(ContentMethod::Recursive, HashAlgorithm::Sha256);
        tree.dump(&mut spool)?;
        let mut again = |out: &mut dyn Write| tree.dump(out).map(drop);
        self.add_spooled(Path::new(name), name, ContentMethod::Recursive, None, spool, &mut again)
    }

    /// Names what was dumped, and puts it in place where it is not yet there: from memory, or by dumping again.
    fn add_spooled(
        &self,
        from: &Path,
        name: &str,
        method: ContentMethod,
        expected: Option<Hash>,
        spool: Spool,
        again: &mut dyn FnMut(&mut dyn Write) -> Result<()>,
    ) -> Result<AddedPath> {
        let (nar, hash, nar_hash, nar_size) = spool.finish();
        if let Some(expected) = expected.filter(|expected| *expected != hash) {
            return Err(Error::HashMismatch {
                what: from.display().to_string(),
                expected: expected.to_sri(),
                found: hash.to_sri(),
            });
        }
        let path = fixed_output_path(method, &hash, name, &BTreeSet::new(), false)?;
        let mut info = PathInfo::new(path.clone(), nar_hash, nar_size);
        info.content_address = Some(content_address(method, &hash));
        let new = match nar {
            Some(nar) => self.add_nar(&mut nar.as_slice(), &info)?,
            None => self.add_dumped(&info, again)?,
        };
        Ok(AddedPath { path, new })
    }

    /// Unpacks an archive to the path that `info` describes, checks hash and size, and registers it. What it
    /// refers to must be valid. False where the path was valid before: then nothing is read.
    pub fn add_nar(&self, nar: &mut (impl Read + ?Sized), info: &PathInfo) -> Result<bool> {
        self.add_locked(info, |scratch| {
            let mut reader = HashingReader::new(nar, HashAlgorithm::Sha256);
            nar::restore_canonical(&mut reader, scratch.dir(), info.path.basename().as_bytes())?;
            Ok(reader.finish())
        })
    }

    /// [`Store::add_nar`] for an archive that is written, not read: the two meet in a pipe.
    fn add_dumped(
        &self,
        info: &PathInfo,
        dump: &mut dyn FnMut(&mut dyn Write) -> Result<()>,
    ) -> Result<bool> {
        self.add_locked(info, |scratch| {
            let (reader, mut writer) =
                io::pipe().map_err(|error| Error::io("make a pipe for", scratch.path(), error))?;
            std::thread::scope(|scope| {
                let unpack = scope.spawn(move || {
                    let mut reader = HashingReader::new(
                        io::BufReader::with_capacity(1 << 16, reader),
                        HashAlgorithm::Sha256,
                    );
                    nar::restore_canonical(&mut reader, scratch.dir(), info.path.basename().as_bytes())?;
                    Ok(reader.finish())
                });
                let dumped = dump(&mut writer);
                drop(writer);
                let unpacked = unpack.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                // Where unpacking fails, dumping fails too, with a broken pipe: the first is the cause.
                match (unpacked, dumped) {
                    (Err(Error::BadNar { .. }), Err(cause)) | (Ok(_), Err(cause)) => Err(cause),
                    (other, _) => other,
                }
            })
        })
    }

    /// Brings in one path: `make` puts it into a scratch folder if it is not valid by then, and tells its hash and
    /// size.
    fn add_locked(
        &self,
        info: &PathInfo,
        make: impl FnOnce(&ScratchDir) -> Result<(Hash, u64)>,
    ) -> Result<bool> {
        at_once(protocol::enter(&mut One { store: self, info, make: Some(make) }))
    }

    /// Moves something finished to its place, unless the same stands there: `expected` is the hash and size of its
    /// archive. The caller knows that the path is not valid, or that it is damaged.
    pub(super) fn place(
        &self,
        from: &Dir,
        name: &OsStr,
        path: &StorePath,
        expected: Option<(Hash, u64)>,
    ) -> Result<()> {
        self.place_unless(from, name, path, |_| {
            Ok(expected.is_some()
                && expected == nar::hash_path(self.real_path(path), HashAlgorithm::Sha256).ok())
        })
    }

    /// What is right stays: it may be valid by now (texts are placed without a lock) and on the disk, which what
    /// would replace it is not. What is not right goes in one step with the arrival of what is.
    fn place_unless(
        &self,
        from: &Dir,
        name: &OsStr,
        path: &StorePath,
        is_right: impl FnOnce(&Dir) -> Result<bool>,
    ) -> Result<()> {
        let place = OsStr::new(path.basename());
        if !from.rename_new(name, &self.contents, place)? {
            if is_right(&self.contents).unwrap_or(false) {
                canonical::settle_root(&self.contents, place)?;
                return from.remove_tree(name).map(drop);
            }
            if !from.exchange(name, &self.contents, place)? {
                self.contents.remove_tree(place)?;
                from.rename(name, &self.contents, place)?;
            }
            from.remove_tree(name)?;
        }
        canonical::settle_root(&self.contents, place)
    }
}

/// One path on its way in.
struct One<'a, F> {
    store: &'a Store,
    info: &'a PathInfo,
    make: Option<F>,
}

impl<F: FnOnce(&ScratchDir) -> Result<(Hash, u64)>> Entering for One<'_, F> {
    type Error = Error;
    type Lock = PathLocks;
    type Made = ScratchDir;

    async fn promise(&mut self) -> Result<()> {
        self.store.add_temp_root(&self.info.path)
    }

    async fn are_valid(&mut self) -> Result<bool> {
        self.store.is_valid(&self.info.path)
    }

    async fn lock(&mut self) -> Result<PathLocks> {
        self.store.need_writable("add a path")?;
        self.store.lock_path(&self.info.path)
    }

    async fn make(&mut self) -> Result<ScratchDir> {
        let scratch = self.store.scratch_dir("add")?;
        let make = self.make.take().expect("contents are made once");
        let (hash, size) = make(&scratch)?;
        if (hash, size) != (self.info.nar_hash, self.info.nar_size) {
            return Err(Error::HashMismatch {
                what: format!(
                    "the contents for `{}` (did they change while they were read?)",
                    self.info.path
                ),
                expected: format!("{} of {} bytes", self.info.nar_hash.to_sri(), self.info.nar_size),
                found: format!("{} of {size} bytes", hash.to_sri()),
            });
        }
        self.store.link_new(scratch.dir(), OsStr::new(self.info.path.basename()), scratch.dir())?;
        Ok(scratch)
    }

    async fn put_in_place(&mut self, made: &ScratchDir) -> Result<()> {
        let expected = Some((self.info.nar_hash, self.info.nar_size));
        self.store.place(made.dir(), OsStr::new(self.info.path.basename()), &self.info.path, expected)
    }

    async fn register(&mut self) -> Result<()> {
        self.store.register_valid_paths(std::slice::from_ref(self.info))
    }

    async fn clear_away(&mut self, made: ScratchDir) -> Result<()> {
        made.close()
    }
}

/// Writes the archive of one file's bytes, as a file that is not executable; a link is followed.
fn dump_flat(from: &Path, out: &mut (impl Write + ?Sized)) -> Result<()> {
    let mut file = std::fs::File::open(from).map_err(|error| Error::io("open", from, error))?;
    let metadata = file.metadata().map_err(|error| Error::io("examine", from, error))?;
    if !metadata.is_file() {
        let reason = "only a regular file can be added flat".to_owned();
        return Err(Error::Unstorable { path: from.to_path_buf(), reason });
    }
    let mut writer = Writer::new(out);
    writer.file_from(b"", false, metadata.len(), &mut file, &mut Vec::new())?;
    writer.finish().map(drop)
}

/// Receives an archive: hashes it and keeps it while it is small.
struct Spool {
    nar_hasher: Hasher,
    /// The hash that gives the name, where it is not the archive's SHA-256.
    content_hasher: Option<ContentHasher>,
    kept: Option<Vec<u8>>,
}

enum ContentHasher {
    WholeNar(Hasher),
    /// The bytes of the one file in the archive: from a fixed offset on, to the padding and one closing string.
    Flat(FlatHasher),
}

impl Spool {
    fn new(method: ContentMethod, algorithm: HashAlgorithm) -> Spool {
        let content_hasher = match (method, algorithm) {
            (ContentMethod::Flat, _) => Some(ContentHasher::Flat(FlatHasher::new(algorithm))),
            (_, HashAlgorithm::Sha256) => None,
            (_, other) => Some(ContentHasher::WholeNar(Hasher::new(other))),
        };
        Spool { nar_hasher: Hasher::new(HashAlgorithm::Sha256), content_hasher, kept: Some(Vec::new()) }
    }

    /// The archive if it was kept, the naming hash, and the archive's hash and size.
    fn finish(self) -> (Option<Vec<u8>>, Hash, Hash, u64) {
        let size = self.nar_hasher.len();
        let nar_hash = self.nar_hasher.finish();
        let hash = match self.content_hasher {
            None => nar_hash,
            Some(ContentHasher::WholeNar(hasher)) => hasher.finish(),
            Some(ContentHasher::Flat(hasher)) => hasher.hasher.finish(),
        };
        (self.kept, hash, nar_hash, size)
    }
}

impl Write for Spool {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.nar_hasher.update(bytes);
        match &mut self.content_hasher {
            None => {}
            Some(ContentHasher::WholeNar(hasher)) => hasher.update(bytes),
            Some(ContentHasher::Flat(hasher)) => hasher.update(bytes),
        }
        if self.nar_hasher.len() > ADD_IN_MEMORY_BYTES {
            self.kept = None;
        }
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Picks the contents out of the archive of a single plain file.
struct FlatHasher {
    hasher: Hasher,
    header: Vec<u8>,
    left: u64,
}

/// Magic, `(`, `type`, `regular`, `contents`, and the length.
const FLAT_HEADER_BYTES: usize = 24 + 16 + 16 + 16 + 16 + 8;

impl FlatHasher {
    fn new(algorithm: HashAlgorithm) -> FlatHasher {
        FlatHasher { hasher: Hasher::new(algorithm), header: Vec::new(), left: 0 }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        if self.header.len() < FLAT_HEADER_BYTES {
            let part = bytes.len().min(FLAT_HEADER_BYTES - self.header.len());
            self.header.extend_from_slice(&bytes[..part]);
            bytes = &bytes[part..];
            if self.header.len() == FLAT_HEADER_BYTES {
                let length = &self.header[FLAT_HEADER_BYTES - 8..];
                self.left = u64::from_le_bytes(length.try_into().expect("a length has eight bytes"));
            }
        }
        let contents = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.hasher.update(&bytes[..contents]);
        self.left -= contents as u64;
    }
}

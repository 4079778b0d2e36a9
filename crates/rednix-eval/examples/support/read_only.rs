//! A world that reads the file system and names store paths, but writes nothing.

use rednix_eval::{AddPath, FileKind, World, WorldError, WorldResult};
use rednix_store::derivation::Derivation;
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::path::{ContentMethod, StorePath, fixed_output_path, text_path};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

#[derive(Default)]
pub struct ReadOnlyWorld {
    derivations: BTreeMap<StorePath, Derivation>,
}

fn failed(path: &Path, error: std::io::Error) -> WorldError {
    match error.kind() {
        std::io::ErrorKind::NotFound => WorldError::Missing(path.display().to_string()),
        std::io::ErrorKind::NotADirectory => {
            WorldError::Failed(format!("cannot read directory \"{}\": Not a directory", path.display()))
        }
        _ => WorldError::Failed(format!("cannot read `{}`: {error}", path.display())),
    }
}

fn kind(file_type: std::fs::FileType) -> FileKind {
    if file_type.is_symlink() {
        FileKind::Symlink
    } else if file_type.is_dir() {
        FileKind::Directory
    } else if file_type.is_file() {
        FileKind::Regular
    } else {
        FileKind::Other
    }
}

impl World for ReadOnlyWorld {
    fn read_file(&mut self, path: &Path) -> WorldResult<Vec<u8>> {
        std::fs::read(path).map_err(|error| failed(path, error))
    }

    fn read_dir(&mut self, path: &Path) -> WorldResult<Vec<(Vec<u8>, FileKind)>> {
        let mut listed = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|error| failed(path, error))? {
            let entry = entry.map_err(|error| failed(path, error))?;
            let file_type = entry.file_type().map_err(|error| failed(path, error))?;
            listed.push((entry.file_name().as_bytes().to_vec(), kind(file_type)));
        }
        Ok(listed)
    }

    fn file_kind(&mut self, path: &Path) -> WorldResult<Option<FileKind>> {
        match std::fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(kind(metadata.file_type()))),
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(failed(path, error)),
        }
    }

    fn read_link(&mut self, path: &Path) -> WorldResult<PathBuf> {
        std::fs::read_link(path).map_err(|error| failed(path, error))
    }

    fn environment(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        std::env::var_os(std::ffi::OsStr::from_bytes(name)).map(|value| value.as_bytes().to_vec())
    }

    fn add_path(&mut self, request: &AddPath<'_>) -> WorldResult<StorePath> {
        let store = |error: rednix_store::Error| WorldError::Failed(error.to_string());
        if self.file_kind(request.path)?.is_none() {
            return Err(WorldError::Missing(request.path.display().to_string()));
        }
        let hash = match (request.method, request.accepted) {
            (ContentMethod::Flat, _) => Hash::sha256(&self.read_file(request.path)?),
            (_, None) => rednix_store::nar::hash_path(request.path, HashAlgorithm::Sha256).map_err(store)?.0,
            (_, Some(accepted)) => {
                let mut hasher = rednix_store::hash::Hasher::new(HashAlgorithm::Sha256);
                let mut accept = |path: &Path, _| {
                    let relative = path.strip_prefix(request.path).unwrap_or(path);
                    Ok(relative == Path::new("") || accepted.contains(relative))
                };
                rednix_store::nar::dump_accepted(request.path, &mut accept, &mut hasher).map_err(store)?;
                hasher.finish()
            }
        };
        if request.expected.is_some_and(|expected| *expected != hash) {
            let shown = request.path.display();
            let message = format!("store path mismatch in (possibly filtered) path added from '{shown}'");
            return Err(WorldError::Failed(message));
        }
        fixed_output_path(request.method, &hash, request.name, &BTreeSet::new(), false).map_err(store)
    }

    fn add_text(
        &mut self,
        name: &str,
        text: &[u8],
        references: &BTreeSet<StorePath>,
    ) -> WorldResult<StorePath> {
        text_path(name, &Hash::sha256(text), references)
            .map_err(|error| WorldError::Failed(error.to_string()))
    }

    fn write_derivation(&mut self, path: &StorePath, derivation: &Derivation, _: &[u8]) -> WorldResult<()> {
        self.derivations.insert(path.clone(), derivation.clone());
        Ok(())
    }

    fn read_derivation(&mut self, path: &StorePath) -> WorldResult<Derivation> {
        let found = self.derivations.get(path).cloned();
        found.ok_or_else(|| WorldError::Failed(format!("path '{path}' is not valid")))
    }

    fn realise(&mut self, wanted: &[(StorePath, Option<String>)]) -> WorldResult<Vec<StorePath>> {
        Err(WorldError::Failed(format!("cannot build '{}' during evaluation", wanted[0].0)))
    }

    fn is_valid(&mut self, path: &StorePath) -> WorldResult<bool> {
        Ok(self.derivations.contains_key(path))
    }

    fn current_system(&self) -> String {
        "x86_64-linux".into()
    }

    fn message(&mut self, text: &str) {
        eprintln!("{text}");
    }
}

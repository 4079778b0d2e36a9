//! Where the parts of a store lie below its root. Only names: creates and checks nothing.

use std::path::{Path, PathBuf};

use crate::path::StorePath;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    pub fn new(root: impl Into<PathBuf>) -> Layout {
        Layout { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of contents.
    pub fn contents(&self) -> PathBuf {
        self.root.join("nix/store")
    }

    /// C++ Nix's state.
    pub fn state(&self) -> PathBuf {
        self.root.join("nix/var/nix")
    }

    pub fn database_folder(&self) -> PathBuf {
        self.state().join("db")
    }

    pub fn database(&self) -> PathBuf {
        self.database_folder().join("db.sqlite")
    }

    /// The file with the schema's number.
    pub fn schema(&self) -> PathBuf {
        self.database_folder().join("schema")
    }

    /// Locked shared by users of the database, exclusively while its schema changes.
    pub fn schema_lock(&self) -> PathBuf {
        self.database_folder().join("big-lock")
    }

    /// Held exclusively while collecting, shared while adding a temporary root.
    pub fn gc_lock(&self) -> PathBuf {
        self.state().join("gc.lock")
    }

    pub fn roots(&self) -> PathBuf {
        self.state().join("gcroots")
    }

    /// Links to users' own links to the store.
    pub fn indirect_roots(&self) -> PathBuf {
        self.roots().join("auto")
    }

    pub fn profiles(&self) -> PathBuf {
        self.state().join("profiles")
    }

    pub fn temporary_roots(&self) -> PathBuf {
        self.state().join("temproots")
    }

    /// State that only rednix knows.
    pub fn own_state(&self) -> PathBuf {
        self.root.join("nix/var/rednix")
    }

    /// Half-made things, see [`super::ScratchDir`].
    pub fn scratch(&self) -> PathBuf {
        self.own_state().join("tmp")
    }

    pub fn logs(&self) -> PathBuf {
        self.root.join("nix/var/log/nix/drvs")
    }

    pub fn log_path(&self, derivation: &StorePath) -> PathBuf {
        let (folder, rest) = derivation.basename().split_at(2);
        self.logs().join(folder).join(format!("{rest}.zst"))
    }

    pub fn real_path(&self, path: &StorePath) -> PathBuf {
        self.contents().join(path.basename())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let layout = Layout::new("/r");
        let path = StorePath::from_basename("0dzsnvb6wnk8fc2gwhllh91jlhbhkmcn-x.drv").unwrap();
        let expected = "/r/nix/store/0dzsnvb6wnk8fc2gwhllh91jlhbhkmcn-x.drv";
        assert_eq!(layout.real_path(&path), PathBuf::from(expected));
        let expected = "/r/nix/var/log/nix/drvs/0d/zsnvb6wnk8fc2gwhllh91jlhbhkmcn-x.drv.zst";
        assert_eq!(layout.log_path(&path), PathBuf::from(expected));
    }
}

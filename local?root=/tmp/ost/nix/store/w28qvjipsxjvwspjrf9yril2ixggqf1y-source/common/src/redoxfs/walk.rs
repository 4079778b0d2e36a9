//! Walking all nodes below a directory in sorted order. Follows no symbolic link and uses no recursion.

use alloc::vec::Vec;
use core::fmt;

use crate::device::BlockReader;
use crate::limits::{DIRECTORY_DEPTH_MAX, NODES_WALKED_MAX};
use crate::redoxfs::directory::DirectoryEntry;
use crate::redoxfs::{FileSystem, FileSystemError, Node, NodeKind};

/// One node of a walk.
pub struct Visit<'a, R> {
    pub file_system: &'a mut FileSystem<R>,
    /// Path from the walk's start, without leading slash.
    pub path: &'a [u8],
    pub node: &'a Node,
}

/// A walk ended by the file system or by its visitor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalkError<E> {
    FileSystem(FileSystemError),
    Visitor(E),
}

impl<E> From<FileSystemError> for WalkError<E> {
    fn from(error: FileSystemError) -> Self {
        WalkError::FileSystem(error)
    }
}

impl<E: fmt::Display> fmt::Display for WalkError<E> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalkError::FileSystem(error) => error.fmt(formatter),
            WalkError::Visitor(error) => error.fmt(formatter),
        }
    }
}

impl<R: BlockReader> FileSystem<R> {
    /// Calls `visit` for every node below `start`, directories before what they hold.
    pub fn walk<E>(
        &mut self,
        start: &Node,
        visit: &mut dyn FnMut(Visit<'_, R>) -> Result<(), E>,
    ) -> Result<(), WalkError<E>> {
        let mut path: Vec<u8> = Vec::new();
        // Entries still to visit of each open directory, last first, with the length of the directory's path.
        let mut open: Vec<(Vec<DirectoryEntry>, usize)> = alloc::vec![(self.reversed_entries(start)?, 0)];
        let mut visited = 0;
        while let Some((entries, length)) = open.last_mut() {
            let length = *length;
            let Some(entry) = entries.pop() else {
                open.pop();
                continue;
            };
            visited += 1;
            if visited > NODES_WALKED_MAX {
                return Err(FileSystemError::Corrupt {
                    what: "there are too many files",
                    number: visited as u64,
                }
                .into());
            }
            path.truncate(length);
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(&entry.name);
            let node = self.node(entry.node)?;
            visit(Visit { file_system: self, path: &path, node: &node }).map_err(WalkError::Visitor)?;
            if node.kind() == NodeKind::Directory {
                if open.len() >= DIRECTORY_DEPTH_MAX {
                    let error = FileSystemError::Corrupt {
                        what: "directories lie too deep",
                        number: open.len() as u64,
                    };
                    return Err(error.into());
                }
                let below = self.reversed_entries(&node)?;
                open.push((below, path.len()));
            }
        }
        Ok(())
    }

    fn reversed_entries(&mut self, directory: &Node) -> Result<Vec<DirectoryEntry>, FileSystemError> {
        let mut entries = self.entries(directory)?;
        entries.reverse();
        Ok(entries)
    }
}

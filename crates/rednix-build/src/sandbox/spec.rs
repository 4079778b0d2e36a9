//! What a sandbox is asked to be, in plain types that travel to the child process as JSON.
//! It opens nothing and decides nothing.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Bytes that are usually text. In JSON one character stands for one byte (U+0000 to U+00FF), so any byte
/// survives and ordinary text stays readable.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:?}", String::from_utf8_lossy(&self.0))
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Bytes(text.as_bytes().to_vec())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes(bytes)
    }
}

impl From<&Path> for Bytes {
    fn from(path: &Path) -> Self {
        Bytes(path.as_os_str().as_bytes().to_vec())
    }
}

impl From<PathBuf> for Bytes {
    fn from(path: PathBuf) -> Self {
        Bytes(path.into_os_string().into_vec())
    }
}

impl From<OsString> for Bytes {
    fn from(text: OsString) -> Self {
        Bytes(text.into_vec())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text: String = self.0.iter().map(|&byte| char::from(byte)).collect();
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.chars()
            .map(|character| u8::try_from(u32::from(character)))
            .collect::<Result<Vec<u8>, _>>()
            .map(Bytes)
            .map_err(|_| serde::de::Error::custom("a byte string holds a character above U+00FF"))
    }
}

/// Where the sandbox's root folder comes from.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Root {
    /// Nothing but the mount points and a few files in /etc.
    Empty,
    /// Folders laid over each other, the first on top. They are read only.
    Overlay(Vec<Bytes>),
    /// One ready folder which already holds the mount points. It is read only.
    Folder(Bytes),
}

/// One store path the builder may see, as `/nix/store/<name>`, read only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Input {
    /// Absolute path on the host.
    pub host: Bytes,
    /// Base name below `/nix/store`.
    pub name: Bytes,
}

/// A host folder that the builder may write to beyond its own life.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Kept {
    pub host: Bytes,
    /// Below `/build`; one component.
    pub name: String,
}

/// What runs inside.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Program {
    /// Ends at once with status 0: for finding out whether a sandbox can be made.
    Nothing,
    /// `path` is inside the sandbox; `arguments` come after the zeroth, which is the path's base name.
    Execute { path: Bytes, arguments: Vec<Bytes> },
    /// A function of the registry given to [`crate::child_main`], called with JSON text and output paths.
    Builtin { name: String, attributes: String, outputs: Vec<(String, String)> },
}

/// Limits of each process inside; `None` leaves what rednix itself has.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ResourceLimits {
    pub processes: Option<u64>,
    pub open_files: Option<u64>,
    /// Size of one file.
    pub file_bytes: Option<u64>,
    /// Address space of one process.
    pub memory_bytes: Option<u64>,
}

impl Default for ResourceLimits {
    fn default() -> Self {
        ResourceLimits {
            processes: Some(crate::limits::PROCESSES_MAX_DEFAULT),
            open_files: Some(crate::limits::OPEN_FILES_MAX_DEFAULT),
            file_bytes: None,
            memory_bytes: None,
        }
    }
}

/// How the namespaces are made; found by really trying, see [`super::probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Confinement {
    /// An ordinary user: everything happens in a new user namespace.
    User {
        /// True where the builder's user is the host's root: the kernel's switches in /proc are covered then.
        is_host_root: bool,
    },
    /// Root: namespaces without a user namespace, then the builder becomes an unprivileged user.
    Privileged {
        /// The user and group the builder has on the host.
        host_id: u32,
        /// Whether the builder gets a user namespace of its own in the end (same ids inside as anywhere).
        nested_user: bool,
    },
}

/// Everything one sandboxed run needs. Folders are absolute host paths which the caller made and owns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SandboxSpec {
    pub confinement: Confinement,
    pub root: Root,
    pub inputs: Vec<Input>,
    /// Becomes `/build`, writable, the working folder.
    pub build_folder: Bytes,
    /// Mounted on folders of that name in the build folder, writable: what stays from build to build.
    pub kept: Vec<Kept>,
    /// Becomes `/nix/store`; the builder creates its outputs in it.
    pub store_folder: Bytes,
    /// An empty folder on the same file system for the kernel's own use.
    pub aside_folder: Bytes,
    /// Becomes `/tmp`.
    pub temporary_folder: Bytes,
    /// An empty folder used as a mount point while the root is put together.
    pub mount_folder: Bytes,
    pub program: Program,
    /// The whole environment of the builder.
    pub environment: Vec<(Bytes, Bytes)>,
    pub hostname: String,
    pub limits: ResourceLimits,
    /// User and group the builder sees itself as.
    pub user: u32,
    pub group: u32,
}

impl SandboxSpec {
    pub const USER_DEFAULT: u32 = 1000;
    pub const GROUP_DEFAULT: u32 = 100;
    /// Unprivileged host user of builders where rednix runs as root: outside the ranges of people, packages
    /// and systemd's dynamic users, and inside the 65,536 ids that containers usually have.
    pub const HOST_ID_DEFAULT: u32 = 65_530;
}

/// What the child tells the parent on the control socket: one JSON line each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Report {
    /// A step of the set-up failed; nothing ran.
    SetupFailed {
        step: String,
        object: String,
        error: i32,
    },
    /// The sandbox stands; the program starts now.
    Started,
    /// A builtin ended with an error.
    BuiltinFailed {
        message: String,
    },
    Exited {
        status: i32,
    },
    Signalled {
        signal: i32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn any_bytes_survive_the_trip(bytes: Vec<u8>) {
            let text = serde_json::to_string(&Bytes(bytes.clone())).unwrap();
            proptest::prop_assert_eq!(serde_json::from_str::<Bytes>(&text).unwrap().0, bytes);
        }

        #[test]
        fn reading_a_specification_never_panics(text: String) {
            let _ = serde_json::from_str::<SandboxSpec>(&text);
            let _ = serde_json::from_str::<Report>(&text);
        }
    }
}

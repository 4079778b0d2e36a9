//! The merged system configuration: `general`, `packages`, `files`, `users`, `groups` in the shape of upstream's
//! filesystem configuration. It states what is wanted; it neither merges nor applies it. Unknown keys are
//! ignored, as upstream does.

use std::collections::BTreeMap;

use serde::Deserialize;

mod load;
pub use load::load;

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Config {
    pub general: General,
    pub packages: BTreeMap<String, serde_json::Value>,
    pub files: Vec<FileEntry>,
    pub users: BTreeMap<String, User>,
    pub groups: BTreeMap<String, Group>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct General {
    /// Size of the whole disk image in MiB; absent or 0: as large as the contents need.
    pub filesystem_size: Option<u64>,
    /// Size of the EFI system partition in MiB; absent: 1.
    pub efi_partition_size: Option<u64>,
    /// The whole disk is RedoxFS: no partition table, no loader.
    pub skip_partitions: Option<bool>,
    /// Not supported: an encrypted volume needs random keys.
    pub encrypt_disk: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct FileEntry {
    pub path: String,
    /// Text, or the target of a symlink.
    #[serde(default)]
    pub data: String,
    #[serde(default)]
    pub symlink: bool,
    #[serde(default)]
    pub directory: bool,
    pub mode: Option<u32>,
    pub uid: Option<i64>,
    pub gid: Option<i64>,
    #[serde(default)]
    pub recursive_chown: bool,
    #[serde(default)]
    pub postinstall: bool,
    #[serde(default)]
    pub append: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct User {
    pub password: Option<String>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub name: Option<String>,
    pub home: Option<String>,
    pub shell: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Group {
    pub gid: Option<u32>,
    pub members: Vec<String>,
}

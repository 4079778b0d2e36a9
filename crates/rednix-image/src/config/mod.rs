//! The merged system configuration: `general`, `packages`, `files`, `users`, `groups` in the shape of upstream's
//! filesystem configuration. It states what is wanted; it neither merges nor applies it. Unknown keys are
//! ignored, as upstream does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

mod emit;
mod load;
pub use emit::without_secrets;
pub use load::load;

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Config {
    pub general: General,
    pub packages: BTreeMap<String, serde_json::Value>,
    pub files: Vec<FileEntry>,
    pub users: BTreeMap<String, User>,
    pub groups: BTreeMap<String, Group>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct General {
    /// Whether upstream's installer asks for passwords nobody gave; absent: yes. Nobody can be asked here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompt: Option<bool>,
    /// Size of the whole disk image in MiB; absent or 0: as large as the contents need.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesystem_size: Option<u64>,
    /// Size of the EFI system partition in MiB; absent: 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub efi_partition_size: Option<u64>,
    /// The whole disk is RedoxFS: no partition table, no loader.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub skip_partitions: Option<bool>,
    /// Take the loaders that copy the whole file system into memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub live_disk: Option<bool>,
    /// Give the UEFI loader beside the image too, under this path's file name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub write_bootloader: Option<String>,
    /// Not supported: an encrypted volume needs random keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypt_disk: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct FileEntry {
    pub path: String,
    /// Text, or the target of a symlink.
    #[serde(default)]
    pub data: String,
    #[serde(default, skip_serializing_if = "is_false")]
    pub symlink: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub directory: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<i64>,
    #[serde(default, skip_serializing_if = "is_false")]
    pub recursive_chown: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub postinstall: bool,
    #[serde(default, skip_serializing_if = "is_false")]
    pub append: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct User {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub struct Group {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gid: Option<u32>,
    pub members: Vec<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

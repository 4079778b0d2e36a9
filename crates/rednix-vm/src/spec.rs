//! What a machine should be like, independent of who runs it. Values come from Nix as JSON with camelCase names.
//! It starts nothing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::limits::{CPUS_MAX, DIRECT_SPARE_MIB, MEMORY_MAX_MIB, MEMORY_MIN_MIB};

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MachineSpec {
    pub name: String,
    /// The raw disk image. It is never written to: every machine gets its own temporary layer over it.
    pub image: PathBuf,
    #[serde(default = "default_memory")]
    pub memory_mib: u64,
    #[serde(default = "default_cpus")]
    pub cpus: u32,
    #[serde(default)]
    pub firmware: Firmware,
    /// The program that takes firmware's place in a direct start: an ELF file with a PVH entry, which gets the image as
    /// its module.
    #[serde(default)]
    pub loader: Option<PathBuf>,
    #[serde(default)]
    pub acceleration: Acceleration,
    #[serde(default)]
    pub disk: Disk,
    #[serde(default)]
    pub network: Network,
    #[serde(default)]
    pub display: Display,
    /// A device through which the guest can end the machine with a status.
    #[serde(default = "default_true")]
    pub exit_device: bool,
    /// Given to the runner's program as they are, after everything else.
    #[serde(default)]
    pub extra_arguments: Vec<String>,
}

fn default_memory() -> u64 {
    1024
}

fn default_cpus() -> u32 {
    2
}

fn default_true() -> bool {
    true
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Firmware {
    #[default]
    Uefi,
    Bios,
    /// None: a loader of ours starts the kernel with the image in memory, and nothing written to it stays.
    Direct,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Acceleration {
    /// KVM when a smoke test shows that it works, else TCG.
    #[default]
    Auto,
    Kvm,
    Tcg,
}

/// Redox's drivers know the transitional virtio device, NVMe and AHCI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Disk {
    #[default]
    Virtio,
    Nvme,
    Ahci,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Network {
    #[default]
    None,
    /// A network of the runner's own with an e1000 card; `forwards` lead from the host's loopback into it.
    User {
        #[serde(default)]
        forwards: Vec<Forward>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Forward {
    pub host: u16,
    pub guest: u16,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Display {
    /// No video device at all: loaders then ask nothing and go on by themselves.
    #[default]
    None,
    Gtk,
    /// A video device nobody looks at; screens can be taken over the control socket.
    Headless,
}

impl MachineSpec {
    /// A machine with defaults.
    pub fn new(name: &str, image: PathBuf) -> Self {
        MachineSpec {
            name: name.to_owned(),
            image,
            memory_mib: default_memory(),
            cpus: default_cpus(),
            firmware: Firmware::default(),
            loader: None,
            acceleration: Acceleration::default(),
            disk: Disk::default(),
            network: Network::default(),
            display: Display::default(),
            exit_device: true,
            extra_arguments: Vec::new(),
        }
    }

    pub(crate) fn refuse(&self, message: impl Into<String>) -> Error {
        Error::Specification { machine: self.name.clone(), message: message.into() }
    }

    /// Refuses what no runner can do.
    pub fn check(&self) -> Result<()> {
        if self.name.is_empty() || self.name.contains(['/', '\0', '\n', ',', '=']) {
            return Err(self.refuse("the name is empty or holds `/`, `,`, `=` or a line break"));
        }
        if !(MEMORY_MIN_MIB..=MEMORY_MAX_MIB).contains(&self.memory_mib) {
            return Err(self.refuse(format!("`memoryMib` must be {MEMORY_MIN_MIB} to {MEMORY_MAX_MIB}")));
        }
        if self.cpus == 0 || self.cpus > CPUS_MAX {
            return Err(self.refuse(format!("`cpus` must be 1 to {CPUS_MAX}")));
        }
        if !self.image.is_file() {
            return Err(self.refuse(format!("there is no image `{}`", self.image.display())));
        }
        Ok(())
    }

    /// What a direct start needs: the loader, and memory for the image beside the system.
    pub(crate) fn check_direct(&self) -> Result<&std::path::Path> {
        let loader = self.loader.as_deref().ok_or_else(|| self.refuse("a direct start needs a `loader`"))?;
        let image_mib = std::fs::metadata(&self.image).map_or(0, |found| found.len().div_ceil(1 << 20));
        let needed_mib = image_mib + DIRECT_SPARE_MIB;
        if self.memory_mib < needed_mib {
            return Err(self.refuse(format!(
                "a direct start keeps the image of {image_mib} MiB in memory: `memoryMib` must be at least {needed_mib}"
            )));
        }
        Ok(loader)
    }
}

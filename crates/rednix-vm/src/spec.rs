//! What a machine should be like, independent of who runs it. Values come from Nix as JSON with camelCase names.
//! It starts nothing.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::limits::{
    CPUS_MAX, DIRECT_SPARE_MIB, INTERFACE_MAX, MEMORY_MAX_MIB, MEMORY_MIN_MIB, RESOLUTION_MAX,
    RESOLUTION_MIN, SHARE_TAG_MAX,
};

#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MachineSpec {
    pub name: String,
    /// The raw disk image. It is never written to: writes go to the machine's own layer over it. Empty: still to be built.
    pub image: PathBuf,
    #[serde(default)]
    pub architecture: Architecture,
    #[serde(default = "default_memory")]
    pub memory_mib: u64,
    #[serde(default = "default_cpus")]
    pub cpus: u32,
    #[serde(default)]
    pub firmware: Firmware,
    /// The program that takes firmware's place in a direct start, and gets the image as its module or initial ramdisk: an
    /// ELF file with a PVH entry, or for kvmtool the same as a Linux kernel.
    #[serde(default)]
    pub loader: Option<PathBuf>,
    #[serde(default)]
    pub acceleration: Acceleration,
    /// The disk's controller; none given: what drivers of the architecture know, and no disk in a direct start.
    #[serde(default)]
    pub disk: Option<Disk>,
    /// Where the layer with the machine's writes is kept from one start to the next; none: it goes with the machine.
    #[serde(default)]
    pub persist: Option<PathBuf>,
    /// A folder with the state of a machine that was saved there, which goes on instead of starting.
    #[serde(default)]
    pub restore: Option<PathBuf>,
    #[serde(default)]
    pub network: Network,
    #[serde(default)]
    pub display: Display,
    /// The size of the screen, which firmware and loader are offered.
    #[serde(default)]
    pub resolution: Option<Resolution>,
    /// A USB controller with keyboard and tablet; none given: where somebody looks at the screen.
    #[serde(default)]
    pub usb: Option<bool>,
    #[serde(default)]
    pub audio: Option<Audio>,
    /// Folders of the host that the guest can mount.
    #[serde(default)]
    pub shares: Vec<Share>,
    /// A debugger can be connected.
    #[serde(default)]
    pub gdb: Option<Gdb>,
    /// Whether a reset by the guest starts it again; none given: at a terminal yes, in a test it ends the machine.
    #[serde(default)]
    pub restart: Option<bool>,
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
#[serde(rename_all = "lowercase")]
pub enum Architecture {
    #[default]
    #[serde(rename = "x86_64")]
    X86_64,
    I586,
    Aarch64,
    /// Upstream's name for it is accepted too.
    #[serde(alias = "riscv64gc")]
    Riscv64,
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

/// The disk's controller. Redox's own drivers know the transitional virtio device, NVMe, AHCI and IDE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Disk {
    /// No disk at all: the image is in memory.
    None,
    /// Virtio with the registers of before version 1 too.
    Virtio,
    /// Virtio as version 1 has it, over PCI or, where a monitor has no PCI, memory-mapped.
    VirtioModern,
    Nvme,
    Ahci,
    Ide,
    Usb,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Network {
    #[default]
    None,
    /// A network of the monitor's own; `forwards` lead from the host's loopback into it.
    User {
        #[serde(default)]
        forwards: Vec<Forward>,
        #[serde(default)]
        card: Option<Card>,
    },
    /// An interface that is there already, and that the user may open.
    Tap {
        interface: String,
        #[serde(default)]
        card: Option<Card>,
    },
    /// A bridge that is there already; QEMU's helper program makes the interface.
    Bridge {
        name: String,
        #[serde(default)]
        card: Option<Card>,
    },
}

impl Network {
    /// The host's interface or bridge that it is.
    pub fn interface(&self) -> Option<&str> {
        match self {
            Network::Tap { interface: name, .. } | Network::Bridge { name, .. } => Some(name),
            Network::None | Network::User { .. } => None,
        }
    }

    /// The card that is asked for.
    pub fn card(&self) -> Option<Card> {
        match self {
            Network::None => None,
            Network::User { card, .. } | Network::Tap { card, .. } | Network::Bridge { card, .. } => *card,
        }
    }
}

/// A network card. Redox's own drivers know all but the last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Card {
    #[default]
    E1000,
    Rtl8139,
    /// Virtio with the registers of before version 1 too.
    Virtio,
    VirtioModern,
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
    Sdl,
    /// Seen by whoever connects to this port of the host's loopback, from 5900 on.
    Vnc {
        port: u16,
    },
    /// A video device nobody looks at; screens can be taken over the control socket.
    Headless,
}

/// Pixels. Written `1280x800`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Resolution {
    pub width: u32,
    pub height: u32,
}

impl std::str::FromStr for Resolution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no resolution: write it as `1280x800`");
        let (width, height) = text.split_once('x').ok_or_else(wrong)?;
        let number = |word: &str| {
            let value = word.parse::<u32>().ok().filter(|_| word.bytes().all(|byte| byte.is_ascii_digit()));
            value.filter(|value| (RESOLUTION_MIN..=RESOLUTION_MAX).contains(value)).ok_or_else(wrong)
        };
        Ok(Resolution { width: number(width)?, height: number(height)? })
    }
}

impl TryFrom<String> for Resolution {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Resolution> for String {
    fn from(resolution: Resolution) -> String {
        resolution.to_string()
    }
}

impl std::fmt::Display for Resolution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// A sound card, and where its sound goes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Audio {
    #[serde(default)]
    pub card: AudioCard,
    /// One of the monitor's own ways out (`pipewire`, `pa`, `alsa`, `sdl`, …); `none`: the card is there, and silent.
    #[serde(default = "silent")]
    pub output: String,
}

fn silent() -> String {
    "none".to_owned()
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AudioCard {
    #[default]
    Hda,
    Ac97,
}

/// A folder of the host, known to the guest by its tag.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Share {
    pub folder: PathBuf,
    pub tag: String,
    #[serde(default)]
    pub read_only: bool,
}

/// GDB's remote protocol on a port of the host's loopback.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gdb {
    pub port: u16,
    /// The machine stands still until the debugger lets it go.
    #[serde(default)]
    pub wait: bool,
}

impl MachineSpec {
    /// A machine with defaults.
    pub fn new(name: &str, image: PathBuf) -> Self {
        MachineSpec {
            name: name.to_owned(),
            image,
            architecture: Architecture::default(),
            memory_mib: default_memory(),
            cpus: default_cpus(),
            firmware: Firmware::default(),
            loader: None,
            acceleration: Acceleration::default(),
            disk: None,
            persist: None,
            restore: None,
            network: Network::default(),
            display: Display::default(),
            resolution: None,
            usb: None,
            audio: None,
            shares: Vec::new(),
            gdb: None,
            restart: None,
            exit_device: true,
            extra_arguments: Vec::new(),
        }
    }

    pub(crate) fn refuse(&self, message: impl Into<String>) -> Error {
        Error::Specification { machine: self.name.clone(), message: message.into() }
    }

    /// What most often is missing where a monitor did not take a machine like this.
    pub(crate) fn start_hint(&self) -> Option<&'static str> {
        match self.network {
            Network::Bridge { .. } => Some(
                "QEMU joins only bridges that are named in /etc/qemu/bridge.conf: a line `allow NAME` there; and its \
                 helper `qemu-bridge-helper` has to be setuid root, or rednix run as root",
            ),
            Network::Tap { .. } => Some(
                "the interface has to be there and be this user's: `ip tuntap add NAME mode tap user USER`",
            ),
            Network::None | Network::User { .. } => None,
        }
    }

    /// Refuses what no runner can do.
    pub fn check(&self) -> Result<(), Error> {
        if self.name.is_empty() || self.name.contains(['/', '\0', '\n', ',', '=']) {
            return Err(self.refuse("the name is empty or holds `/`, `,`, `=` or a line break"));
        }
        if !(MEMORY_MIN_MIB..=MEMORY_MAX_MIB).contains(&self.memory_mib) {
            return Err(self.refuse(format!("`memoryMib` must be {MEMORY_MIN_MIB} to {MEMORY_MAX_MIB}")));
        }
        if self.cpus == 0 || self.cpus > CPUS_MAX {
            return Err(self.refuse(format!("`cpus` must be 1 to {CPUS_MAX}")));
        }
        let tags = self.shares.iter().map(|share| share.tag.as_str());
        if let Some(tag) = tags.clone().find(|tag| {
            tag.is_empty()
                || tag.len() > SHARE_TAG_MAX
                || tag.contains(|c: char| !c.is_ascii_alphanumeric() && !"-_.".contains(c))
        }) {
            return Err(self.refuse(format!(
                "`{tag}` is no tag of a shared folder: up to {SHARE_TAG_MAX} letters, digits, `-`, `_`, `.`"
            )));
        }
        if let Some(share) = self.shares.iter().find(|share| !share.folder.is_dir()) {
            return Err(self.refuse(format!("there is no folder `{}` to share", share.folder.display())));
        }
        if let Network::Tap { interface: name, .. } | Network::Bridge { name, .. } = &self.network
            && (name.is_empty()
                || name.len() > INTERFACE_MAX
                || name.contains(|c: char| "/:".contains(c) || c.is_whitespace() || c.is_control()))
        {
            return Err(self.refuse(format!(
                "{name:?} is no name of an interface: 1 to {INTERFACE_MAX} characters, no `/`, `:` or space"
            )));
        }
        crate::host_ports::check(self)?;
        if !self.is_planned() && !self.image.is_file() {
            return Err(self.refuse(format!("there is no image `{}`", self.image.display())));
        }
        Ok(())
    }

    /// Whether its image is still to be built: then all can be checked but what is a file's.
    pub fn is_planned(&self) -> bool {
        self.image.as_os_str().is_empty()
    }

    /// What a direct start needs: the loader, and memory for the image beside the system.
    pub(crate) fn check_direct(&self) -> Result<&std::path::Path, Error> {
        if self.is_planned() {
            return Ok(self.loader.as_deref().unwrap_or(&self.image));
        }
        let loader = self.loader.as_deref().ok_or_else(|| self.refuse("a direct start needs a `loader`"))?;
        if !loader.is_file() {
            return Err(self.refuse(format!("there is no loader `{}`", loader.display())));
        }
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

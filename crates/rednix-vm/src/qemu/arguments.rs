//! QEMU's command line, part by part. It decides nothing about what is possible.

use std::ffi::OsString;
use std::path::Path;

use crate::layer::{Layer, LayerKind};
use crate::runner::{CardSocket, Command, Engine, Wiring};
use crate::spec::{Architecture, AudioCard, Card, Disk, Display, MachineSpec, Network};

/// The port of the exit device, as redoxer uses it.
const EXIT_PORT: &str = "0x501";

fn push(arguments: &mut Vec<OsString>, words: &[&str]) {
    arguments.extend(words.iter().map(OsString::from));
}

pub fn is_pc(spec: &MachineSpec) -> bool {
    matches!(spec.architecture, Architecture::X86_64 | Architecture::I586)
}

pub fn machine(arguments: &mut Vec<OsString>, microvm: bool, spec: &MachineSpec, wiring: &Wiring<'_>) {
    let machine = match spec.architecture {
        // The old timer and interrupt controller, which kernels without newer ones fall back to.
        Architecture::X86_64 if microvm => "microvm,acpi=on,pit=on,pic=on,rtc=on",
        Architecture::X86_64 => "q35",
        Architecture::I586 => "pc",
        // The kernel takes the device tree, and stops at ACPI's tables.
        Architecture::Aarch64 | Architecture::Riscv64 => "virt,acpi=off",
    };
    push(arguments, &["-name", &spec.name, "-no-user-config", "-nodefaults", "-machine", machine]);
    // UEFI parks the other processors in `mwait` where there is one, and emulated that is a busy loop: a core of the host
    // for as long as the guest lets them rest. Without it the firmware takes `hlt`.
    let emulated = if is_pc(spec) { "max,monitor=off" } else { "max" };
    let (accelerator, cpu) = match wiring.engine {
        Engine::Kvm => ("kvm", "host"),
        Engine::Threads => ("tcg,thread=multi", emulated),
        Engine::Turns => ("tcg,thread=single", emulated),
    };
    push(arguments, &["-accel", accelerator, "-cpu", cpu]);
    push(arguments, &["-m", &format!("{}M", spec.memory_mib), "-smp", &spec.cpus.to_string()]);
    if wiring.end_on_reset {
        push(arguments, &["-no-reboot"]);
    }
    if let Some(gdb) = spec.gdb {
        push(arguments, &["-gdb", &format!("tcp:127.0.0.1:{}", gdb.port)]);
        if gdb.wait {
            push(arguments, &["-S"]);
        }
    }
}

/// `microvm` names its memory slots in ACPI alone; said on the command line as well, the loader hands them on. The disk's
/// is the first, the card's the second.
pub fn slots(arguments: &mut Vec<OsString>, spec: &MachineSpec) {
    let taken = [spec.disk == Some(Disk::VirtioModern), spec.network != Network::None];
    let numbers = (0u32..).zip(taken).filter(|(_, is_taken)| *is_taken);
    let words: Vec<String> = numbers
        .map(|(number, _)| {
            format!("virtio_mmio.device=512@{:#x}:{}", 0xfeb0_0000 + number * 0x200, 24 + number)
        })
        .collect();
    if !words.is_empty() {
        push(arguments, &["-append", &words.join(" ")]);
    }
}

pub fn disk(command: &mut Command, microvm: bool, direct: bool, spec: &MachineSpec) {
    let mut drive = OsString::from("if=none,id=disk0,");
    match &spec.persist {
        // `snapshot=on`: writes go to an unlinked temporary file, so machines share nothing they can write.
        None => {
            drive.push("format=raw,snapshot=on,cache=unsafe,file=");
            drive.push(escape_commas(&spec.image));
        }
        Some(file) => {
            drive.push("format=qcow2,file=");
            drive.push(escape_commas(file));
            let (image, file) = (spec.image.clone(), file.clone());
            command.layers.push(Layer { kind: LayerKind::Qcow2, image, file, kept: true });
        }
    }
    let arguments = &mut command.arguments;
    arguments.push("-drive".into());
    arguments.push(drive);
    let default = match spec.architecture {
        _ if microvm => Disk::VirtioModern,
        Architecture::X86_64 => Disk::Virtio,
        Architecture::I586 => Disk::Ide,
        Architecture::Aarch64 | Architecture::Riscv64 => Disk::Nvme,
    };
    let q35 = spec.architecture == Architecture::X86_64;
    let (controller, device) = match spec.disk.unwrap_or(default) {
        Disk::None => return,
        Disk::VirtioModern if microvm => {
            push(arguments, &["-global", "virtio-mmio.force-legacy=false"]);
            (None, "virtio-blk-device,bus=virtio-mmio-bus.0")
        }
        // Legacy registers too: Redox's driver knows only the transitional device.
        Disk::Virtio => (None, "virtio-blk-pci,disable-legacy=off,disable-modern=off"),
        Disk::VirtioModern => (None, "virtio-blk-pci,disable-legacy=on"),
        Disk::Nvme => (None, "nvme,serial=rednix"),
        // On board there, and its ports have the names of an IDE controller's.
        Disk::Ahci if q35 => (None, "ide-hd,bus=ide.0"),
        Disk::Ahci => (Some("ich9-ahci,id=ahci"), "ide-hd,bus=ahci.0"),
        Disk::Ide if spec.architecture == Architecture::I586 => (None, "ide-hd,bus=ide.0"),
        Disk::Ide => (Some("piix3-ide,id=pata"), "ide-hd,bus=pata.0"),
        Disk::Usb => (Some("qemu-xhci,id=usbdisk"), "usb-storage,bus=usbdisk.0"),
    };
    if let Some(controller) = controller {
        push(arguments, &["-device", controller]);
    }
    // A kernel that QEMU loads is the first thing to boot already.
    let order = if direct { "" } else { ",bootindex=0" };
    push(arguments, &["-device", &format!("{device},drive=disk0{order}")]);
}

/// The exchange disk's place on the bus, which nothing of ours takes by itself.
const EXCHANGE_SLOT: &str = "1d";

pub fn has_exchange(microvm: bool, spec: &MachineSpec) -> bool {
    spec.architecture == Architecture::X86_64 && !microvm
}

/// The disk for files, as a transitional virtio device. Redox's driver for the controller on board takes no disk there that
/// firmware has not touched, and firmware touches none but the one it boots from.
pub fn exchange(arguments: &mut Vec<OsString>, file: &Path) {
    let mut drive = OsString::from("if=none,id=exchange,format=raw,cache=unsafe,file=");
    drive.push(escape_commas(file));
    arguments.push("-drive".into());
    arguments.push(drive);
    push(
        arguments,
        &[
            "-device",
            &format!(
                "virtio-blk-pci,disable-legacy=off,disable-modern=off,addr={EXCHANGE_SLOT},drive=exchange"
            ),
        ],
    );
}

/// Names that Redox's driver has for it, by its address, whose first part grew with time.
pub fn exchange_places() -> Vec<String> {
    let place = |bus: &str| format!("/scheme/disk.pci-{bus}-{EXCHANGE_SLOT}.0_virtio_blk/0");
    ["00-00", "0000-00"].map(place).to_vec()
}

pub fn console(arguments: &mut Vec<OsString>, wiring: &Wiring<'_>) {
    // `signal=off`: Ctrl-C is for the guest.
    push(arguments, &["-chardev", "stdio,id=console,mux=off,signal=off", "-serial", "chardev:console"]);
    if let Some(descriptor) = wiring.control {
        let socket = format!("socket,id=control,fd={descriptor}");
        push(arguments, &["-chardev", &socket, "-mon", "chardev=control,mode=control"]);
    }
}

pub fn network(arguments: &mut Vec<OsString>, microvm: bool, spec: &MachineSpec) {
    let backend = match &spec.network {
        Network::None => return,
        Network::User { forwards, .. } => {
            let forwards = forwards
                .iter()
                .map(|forward| format!(",hostfwd=tcp:127.0.0.1:{}-:{}", forward.host, forward.guest));
            format!("user,id=net0{}", forwards.collect::<String>())
        }
        Network::Tap { interface, .. } => {
            format!("tap,id=net0,ifname={},script=no,downscript=no", interface.replace(',', ",,"))
        }
        Network::Bridge { name, .. } => format!("bridge,id=net0,br={}", name.replace(',', ",,")),
    };
    let card = match spec.network.card().unwrap_or_default() {
        _ if microvm => "virtio-net-device,bus=virtio-mmio-bus.1",
        Card::E1000 => "e1000",
        Card::Rtl8139 => "rtl8139",
        Card::Virtio => "virtio-net-pci,disable-legacy=off,disable-modern=off",
        Card::VirtioModern => "virtio-net-pci,disable-legacy=on",
    };
    if microvm {
        push(arguments, &["-global", "virtio-mmio.force-legacy=false"]);
        push(arguments, &["-netdev", &backend, "-device", &format!("{card},netdev=net0")]);
    } else {
        // Without the option ROM nothing tries to boot over the network.
        push(arguments, &["-netdev", &backend, "-device", &format!("{card},netdev=net0,romfile=")]);
    }
}

pub fn private_card(arguments: &mut Vec<OsString>, number: usize, card: &CardSocket) {
    let backend = format!("dgram,id=lan{number},local.type=fd,local.str={}", card.descriptor);
    let device = format!("e1000,netdev=lan{number},mac={},romfile=", card.address_text());
    push(arguments, &["-netdev", &backend, "-device", &device]);
}

pub fn has_usb(spec: &MachineSpec) -> bool {
    // A board without a PC's keyboard has no other way to be typed at.
    let is_shown = matches!(spec.display, Display::Gtk | Display::Sdl | Display::Vnc { .. });
    spec.usb.unwrap_or(is_shown || (spec.display == Display::Headless && !is_pc(spec)))
}

pub fn devices(arguments: &mut Vec<OsString>, spec: &MachineSpec) {
    display(arguments, spec);
    if has_usb(spec) {
        push(arguments, &["-device", "qemu-xhci", "-device", "usb-kbd", "-device", "usb-tablet"]);
    }
    if let Some(audio) = &spec.audio {
        push(arguments, &["-audiodev", &format!("{},id=audio0", audio.output)]);
        match audio.card {
            AudioCard::Hda => {
                push(arguments, &["-device", "ich9-intel-hda", "-device", "hda-output,audiodev=audio0"]);
            }
            AudioCard::Ac97 => push(arguments, &["-device", "AC97,audiodev=audio0"]),
        }
    }
    for share in &spec.shares {
        let mut words = OsString::from("local,path=");
        words.push(escape_commas(&share.folder));
        words.push(format!(",mount_tag={},security_model=none", share.tag));
        if share.read_only {
            words.push(",readonly=on");
        }
        arguments.push("-virtfs".into());
        arguments.push(words);
    }
    if spec.exit_device && is_pc(spec) {
        push(arguments, &["-device", &format!("isa-debug-exit,iobase={EXIT_PORT},iosize=0x04")]);
    }
}

fn display(arguments: &mut Vec<OsString>, spec: &MachineSpec) {
    match spec.display {
        Display::None | Display::Headless => push(arguments, &["-display", "none"]),
        Display::Gtk => push(arguments, &["-display", "gtk"]),
        Display::Sdl => push(arguments, &["-display", "sdl"]),
        Display::Vnc { port } => {
            let display = format!("127.0.0.1:{}", port.saturating_sub(5900));
            push(arguments, &["-display", "none", "-vnc", &display]);
        }
    }
    match (spec.display, spec.resolution) {
        (Display::None, _) => push(arguments, &["-vga", "none"]),
        // Firmware of these boards knows this one best.
        _ if !is_pc(spec) => push(arguments, &["-vga", "none", "-device", "ramfb"]),
        (_, None) => push(arguments, &["-vga", "std"]),
        // What the screen says of itself is what loaders take for the best mode.
        (_, Some(size)) => {
            let device = format!("VGA,edid=on,xres={},yres={}", size.width, size.height);
            push(arguments, &["-vga", "none", "-device", &device]);
        }
    }
}

/// In QEMU's option lists a comma in a value is written twice.
pub fn escape_commas(path: &Path) -> OsString {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let mut bytes = Vec::new();
    for &byte in path.as_os_str().as_bytes() {
        bytes.push(byte);
        if byte == b',' {
            bytes.push(byte);
        }
    }
    OsString::from_vec(bytes)
}

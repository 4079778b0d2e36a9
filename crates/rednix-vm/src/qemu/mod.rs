//! QEMU as a runner: finding it, its command line, its KVM smoke test, its exit statuses. Machines are 64-bit PCs, or
//! QEMU's `microvm`, which has a PC's processor, timers and serial port and no firmware, disk or card. It starts no machine; [`crate::machine`] does.

pub mod firmware;
mod smoke;

use std::ffi::OsString;
use std::path::Path;
use std::process::Command as Process;

use crate::error::{Error, Result};
use crate::exit::{Exit, ExitKind};
use crate::limits::VERSION_TIMEOUT;
use crate::process::{self, Waited};
use crate::runner::{CardSocket, Command, Config, Console, Program, Runner, Wiring};
use crate::spec::{Card, Disk, Display, Firmware, MachineSpec, Network};

pub use firmware::{FirmwareFiles, find as find_firmware};

const PROGRAM: &str = "qemu-system-x86_64";
/// The port of the exit device, as redoxer uses it.
const EXIT_PORT: &str = "0x501";

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Qemu {
    #[default]
    Pc,
    Microvm,
}

impl Runner for Qemu {
    fn name(&self) -> &'static str {
        match self {
            Qemu::Pc => "qemu",
            Qemu::Microvm => "microvm",
        }
    }

    fn find(&self, config: &Config) -> Result<Program> {
        let path = config.find_program(PROGRAM).ok_or_else(|| Error::Missing {
            what: format!("`{PROGRAM}`"),
            how: "install it: Debian, Ubuntu `apt-get install qemu-system-x86`; Fedora `dnf install qemu-system-x86`; \
                  Arch `pacman -S qemu-system-x86`; openSUSE `zypper install qemu-x86`; Nix `nix shell nixpkgs#qemu`"
                .into(),
        })?;
        let (waited, text) =
            process::output(Process::new(&path).arg("--version"), VERSION_TIMEOUT, &config.stop)
                .map_err(Error::io("run", &path))?;
        match waited {
            Waited::Ended(0) => {}
            Waited::Stopped => return Err(Error::Interrupted),
            _ => {
                let source = std::io::Error::other("`--version` fails: is it a working QEMU?");
                return Err(Error::Io { operation: "run", path, source });
            }
        }
        Ok(Program { version: version_of(&text), path })
    }

    fn limitations(&self) -> &'static [&'static str] {
        match self {
            Qemu::Pc => &["x86_64 guests only", "no shared folders", "no bridged network"],
            Qemu::Microvm => &["x86_64 guests only", "the image in memory", "no disk, network or display"],
        }
    }

    fn is_direct(&self, spec: &MachineSpec) -> bool {
        *self == Qemu::Microvm || spec.firmware == Firmware::Direct
    }

    fn check(&self, spec: &MachineSpec) -> Result<()> {
        spec.check()?;
        if self.is_direct(spec) {
            spec.check_direct()?;
        }
        if *self == Qemu::Pc {
            return Ok(());
        }
        let refused = [
            (spec.firmware == Firmware::Bios, "it has no firmware"),
            (spec.network != Network::None, "it has no network card"),
            (spec.display != Display::None, "it has no display"),
        ];
        match refused.iter().find(|(is_asked, _)| *is_asked) {
            Some((_, reason)) => Err(spec.refuse(format!("microvm cannot do that: {reason}; use `qemu`"))),
            None => Ok(()),
        }
    }

    fn smoke_test(&self, program: &Program, config: &Config) -> Result<Result<(), String>> {
        smoke::run(program, config)
    }

    fn command(
        &self,
        program: &Program,
        spec: &MachineSpec,
        config: &Config,
        wiring: &Wiring<'_>,
    ) -> Result<Command> {
        let mut command = Command {
            program: program.path.clone(),
            arguments: Vec::new(),
            // Where `snapshot=on` puts its layer; the default may be a small file system.
            environment: vec![("TMPDIR".into(), wiring.scratch.into())],
            copies: Vec::new(),
        };
        machine_arguments(&mut command.arguments, *self, spec, wiring);
        if self.is_direct(spec) {
            command.arguments.extend(["-kernel".into(), spec.check_direct()?.into()]);
            command.arguments.extend(["-initrd".into(), OsString::from(&spec.image)]);
        } else {
            // That for BIOS is built in.
            if spec.firmware == Firmware::Uefi {
                firmware::find(program, config)?.add_to(&mut command, wiring.scratch);
            }
            disk_arguments(&mut command.arguments, spec);
        }
        console_arguments(&mut command.arguments, wiring);
        device_arguments(&mut command.arguments, spec);
        for (number, card) in wiring.cards.iter().enumerate() {
            private_card(&mut command.arguments, number, card);
        }
        command.arguments.extend(spec.extra_arguments.iter().map(OsString::from));
        Ok(command)
    }

    fn exit(&self, status: i32) -> Exit {
        let kind = match status {
            ..0 => return Exit { kind: ExitKind::Killed(-status), status: 128 - status },
            0 => ExitKind::PoweredOff,
            // The exit device turns a value v into 2v + 1; 1 is also how QEMU itself fails.
            1 => ExitKind::Failed,
            status if status % 2 == 1 => ExitKind::Guest,
            _ => ExitKind::Failed,
        };
        Exit { kind, status }
    }
}

/// The words after "version" in the first line.
fn version_of(text: &str) -> String {
    let line = text.lines().next().unwrap_or("");
    line.split_once("version ").map_or(line, |(_, rest)| rest).trim().to_owned()
}

fn push(arguments: &mut Vec<OsString>, words: &[&str]) {
    arguments.extend(words.iter().map(OsString::from));
}

fn machine_arguments(arguments: &mut Vec<OsString>, qemu: Qemu, spec: &MachineSpec, wiring: &Wiring<'_>) {
    let machine = match qemu {
        Qemu::Pc => "q35",
        // The old timer and interrupt controller, which kernels without newer ones fall back to.
        Qemu::Microvm => "microvm,acpi=on,pit=on,pic=on,rtc=on",
    };
    push(arguments, &["-name", &spec.name, "-no-user-config", "-nodefaults", "-machine", machine]);
    if wiring.kvm {
        push(arguments, &["-accel", "kvm", "-cpu", "host"]);
    } else {
        push(arguments, &["-accel", "tcg,thread=multi", "-cpu", "max"]);
    }
    push(arguments, &["-m", &format!("{}M", spec.memory_mib), "-smp", &spec.cpus.to_string()]);
    if wiring.end_on_reset {
        push(arguments, &["-no-reboot"]);
    }
}

fn disk_arguments(arguments: &mut Vec<OsString>, spec: &MachineSpec) {
    // `snapshot=on`: writes go to an unlinked temporary file, so machines share nothing they can write.
    let mut drive = OsString::from("if=none,id=disk0,format=raw,snapshot=on,cache=unsafe,file=");
    drive.push(escape_commas(&spec.image));
    arguments.push("-drive".into());
    arguments.push(drive);
    match spec.disk.unwrap_or(Disk::Virtio) {
        Disk::None => {}
        // Legacy registers too: Redox's driver knows only the transitional device.
        Disk::Virtio => push(
            arguments,
            &["-device", "virtio-blk-pci,drive=disk0,bootindex=0,disable-legacy=off,disable-modern=off"],
        ),
        Disk::VirtioModern => {
            push(arguments, &["-device", "virtio-blk-pci,drive=disk0,bootindex=0,disable-legacy=on"]);
        }
        Disk::Usb => push(
            arguments,
            &[
                "-device",
                "qemu-xhci,id=usb-disk",
                "-device",
                "usb-storage,drive=disk0,bus=usb-disk.0,bootindex=0",
            ],
        ),
        Disk::Ide => push(arguments, &["-device", "ide-hd,drive=disk0,bus=ide.0,bootindex=0"]),
        Disk::Nvme => push(arguments, &["-device", "nvme,drive=disk0,serial=rednix,bootindex=0"]),
        Disk::Ahci => push(arguments, &["-device", "ide-hd,drive=disk0,bus=ide.0,bootindex=0"]),
    }
}

fn console_arguments(arguments: &mut Vec<OsString>, wiring: &Wiring<'_>) {
    match wiring.console {
        // `signal=off`: Ctrl-C is for the guest. The multiplexer gives Ctrl-A X.
        Console::Terminal => push(
            arguments,
            &[
                "-chardev",
                "stdio,id=console,mux=on,signal=off",
                "-serial",
                "chardev:console",
                "-mon",
                "chardev=console,mode=readline",
            ],
        ),
        Console::Pipes => {
            push(
                arguments,
                &["-chardev", "stdio,id=console,mux=off,signal=off", "-serial", "chardev:console"],
            );
        }
    }
    if let Some(descriptor) = wiring.control {
        push(
            arguments,
            &[
                "-chardev",
                &format!("socket,id=control,fd={descriptor}"),
                "-mon",
                "chardev=control,mode=control",
            ],
        );
    }
}

fn device_arguments(arguments: &mut Vec<OsString>, spec: &MachineSpec) {
    network_arguments(arguments, &spec.network);
    match spec.display {
        Display::None => push(arguments, &["-display", "none", "-vga", "none"]),
        Display::Sdl => push(arguments, &["-display", "sdl", "-vga", "std"]),
        Display::Vnc { port } => {
            let display = format!("127.0.0.1:{}", port.saturating_sub(5900));
            push(arguments, &["-display", "none", "-vnc", &display, "-vga", "std"]);
        }
        Display::Headless => push(arguments, &["-display", "none", "-vga", "std"]),
        Display::Gtk => push(
            arguments,
            &[
                "-display",
                "gtk",
                "-vga",
                "std",
                "-device",
                "qemu-xhci",
                "-device",
                "usb-kbd",
                "-device",
                "usb-tablet",
            ],
        ),
    }
    if spec.exit_device {
        push(arguments, &["-device", &format!("isa-debug-exit,iobase={EXIT_PORT},iosize=0x04")]);
    }
}

fn network_arguments(arguments: &mut Vec<OsString>, network: &Network) {
    let backend = match network {
        Network::None => return,
        Network::User { forwards, .. } => {
            let forwards = forwards
                .iter()
                .map(|forward| format!(",hostfwd=tcp:127.0.0.1:{}-:{}", forward.host, forward.guest));
            format!("user,id=net0{}", forwards.collect::<String>())
        }
        Network::Tap { interface, .. } => format!("tap,id=net0,ifname={interface},script=no,downscript=no"),
        Network::Bridge { name, .. } => format!("bridge,id=net0,br={name}"),
    };
    let card = match network.card().unwrap_or_default() {
        Card::E1000 => "e1000",
        Card::Rtl8139 => "rtl8139",
        Card::Virtio => "virtio-net-pci,disable-legacy=off,disable-modern=off",
        Card::VirtioModern => "virtio-net-pci,disable-legacy=on",
    };
    push(arguments, &["-netdev", &backend, "-device", &format!("{card},netdev=net0,romfile=")]);
}

fn private_card(arguments: &mut Vec<OsString>, number: usize, card: &CardSocket) {
    let backend = format!("dgram,id=lan{number},local.type=fd,local.str={}", card.descriptor);
    let device = format!("e1000,netdev=lan{number},mac={},romfile=", card.address_text());
    push(arguments, &["-netdev", &backend, "-device", &device]);
}

/// In QEMU's option lists a comma in a value is written twice.
fn escape_commas(path: &Path) -> OsString {
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

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::spec::{Acceleration, Forward};

    fn words(spec: &MachineSpec, console: Console, kvm: bool) -> String {
        let program = Program { path: "/bin/qemu".into(), version: "1".into() };
        let config = Config::new(vec![], "/scratch".into(), "/logs".into());
        let scratch = PathBuf::from("/scratch/x");
        let wiring =
            Wiring { console, kvm, control: Some(9), cards: &[], scratch: &scratch, end_on_reset: true };
        Qemu::Pc.command(&program, spec, &config, &wiring).unwrap().shell_text()
    }

    fn spec() -> MachineSpec {
        MachineSpec {
            firmware: Firmware::Bios,
            acceleration: Acceleration::Tcg,
            ..MachineSpec::new("probe", "/store/a,b/disk.img".into())
        }
    }

    #[test]
    fn a_whole_command_line() {
        let expected = "TMPDIR=/scratch/x /bin/qemu -name probe -no-user-config -nodefaults -machine q35 \
            -accel tcg,thread=multi -cpu max -m 1024M -smp 2 -no-reboot \
            -drive if=none,id=disk0,format=raw,snapshot=on,cache=unsafe,file=/store/a,,b/disk.img \
            -device virtio-blk-pci,drive=disk0,bootindex=0,disable-legacy=off,disable-modern=off \
            -chardev stdio,id=console,mux=off,signal=off -serial chardev:console \
            -chardev socket,id=control,fd=9 -mon chardev=control,mode=control \
            -display none -vga none -device isa-debug-exit,iobase=0x501,iosize=0x04";
        assert_eq!(words(&spec(), Console::Pipes, false), expected);
    }

    #[test]
    fn parts_follow_the_specification() {
        let forwards = vec![Forward { host: 8022, guest: 22 }];
        let cases: [(MachineSpec, &str); 6] = [
            (MachineSpec { disk: Some(Disk::Nvme), ..spec() }, "-device nvme,drive=disk0,serial=rednix"),
            (MachineSpec { disk: Some(Disk::Ahci), ..spec() }, "-device ide-hd,drive=disk0,bus=ide.0"),
            (MachineSpec { display: Display::Gtk, ..spec() }, "-display gtk -vga std"),
            (
                MachineSpec { network: Network::User { forwards, card: None }, ..spec() },
                "hostfwd=tcp:127.0.0.1:8022-:22",
            ),
            (MachineSpec { cpus: 4, memory_mib: 64, ..spec() }, "-m 64M -smp 4"),
            (MachineSpec { extra_arguments: vec!["-foo bar".into()], ..spec() }, "iosize=0x04 '-foo bar'"),
        ];
        for (spec, expected) in cases {
            let text = words(&spec, Console::Terminal, false);
            assert!(text.contains(expected), "no {expected:?} in {text:?}");
            assert!(text.contains("mux=on,signal=off"), "{text}");
        }
        assert!(words(&spec(), Console::Pipes, true).contains("-accel kvm -cpu host"));
        assert!(
            !words(&MachineSpec { exit_device: false, ..spec() }, Console::Pipes, false)
                .contains("isa-debug-exit")
        );
    }

    #[test]
    fn a_start_without_firmware() {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("disk.img");
        std::fs::write(&image, "image").unwrap();
        let direct = MachineSpec {
            firmware: Firmware::Direct,
            loader: Some("/store/loader".into()),
            image: image.clone(),
            ..spec()
        };
        let text = words(&direct, Console::Pipes, false);
        assert!(text.contains(&format!("-kernel /store/loader -initrd {}", image.display())), "{text}");
        assert!(!text.contains("drive="), "{text}");
        assert!(Qemu::Microvm.check(&direct).is_ok());
        let default = MachineSpec { firmware: Firmware::Uefi, ..direct.clone() };
        assert!(Qemu::Microvm.is_direct(&default) && !Qemu::Pc.is_direct(&default));
        for (wrong, reason) in [
            (MachineSpec { loader: None, ..direct.clone() }, "needs a `loader`"),
            (MachineSpec { memory_mib: 64, ..direct.clone() }, "at least 97"),
            (MachineSpec { firmware: Firmware::Bios, ..direct.clone() }, "no firmware"),
            (
                MachineSpec { network: Network::User { forwards: vec![], card: None }, ..direct.clone() },
                "network card",
            ),
            (MachineSpec { display: Display::Gtk, ..direct.clone() }, "display"),
        ] {
            let error = Qemu::Microvm.check(&wrong).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn statuses_have_meanings() {
        let cases = [
            (0, ExitKind::PoweredOff, 0),
            (1, ExitKind::Failed, 1),
            (51, ExitKind::Guest, 0),
            (53, ExitKind::Guest, 53),
            (-9, ExitKind::Killed(9), 137),
            (137, ExitKind::Guest, 137),
            (2, ExitKind::Failed, 2),
        ];
        for (status, kind, code) in cases {
            let exit = Qemu::Pc.exit(status);
            assert_eq!((exit.kind.clone(), exit.code()), (kind, code), "status {status}");
        }
    }

    #[test]
    fn versions_are_read() {
        assert_eq!(
            version_of("QEMU emulator version 7.2.22 (Debian 1:7.2)\nCopyright"),
            "7.2.22 (Debian 1:7.2)"
        );
        assert_eq!(version_of(""), "");
    }
}

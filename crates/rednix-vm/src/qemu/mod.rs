//! QEMU as a runner: finding it, what it can run, its KVM smoke test, its exit statuses. Machines are PCs (`q35`, and `pc`
//! for 32-bit ones), `virt` boards of other architectures, and `microvm`, which has a PC's processor, timers and serial
//! port and neither firmware nor PCI. It starts no machine; [`crate::launch`] does.

mod arguments;
mod explain;
pub mod firmware;
mod smoke;
mod version;

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::Path;

use crate::ability;
use crate::control::{Control, Qmp};
use crate::error::{Error, Result};
use crate::exit::{Exit, ExitKind};
use crate::runner::{Command, Config, Program, Runner, Wiring};
use crate::spec::{Architecture, Card, Disk, Display, Firmware, MachineSpec};

pub use firmware::{FirmwareFiles, find as find_firmware};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Qemu {
    #[default]
    Pc,
    Microvm,
}

/// The program for an architecture, and the packages that bring it on Debian, Fedora, Arch and openSUSE.
fn program(architecture: Architecture) -> (&'static str, [&'static str; 4]) {
    match architecture {
        Architecture::X86_64 => {
            ("qemu-system-x86_64", ["qemu-system-x86", "qemu-system-x86", "qemu-system-x86", "qemu-x86"])
        }
        Architecture::I586 => {
            ("qemu-system-i386", ["qemu-system-x86", "qemu-system-x86", "qemu-system-x86", "qemu-x86"])
        }
        Architecture::Aarch64 => (
            "qemu-system-aarch64",
            ["qemu-system-arm", "qemu-system-aarch64", "qemu-system-aarch64", "qemu-arm"],
        ),
        Architecture::Riscv64 => (
            "qemu-system-riscv64",
            ["qemu-system-misc", "qemu-system-riscv", "qemu-system-riscv", "qemu-extra"],
        ),
    }
}

impl Runner for Qemu {
    fn name(&self) -> &'static str {
        match self {
            Qemu::Pc => "qemu",
            Qemu::Microvm => "microvm",
        }
    }

    fn find(&self, spec: &MachineSpec, config: &Config) -> Result<Program> {
        let (name, [debian, fedora, arch, suse]) = program(spec.architecture);
        config.find_program(name).map(Program::at).ok_or_else(|| Error::Missing {
            what: format!("`{name}`"),
            how: format!(
                "install it: Debian, Ubuntu `apt-get install {debian}`; Fedora `dnf install {fedora}`; \
                 Arch `pacman -S {arch}`; openSUSE `zypper install {suse}`; Nix `nix shell nixpkgs#qemu`"
            ),
        })
    }

    fn limitations(&self) -> &'static [&'static str] {
        match self {
            Qemu::Pc => &["direct start on x86_64 only", "saves no state"],
            Qemu::Microvm => &[
                "x86_64 only",
                "no firmware",
                "no PCI: disk and card are memory-mapped virtio",
                "no display, USB, audio or shared folders",
                "saves no state",
            ],
        }
    }

    fn is_direct(&self, spec: &MachineSpec) -> bool {
        *self == Qemu::Microvm || spec.firmware == Firmware::Direct
    }

    fn has_keyboard(&self, spec: &MachineSpec) -> bool {
        *self == Qemu::Pc && (arguments::is_pc(spec) || arguments::has_usb(spec))
    }

    fn has_exit_device(&self, spec: &MachineSpec) -> bool {
        spec.exit_device && arguments::is_pc(spec)
    }

    fn check(&self, spec: &MachineSpec) -> Result<()> {
        ability::check(self, spec)?;
        if self.is_direct(spec) {
            spec.check_direct()?;
            if spec.architecture != Architecture::X86_64 {
                return Err(spec.refuse("a direct start is there for x86_64 only: use firmware"));
            }
        }
        let architecture = spec.architecture;
        let is_pc = arguments::is_pc(spec);
        let microvm = *self == Qemu::Microvm;
        let card = spec.network.card();
        let refused = [
            (
                spec.restore.is_some(),
                "QEMU's state is not saved or restored; use `cloud-hypervisor` or `firecracker`",
            ),
            (!is_pc && spec.firmware == Firmware::Bios, "BIOS is for PCs: use `uefi`"),
            (
                architecture == Architecture::I586 && spec.firmware == Firmware::Uefi,
                "32-bit machines start by BIOS: use `bios`",
            ),
            (microvm && spec.firmware == Firmware::Bios, "microvm has no firmware; use `qemu`"),
            (microvm && spec.display != Display::None, "microvm has no display; use `qemu`"),
            (
                !is_pc && spec.display != Display::None && spec.resolution.is_some(),
                "firmware alone chooses the size of this board's screen: leave `resolution` out",
            ),
            (microvm && !spec.shares.is_empty(), "microvm shares no folders; use `qemu`"),
            (
                microvm && (spec.usb == Some(true) || spec.audio.is_some()),
                "microvm has neither USB nor audio; use `qemu`",
            ),
            (
                microvm && !matches!(spec.disk, None | Some(Disk::None | Disk::VirtioModern)),
                "microvm's disk is `virtioModern`, or there is none; for others use `qemu`",
            ),
            (
                microvm && !matches!(card, None | Some(Card::VirtioModern)),
                "microvm's card is `virtioModern`; for others use `qemu`",
            ),
            (matches!(spec.display, Display::Vnc { port } if port < 5900), "VNC's ports begin at 5900"),
        ];
        match refused.iter().find(|(is_asked, _)| *is_asked) {
            Some((_, reason)) => Err(spec.refuse(*reason)),
            None => Ok(()),
        }
    }

    fn smoke_test(&self, program: &Program, config: &Config) -> Result<Result<(), String>> {
        smoke::run(program, config)
    }

    fn emulates_in_threads(&self, program: &Program, config: &Config) -> Result<bool> {
        version::has_sound_threads(program, config)
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
            // Where `snapshot=on` puts its layer; the default may be a small file system.
            environment: vec![("TMPDIR".into(), wiring.scratch.into())],
            ..Command::default()
        };
        let microvm = *self == Qemu::Microvm;
        arguments::machine(&mut command.arguments, microvm, spec, wiring);
        if self.is_direct(spec) {
            command.arguments.extend(["-kernel".into(), spec.check_direct()?.into()]);
            command.arguments.extend(["-initrd".into(), OsString::from(&spec.image)]);
            if microvm {
                arguments::slots(&mut command.arguments, spec);
            }
        } else if spec.firmware == Firmware::Uefi {
            // That for BIOS is built in.
            firmware::find(spec.architecture, program, config)?.add_to(&mut command);
        }
        if self.has_disk(spec) {
            arguments::disk(&mut command, microvm, self.is_direct(spec), spec);
        }
        if let Some(file) = wiring.exchange {
            arguments::exchange(&mut command.arguments, file);
        }
        arguments::console(&mut command.arguments, wiring);
        arguments::network(&mut command.arguments, microvm, spec);
        for (number, card) in wiring.cards.iter().enumerate() {
            arguments::private_card(&mut command.arguments, number, card);
        }
        arguments::devices(&mut command.arguments, spec);
        command.arguments.extend(spec.extra_arguments.iter().map(OsString::from));
        Ok(command)
    }

    fn exchange_places(&self, spec: &MachineSpec, _: &Path) -> Vec<String> {
        let has = arguments::has_exchange(*self == Qemu::Microvm, spec);
        if has { arguments::exchange_places() } else { Vec::new() }
    }

    fn explain(&self, spec: &MachineSpec, said: &str) -> Option<String> {
        explain::hint(spec, said).or_else(|| spec.start_hint().map(str::to_owned))
    }

    fn control(&self, _: &Program, _: &Path) -> Result<(Box<dyn Control>, Option<OwnedFd>)> {
        let (ours, theirs) = Qmp::pair()?;
        Ok((Box::new(ours), Some(theirs.into())))
    }

    fn exit(&self, status: i32) -> Exit {
        let kind = match status {
            ..0 => return Exit { kind: ExitKind::Killed(-status), status: 128 - status },
            0 => ExitKind::PoweredOff,
            // The exit device turns a value v into 2v + 1; 1 is also how QEMU fails before it has a machine.
            status if status % 2 == 1 => ExitKind::Guest,
            _ => ExitKind::Failed,
        };
        Exit { kind, status }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::runner::Engine;
    use crate::spec::{Acceleration, Audio, AudioCard, Forward, Gdb, Network};

    fn words(qemu: Qemu, spec: &MachineSpec, engine: Engine) -> String {
        let program = Program { path: "/bin/qemu".into(), identity: "1".into() };
        let config = Config::new(vec![], "/scratch".into(), "/logs".into());
        let scratch = PathBuf::from("/scratch/x");
        let wiring = Wiring {
            engine,
            control: Some(9),
            cards: &[],
            exchange: None,
            scratch: &scratch,
            end_on_reset: true,
        };
        qemu.command(&program, spec, &config, &wiring).unwrap().shell_text()
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
            -accel tcg,thread=single -cpu max,monitor=off -m 1024M -smp 2 -no-reboot \
            -drive if=none,id=disk0,format=raw,snapshot=on,cache=unsafe,file=/store/a,,b/disk.img \
            -device virtio-blk-pci,disable-legacy=off,disable-modern=off,drive=disk0,bootindex=0 \
            -chardev stdio,id=console,mux=off,signal=off -serial chardev:console \
            -chardev socket,id=control,fd=9 -mon chardev=control,mode=control \
            -display none -vga none -device isa-debug-exit,iobase=0x501,iosize=0x04";
        assert_eq!(words(Qemu::Pc, &spec(), Engine::Turns), expected);
    }

    #[test]
    fn parts_follow_the_specification() {
        let user = |card| Network::User { forwards: vec![Forward { host: 8022, guest: 22 }], card };
        let tap = Network::Tap { interface: "tap0".into(), card: Some(Card::VirtioModern) };
        let odd = Network::Tap { interface: "t,script=/x".into(), card: None };
        let bridge = Network::Bridge { name: "br0".into(), card: Some(Card::Rtl8139) };
        let disk = |disk| MachineSpec { disk: Some(disk), ..spec() };
        let show = |display| MachineSpec { display, ..spec() };
        let arm = |display| MachineSpec { architecture: Architecture::Aarch64, ..show(display) };
        let sound = |card| MachineSpec { audio: Some(Audio { card, output: "pa".into() }), ..spec() };
        let gdb = |wait| MachineSpec { gdb: Some(Gdb { port: 1234, wait }), ..spec() };
        let net = |network| MachineSpec { network, ..spec() };
        let size = "640x480".parse().ok();
        let i586 = MachineSpec { architecture: Architecture::I586, ..spec() };
        let riscv = MachineSpec { architecture: Architecture::Riscv64, ..spec() };
        let cases: [(MachineSpec, &str); 28] = [
            (disk(Disk::Nvme), "-device nvme,serial=rednix,drive=disk0,bootindex=0"),
            (disk(Disk::Ahci), "-device ide-hd,bus=ide.0,drive=disk0"),
            (disk(Disk::Ide), "-device piix3-ide,id=pata -device ide-hd,bus=pata.0,drive=disk0"),
            (disk(Disk::Usb), "-device usb-storage,bus=usbdisk.0,drive=disk0"),
            (disk(Disk::VirtioModern), "virtio-blk-pci,disable-legacy=on,drive=disk0,bootindex=0"),
            (show(Display::Gtk), "-display gtk -vga std -device qemu-xhci -device usb-kbd"),
            (show(Display::Sdl), "-display sdl -vga std -device qemu-xhci"),
            (show(Display::Vnc { port: 5901 }), "-display none -vnc 127.0.0.1:1 -vga std -device qemu-xhci"),
            (show(Display::Headless), "-display none -vga std -device isa"),
            (arm(Display::Headless), "-vga none -device ramfb -device qemu-xhci"),
            (MachineSpec { resolution: size, ..show(Display::Headless) }, "VGA,edid=on,xres=640,yres=480"),
            (net(user(None)), "hostfwd=tcp:127.0.0.1:8022-:22 -device e1000,netdev=net0,romfile="),
            (
                net(user(Some(Card::Virtio))),
                "virtio-net-pci,disable-legacy=off,disable-modern=off,netdev=net0",
            ),
            (
                net(tap),
                "tap,id=net0,ifname=tap0,script=no,downscript=no -device virtio-net-pci,disable-legacy=on",
            ),
            (net(odd), "tap,id=net0,ifname=t,,script=/x,script=no"),
            (net(bridge), "bridge,id=net0,br=br0 -device rtl8139,netdev=net0"),
            (sound(AudioCard::Hda), "-audiodev pa,id=audio0 -device ich9-intel-hda -device hda-output"),
            (sound(AudioCard::Ac97), "-device AC97,audiodev=audio0"),
            (gdb(false), "-gdb tcp:127.0.0.1:1234 -drive"),
            (gdb(true), "-gdb tcp:127.0.0.1:1234 -S"),
            (MachineSpec { usb: Some(true), ..spec() }, "-device usb-tablet"),
            (MachineSpec { cpus: 4, memory_mib: 64, ..spec() }, "-m 64M -smp 4"),
            (MachineSpec { persist: Some("/l,a".into()), ..spec() }, "format=qcow2,file=/l,,a"),
            (MachineSpec { extra_arguments: vec!["-foo bar".into()], ..spec() }, "iosize=0x04 '-foo bar'"),
            (i586.clone(), "-machine pc "),
            (i586, "-device ide-hd,bus=ide.0,drive=disk0"),
            (riscv.clone(), "-machine virt,acpi=off "),
            (riscv, "-cpu max -m"),
        ];
        for (spec, expected) in cases {
            let text = words(Qemu::Pc, &spec, Engine::Turns);
            assert!(text.contains(expected), "no {expected:?} in {text:?}");
        }
        assert!(words(Qemu::Pc, &spec(), Engine::Kvm).contains("-accel kvm -cpu host"));
        assert!(
            !words(Qemu::Pc, &MachineSpec { exit_device: false, ..spec() }, Engine::Turns)
                .contains("isa-debug-exit")
        );
    }

    #[test]
    fn the_exchange_disk_is_where_the_guest_is_told() {
        let program = Program { path: "/bin/qemu".into(), identity: "1".into() };
        let config = Config::new(vec![], "/scratch".into(), "/logs".into());
        let scratch = PathBuf::from("/scratch/x");
        let file = scratch.join("a,b");
        let wiring = Wiring {
            engine: Engine::Turns,
            control: None,
            cards: &[],
            exchange: Some(&file),
            scratch: &scratch,
            end_on_reset: true,
        };
        let text = Qemu::Pc.command(&program, &spec(), &config, &wiring).unwrap().shell_text();
        let expected = "-drive if=none,id=exchange,format=raw,cache=unsafe,file=/scratch/x/a,,b \
            -device virtio-blk-pci,disable-legacy=off,disable-modern=off,addr=1d,drive=exchange -chardev stdio";
        assert!(text.contains(expected), "{text}");
        let places = Qemu::Pc.exchange_places(&spec(), &file);
        assert_eq!(places[0], "/scheme/disk.pci-00-00-1d.0_virtio_blk/0");
        // Without a PC's bus there is none, and files go over the console.
        assert!(Qemu::Microvm.exchange_places(&spec(), &file).is_empty());
        let i586 = MachineSpec { architecture: Architecture::I586, ..spec() };
        assert!(Qemu::Pc.exchange_places(&i586, &file).is_empty());
    }

    fn direct(folder: &Path) -> MachineSpec {
        let image = folder.join("disk.img");
        let loader = folder.join("loader");
        std::fs::write(&image, "image").unwrap();
        std::fs::write(&loader, "loader").unwrap();
        MachineSpec { firmware: Firmware::Direct, loader: Some(loader), image, ..spec() }
    }

    #[test]
    fn a_start_without_firmware() {
        let folder = tempfile::tempdir().unwrap();
        let direct = direct(folder.path());
        let text = words(Qemu::Pc, &direct, Engine::Turns);
        assert!(text.contains(&format!("/loader -initrd {}", direct.image.display())), "{text}");
        assert!(!text.contains("drive="), "{text}");
        let text = words(
            Qemu::Microvm,
            &MachineSpec { disk: Some(Disk::VirtioModern), ..direct.clone() },
            Engine::Turns,
        );
        let device =
            "force-legacy=false -device virtio-blk-device,bus=virtio-mmio-bus.0,drive=disk0 -chardev";
        assert!(text.contains(device), "{text}");
        assert!(text.contains("-append virtio_mmio.device=512@0xfeb00000:24 "), "{text}");
        assert!(Qemu::Microvm.check(&direct).is_ok());
        let default = MachineSpec { firmware: Firmware::Uefi, ..direct };
        assert!(Qemu::Microvm.is_direct(&default) && !Qemu::Pc.is_direct(&default));
    }

    #[test]
    fn what_cannot_be_is_refused_with_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let direct = direct(folder.path());
        let with = |change: &dyn Fn(&mut MachineSpec)| {
            let mut spec = direct.clone();
            change(&mut spec);
            spec
        };
        let cases: [(Qemu, MachineSpec, &str); 11] = [
            (Qemu::Pc, with(&|spec| spec.loader = None), "needs a `loader`"),
            (Qemu::Pc, with(&|spec| spec.memory_mib = 64), "at least 97"),
            (Qemu::Pc, with(&|spec| spec.architecture = Architecture::Aarch64), "x86_64 only: use firmware"),
            (Qemu::Pc, with(&|spec| spec.restore = Some("/x".into())), "use `cloud-hypervisor`"),
            (Qemu::Pc, with(&|spec| spec.display = Display::Vnc { port: 80 }), "begin at 5900"),
            (Qemu::Microvm, with(&|spec| spec.firmware = Firmware::Bios), "no firmware; use `qemu`"),
            (Qemu::Microvm, with(&|spec| spec.network = Network::User { forwards: vec![], card: None }), ""),
            (
                Qemu::Microvm,
                with(&|spec| spec.network = Network::User { forwards: vec![], card: Some(Card::E1000) }),
                "card is `virtioModern`",
            ),
            (Qemu::Microvm, with(&|spec| spec.disk = Some(Disk::Nvme)), "disk is `virtioModern`"),
            (Qemu::Microvm, with(&|spec| spec.display = Display::Gtk), "display"),
            (Qemu::Microvm, with(&|spec| spec.usb = Some(true)), "neither USB"),
        ];
        for (qemu, wrong, reason) in cases {
            let text = qemu.check(&wrong).map_or_else(|error| error.to_string(), |()| String::new());
            assert!(text.contains(reason) && text.is_empty() == reason.is_empty(), "{text:?}, {reason:?}");
        }
        let i586 = MachineSpec { architecture: Architecture::I586, firmware: Firmware::Uefi, ..direct };
        assert!(Qemu::Pc.check(&i586).unwrap_err().to_string().contains("use `bios`"));
    }

    #[test]
    fn statuses_have_meanings() {
        let cases = [
            (0, ExitKind::PoweredOff, 0),
            (1, ExitKind::Guest, 1),
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
}

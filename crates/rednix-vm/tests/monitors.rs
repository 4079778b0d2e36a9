//! What the monitors without firmware are told, what they refuse, and that what they need is said. None is started.

use std::path::{Path, PathBuf};

use rednix_vm::runner::{Engine, NAMES, Wiring};
use rednix_vm::spec::{Audio, Card, Disk, Display, Firmware, Forward, Gdb, Network, Share};
use rednix_vm::{Config, MachineSpec, Program, by_name};

/// A machine alone, on KVM.
fn wiring() -> Wiring<'static> {
    Wiring {
        engine: Engine::Kvm,
        control: None,
        cards: &[],
        exchange: None,
        scratch: Path::new("/scratch/x"),
        end_on_reset: false,
    }
}

struct Scene {
    folder: tempfile::TempDir,
    config: Config,
}

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["disk.img", "loader", "CLOUDHV.fd"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        let program = folder.path().join("virtiofsd");
        std::fs::write(&program, "").unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let config = Config::new(vec![folder.path().into()], "/scratch".into(), "/logs".into());
        Scene { folder, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn spec(&self) -> MachineSpec {
        MachineSpec {
            firmware: Firmware::Direct,
            loader: Some(self.path("loader")),
            memory_mib: 256,
            ..MachineSpec::new("probe", self.path("disk.img"))
        }
    }

    /// The dry run's text, with the folder's name taken out.
    fn text(&self, vmm: &str, spec: &MachineSpec) -> String {
        let runner = by_name(vmm).unwrap();
        runner.check(spec).unwrap();
        let program = Program { path: Path::new("/bin").join(vmm), identity: String::new() };
        let command = runner.command(&program, spec, &self.config, &wiring()).unwrap();
        command.shell_text().replace(&self.folder.path().display().to_string(), "F")
    }

    fn refusal(&self, vmm: &str, spec: &MachineSpec) -> String {
        let error = by_name(vmm).unwrap().check(spec).expect_err("it is refused").to_string();
        assert!(error.starts_with(&format!("machine `probe`: {vmm} ")), "{error}");
        error
    }
}

#[test]
fn cloud_hypervisor_is_told_everything_on_its_command_line() {
    let scene = Scene::new();
    let direct = "/bin/cloud-hypervisor --api-socket path=api.socket --cpus boot=2 --memory size=256M --serial tty \
        --console off --kernel F/loader --initramfs F/disk.img";
    assert_eq!(scene.text("cloud-hypervisor", &scene.spec()), direct);
    let full = MachineSpec {
        disk: Some(Disk::VirtioModern),
        network: Network::Tap { interface: "tap0".into(), card: None },
        shares: vec![Share { folder: "/usr".into(), tag: "srv".into(), read_only: true }],
        ..scene.spec()
    };
    let text = scene.text("cloud-hypervisor", &full);
    for part in [
        "qemu-img create -q -f qcow2 -F raw -b F/disk.img /scratch/x/disk.layer\n",
        "F/virtiofsd --socket-path=share-0.socket --shared-dir=/usr --cache=auto --sandbox=namespace --readonly &\n",
        "--memory size=256M,shared=on",
        "--disk path=disk.layer,image_type=qcow2,backing_files=on --net tap=tap0 --fs tag=srv,socket=share-0.socket",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    let mut with_firmware = Scene::new();
    with_firmware.config.firmware = Some(with_firmware.path("CLOUDHV.fd"));
    let text = with_firmware
        .text("cloud-hypervisor", &MachineSpec { firmware: Firmware::Uefi, ..with_firmware.spec() });
    assert!(text.contains("--firmware F/CLOUDHV.fd --disk path=disk.layer"), "{text}");
}

#[test]
fn a_saved_machine_is_restored_with_its_disk() {
    let scene = Scene::new();
    let saved = scene.path("saved");
    std::fs::create_dir(&saved).unwrap();
    let spec = MachineSpec { restore: Some(saved.clone()), ..scene.spec() };
    for vmm in ["cloud-hypervisor", "firecracker"] {
        let runner = by_name(vmm).unwrap();
        let program = Program { path: "/bin/x".into(), identity: String::new() };
        let error = runner.command(&program, &spec, &scene.config, &wiring()).unwrap_err();
        assert!(error.to_string().contains("save one there first"), "{error}");
    }
    for name in ["config.json", "state", "memory", "disk.layer"] {
        std::fs::write(saved.join(name), "").unwrap();
    }
    let mark = |monitor: &str| {
        let text = format!("{{\"version\":1,\"monitor\":\"{monitor}\",\"whole\":true}}");
        std::fs::write(saved.join("rednix-machine-state"), format!("{text:256}")).unwrap();
    };
    mark("cloud-hypervisor");
    let text = scene.text("cloud-hypervisor", &spec);
    let expected = "cp --reflink=auto --sparse=always F/saved/disk.layer /scratch/x/disk.layer\n/bin/cloud-hypervisor --api-socket path=api.socket \
        --restore source_url=file://F/saved\n# over its socket: PUT /api/v1/vm.resume null";
    assert_eq!(text, expected);
    mark("firecracker");
    let text = scene.text("firecracker", &spec);
    assert!(text.contains("PUT /snapshot/load") && text.contains("F/saved/memory"), "{text}");
}

#[test]
fn firecracker_is_told_by_a_file() {
    let scene = Scene::new();
    let spec = MachineSpec {
        disk: Some(Disk::VirtioModern),
        network: Network::Tap { interface: "tap0".into(), card: Some(Card::VirtioModern) },
        ..scene.spec()
    };
    let text = scene.text("firecracker", &spec);
    for part in [
        "cp --reflink=auto --sparse=always F/disk.img /scratch/x/disk.layer",
        "cat > /scratch/x/machine.json <<'END'",
        "\"initrd_path\": \"F/disk.img\"",
        "\"path_on_host\": \"disk.layer\"",
        "\"host_dev_name\": \"tap0\"",
        "/bin/firecracker --api-sock api.socket --level Error --log-path /dev/stderr --config-file machine.json",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(!scene.text("firecracker", &scene.spec()).contains("disk.layer"), "no disk unless asked for");
}

#[test]
fn kvmtool_has_one_kind_of_virtio() {
    let scene = Scene::new();
    let spec = MachineSpec { disk: Some(Disk::Virtio), ..scene.spec() };
    let expected = "HOME=/scratch/x /bin/kvmtool run --name machine --cpus 2 --mem 256M --console serial \
        --virtio-transport pci-legacy --kernel F/loader --initrd F/disk.img --disk F/disk.img,ro --network mode=none";
    assert_eq!(scene.text("kvmtool", &spec), expected);
    let spec = MachineSpec { persist: Some("/layer".into()), disk: Some(Disk::VirtioModern), ..spec };
    let text = scene.text("kvmtool", &spec);
    assert!(text.contains("--virtio-transport pci ") && text.contains("--disk /layer "), "{text}");
    // A copy that is kept says what it is a copy of.
    for part in ["chmod u+w /layer && echo '{", "\"image\":\"F/disk.img\"", "}' > /layer.image; }\n"] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}

#[test]
fn what_a_monitor_cannot_do_is_refused_with_a_way_out() {
    let scene = Scene::new();
    let with = |change: &dyn Fn(&mut MachineSpec)| {
        let mut spec = scene.spec();
        change(&mut spec);
        spec
    };
    let forwards = vec![Forward { host: 1, guest: 2 }];
    let cases: [(&dyn Fn(&mut MachineSpec), &str); 6] = [
        (&|spec| spec.firmware = Firmware::Bios, "direct"),
        (&|spec| spec.display = Display::Gtk, "qemu"),
        (&|spec| spec.audio = Some(Audio { card: Default::default(), output: "none".into() }), "qemu"),
        (&|spec| spec.disk = Some(Disk::Nvme), "virtioModern"),
        (&|spec| spec.gdb = Some(Gdb { port: 1, wait: false }), "qemu"),
        (&|spec| spec.network = Network::User { forwards: forwards.clone(), card: None }, ""),
    ];
    for vmm in ["cloud-hypervisor", "firecracker", "kvmtool"] {
        for (change, way_out) in &cases {
            let error = scene.refusal(vmm, &with(change));
            assert!(error.contains(way_out), "{error}");
        }
    }
}

#[test]
fn an_absent_monitor_says_how_to_get_it() {
    let empty = tempfile::tempdir().unwrap();
    let config = Config::new(vec![empty.path().into()], "/scratch".into(), "/logs".into());
    for name in NAMES {
        let spec = MachineSpec::new("x", "x".into());
        let error = by_name(name).unwrap().find(&spec, &config).unwrap_err();
        assert!(error.is_missing() && error.to_string().contains("hint: "), "{name}: {error}");
        assert!(!by_name(name).unwrap().limitations().is_empty(), "{name} can do everything");
    }
    let error = by_name("xen").err().unwrap().to_string();
    assert!(NAMES.iter().all(|name| error.contains(name)), "{error}");
}

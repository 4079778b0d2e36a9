//! `rednix doctor`: what this machine has, what it lacks, and how to get it.

use std::fmt::Write;

use rednix_vm::spec::Architecture;
use rednix_vm::{MachineSpec, Program};

use crate::failure::Failure;
use crate::machines;
use crate::session::Session;

use super::print;

/// One line of the report.
struct Finding {
    good: bool,
    /// Without it nothing works; the others only cost a feature.
    needed: bool,
    text: String,
    remedy: String,
}

pub fn run(session: &Session) -> Result<(), Failure> {
    let findings = [
        sandbox(session),
        store(session),
        program(session, "git", true, "fetches git sources", "git"),
        program(session, "cargo", true, "fetches crates", "cargo (or rustup)"),
        monitor(session, "qemu", Architecture::X86_64, "QEMU runs x86_64 images")?,
        monitor(session, "qemu", Architecture::I586, "QEMU runs i586 images")?,
        monitor(session, "qemu", Architecture::Aarch64, "QEMU runs aarch64 images")?,
        monitor(session, "qemu", Architecture::Riscv64, "QEMU runs riscv64 images")?,
        firmware(session, Architecture::X86_64, "UEFI firmware")?,
        firmware(session, Architecture::Aarch64, "UEFI firmware for aarch64")?,
        monitor(session, "cloud-hypervisor", Architecture::X86_64, "Cloud Hypervisor runs images")?,
        monitor(session, "firecracker", Architecture::X86_64, "Firecracker runs images")?,
        monitor(session, "kvmtool", Architecture::X86_64, "kvmtool runs images")?,
        acceleration(),
        program(session, "gpgv", false, "checks Debian's signatures when locking", "gpgv"),
        mirrors(session),
    ];
    session.view.finish();
    let mut text = String::new();
    for finding in &findings {
        let mark = if finding.good {
            "ok  "
        } else if finding.needed {
            "LACK"
        } else {
            "--  "
        };
        writeln!(text, "{mark} {}", finding.text).expect("writing to a string");
        if !finding.good && !finding.remedy.is_empty() {
            writeln!(text, "       {}", finding.remedy).expect("writing to a string");
        }
    }
    print(&text)?;
    match findings.iter().filter(|f| f.needed && !f.good).count() {
        0 => Ok(()),
        number => Err(Failure::failed(format!("{number} things are lacking that every build needs"))),
    }
}

fn good(text: impl Into<String>) -> Finding {
    Finding { good: true, needed: false, text: text.into(), remedy: String::new() }
}

fn sandbox(session: &Session) -> Finding {
    let probed = session
        .cache_folder("doctor")
        .map_err(|failure| failure.message)
        .and_then(|folder| rednix_build::sandbox::probe(&folder).map_err(|e| crate::failure::chain(&e)));
    match probed {
        Ok(found) => good(format!("user namespaces: {}", found)),
        Err(reason) => Finding {
            good: false,
            needed: true,
            text: format!("user namespaces: {reason}"),
            remedy: rednix_build::sandbox::remedy(),
        },
    }
}

fn store(session: &Session) -> Finding {
    let root = &session.config.store;
    match session.store() {
        Ok(_) => {
            let free = rustix::fs::statvfs(root).map(|s| s.f_bavail * s.f_frsize).unwrap_or(0);
            let enough = free > 8_000_000_000;
            Finding {
                good: enough,
                needed: false,
                text: format!("store at {} ({:.0} GB free)", root.display(), free as f64 / 1e9),
                remedy:
                    "a build root and an image want about 8 GB; set REDNIX_STORE to a folder with more room"
                        .to_owned(),
            }
        }
        Err(failure) => Finding {
            good: false,
            needed: true,
            text: format!("store at {}: {failure}", root.display()),
            remedy: "set REDNIX_STORE to a folder that can be written to".to_owned(),
        },
    }
}

fn program(session: &Session, name: &str, needed: bool, purpose: &str, package: &str) -> Finding {
    match session.config.find_program(name) {
        Some(path) => good(format!("{name}: {} ({purpose})", path.display())),
        None => Finding {
            good: false,
            needed,
            text: format!("{name}: not on PATH ({purpose})"),
            remedy: format!("install {package}"),
        },
    }
}

fn machine(architecture: Architecture) -> MachineSpec {
    MachineSpec { architecture, ..MachineSpec::new("doctor", "image".into()) }
}

fn monitor(session: &Session, name: &str, guest: Architecture, purpose: &str) -> Result<Finding, Failure> {
    let config = machines::config(session)?;
    Ok(match rednix_vm::by_name(name)?.find(&machine(guest), &config) {
        Ok(program) => good(format!("{}: {purpose}", program.path.display())),
        Err(error) => lacking(format!("{purpose}: not found"), &error),
    })
}

fn lacking(text: String, error: &rednix_vm::Error) -> Finding {
    let remedy = crate::failure::chain(error).replace("\n\nhint: ", "; ");
    Finding { good: false, needed: false, text, remedy }
}

fn firmware(session: &Session, guest: Architecture, what: &str) -> Result<Finding, Failure> {
    let config = machines::config(session)?;
    let runner = rednix_vm::by_name("qemu")?;
    // Without QEMU its firmware is of no use, and the usual folders can still be looked into.
    let program = runner.find(&machine(guest), &config).unwrap_or(Program::at("qemu".into()));
    Ok(match rednix_vm::qemu::find_firmware(guest, &program, &config) {
        Ok(files) => good(format!("{what}: {files}")),
        Err(error) => lacking(format!("{what}: not found"), &error),
    })
}

fn acceleration() -> Finding {
    let open = std::fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    match open {
        Ok(_) => good("KVM: /dev/kvm can be opened (each run tries it with a small guest first)"),
        Err(error) => Finding {
            good: false,
            needed: false,
            text: format!("KVM: /dev/kvm: {error}; machines are emulated, which is slower"),
            remedy: "on real hardware: load kvm_intel or kvm_amd, and add yourself to the group kvm"
                .to_owned(),
        },
    }
}

fn mirrors(session: &Session) -> Finding {
    let fetch = session.config.fetch(false);
    let count = fetch.apt_sources.len() + fetch.debian_mirrors.len();
    Finding {
        good: count > 0,
        needed: true,
        text: format!("Debian mirrors: {count} from the configuration and apt's sources"),
        remedy: "name one in config.toml: [debian] trixie = [\"https://…\"]".to_owned(),
    }
}

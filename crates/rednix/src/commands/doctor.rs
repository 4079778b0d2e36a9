//! `rednix doctor`: what this machine has, what it lacks, and how to get it.

use std::fmt::Write;

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
        program(session, "qemu-system-x86_64", false, "QEMU runs images", "qemu-system-x86"),
        firmware(session)?,
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

fn firmware(session: &Session) -> Result<Finding, Failure> {
    let config = machines::config(session)?;
    let runner = rednix_vm::by_name("qemu")?;
    let found = runner.find(&config).and_then(|program| rednix_vm::qemu::firmware::find(&program, &config));
    Ok(match found {
        Ok(files) => good(format!("UEFI firmware: {files}")),
        Err(error) => Finding {
            good: false,
            needed: false,
            text: "UEFI firmware for QEMU: not found".to_owned(),
            remedy: crate::failure::chain(&error),
        },
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

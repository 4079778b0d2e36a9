//! What the machine room needs to know of this host, and the words of its options.

use std::path::{Path, PathBuf};

use rednix_store::path::StorePath;
use rednix_store::store::Store;
use rednix_vm::spec::{Audio, Display, Forward, Gdb, Network, Share};
use rednix_vm::{Config, MachineSpec, Runner, Stop};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::{DEFAULT_TARGET, MachineArgs};
use crate::evaluation::{self, Target};
use crate::failure::{self, Failure};
use crate::interrupt;
use crate::project::Project;
use crate::session::Session;

pub fn config(session: &Session) -> Result<Config, Failure> {
    let scratch = session.cache_folder("machines")?;
    let logs = session.cache_folder("console-logs")?;
    let mut config = Config::new(session.config.path.clone(), scratch, logs);
    config.cache_folder = Some(session.cache_folder("acceleration")?);
    config.firmware = session.config.firmware.clone();
    interrupt::token()?;
    config.stop = Stop::new(interrupt::flag());
    Ok(config)
}

/// An interruption has a status of its own, and so has a machine that is asked for in vain.
pub fn failure(error: &rednix_vm::Error) -> Failure {
    match error {
        rednix_vm::Error::Interrupted => Failure::interrupted(),
        wrong if wrong.is_usage() => Failure::usage(failure::chain(wrong)),
        other => Failure::failed(failure::chain(other)),
    }
}

/// The machine that a system written in Nix asks for. A configuration of a tree cannot ask for any, and only another
/// target makes it another one.
pub fn wanted(session: &Session, project: &Project, system: &str) -> Result<Value, Failure> {
    let is_written_in_nix = evaluation::is_system_file(system) || system.starts_with(".#");
    if is_written_in_nix || project.target != DEFAULT_TARGET {
        return evaluation::json(session, &Target::machine(project, system));
    }
    Ok(Value::Null)
}

/// What is wanted, over the defaults, with the image: the monitor's name and the machine.
pub fn specification(system: &str, wanted: Value, image: PathBuf) -> Result<(String, MachineSpec), Failure> {
    let wrong = |reason: &str| Failure::usage(format!("the machine of `{system}` is wrong: {reason}"));
    let mut fields = match wanted {
        Value::Null => serde_json::Map::new(),
        Value::Object(fields) => fields,
        _ => return Err(wrong("it is no attribute set")),
    };
    let vmm = take_vmm(&mut fields).map_err(wrong)?;
    let name = Path::new(system).file_stem().map_or("system".into(), |stem| stem.to_string_lossy());
    fields.insert("name".to_owned(), Value::String(name.into_owned()));
    fields.insert("image".to_owned(), Value::String(image.to_string_lossy().into_owned()));
    let mut spec: MachineSpec =
        serde_json::from_value(Value::Object(fields)).map_err(|e| wrong(&e.to_string()))?;
    spec.persist = spec.persist.as_deref().map(whole).transpose()?;
    for share in &mut spec.shares {
        share.folder = whole(&share.folder)?;
    }
    Ok((vmm, spec))
}

/// The monitor's name, which is no field of the machine itself.
pub fn take_vmm(fields: &mut serde_json::Map<String, Value>) -> Result<String, &'static str> {
    match fields.remove("vmm") {
        None => Ok("qemu".to_owned()),
        Some(Value::String(name)) => Ok(name),
        Some(_) => Err("`vmm` is no name"),
    }
}

/// Builds the loader of a machine that starts without firmware.
pub fn add_loader(
    session: &Session,
    project: &Project,
    runner: &dyn Runner,
    spec: &mut MachineSpec,
) -> Result<(), Failure> {
    if !runner.is_direct(spec) || spec.loader.is_some() {
        return Ok(());
    }
    let wanted = evaluation::wanted(session, &[loader(project)])?;
    let paths = session.build(&wanted)?;
    spec.loader = Some(loaders(&*session.store()?, &paths[0])?.join(runner.loader()));
    Ok(())
}

/// What has the loaders of machines without firmware.
pub fn loader(project: &Project) -> Target {
    Target::attribute(project, "directLoader")
}

/// The loaders' folder on this machine, kept from collection.
pub fn loaders(store: &Store, package: &StorePath) -> Result<PathBuf, Failure> {
    store.add_root("direct-loader", package)?;
    Ok(store.real_path(package).join("usr/lib/boot"))
}

/// Overwrites what the command line names.
pub fn apply(arguments: &MachineArgs, spec: &mut MachineSpec) -> Result<(), Failure> {
    if let Some(memory) = arguments.memory {
        spec.memory_mib = memory;
    }
    if let Some(cpus) = arguments.cpus {
        spec.cpus = cpus;
    }
    if let Some(text) = &arguments.accel {
        spec.acceleration = word("--accel", text, "auto, kvm or tcg")?;
    }
    if let Some(text) = &arguments.firmware {
        spec.firmware = word("--firmware", text, "uefi, bios or direct")?;
    }
    if let Some(text) = &arguments.disk {
        spec.disk = Some(word("--disk", text, "none, virtio, virtioModern, nvme, ahci, ide or usb")?);
    }
    network(arguments, spec)?;
    if let Network::User { forwards, .. } = &spec.network
        && forwards.iter().any(|forward| forward.host == 0)
    {
        return Err(Failure::usage(
            "a forwarded port of the host is 0, which takes any in a test alone: choose one",
        ));
    }
    for text in &arguments.share {
        spec.shares.push(share(text)?);
    }
    if let Some(text) = &arguments.graphics {
        spec.display = display(text)?;
    }
    if let Some(text) = &arguments.resolution {
        let resolution = text.parse().map_err(|e| Failure::usage(format!("`--resolution {text}`: {e}")))?;
        spec.resolution = Some(resolution);
        if spec.display == Display::None {
            return Err(Failure::usage(format!(
                "`--resolution {text}` is of a screen, and this machine has none: add `--graphics`"
            )));
        }
    }
    if let Some(text) = &arguments.audio {
        let (card, output) = text.split_once('=').unwrap_or((text, "none"));
        let card = word("--audio", card, "hda or ac97, and `=` with the monitor's name of an output")?;
        spec.audio = Some(Audio { card, output: output.to_owned() });
    }
    if arguments.usb {
        spec.usb = Some(true);
    }
    if let Some(file) = &arguments.persist {
        spec.persist = Some(whole(file)?);
    }
    if let Some(port) = arguments.gdb {
        spec.gdb = Some(Gdb { port, wait: true });
    }
    Ok(())
}

/// The network: its kind, then the card, then the forwarded ports.
fn network(arguments: &MachineArgs, spec: &mut MachineSpec) -> Result<(), Failure> {
    if let Some(text) = &arguments.net {
        let wrong =
            || Failure::usage(format!("`--net {text}`: it takes none, user, tap=INTERFACE or bridge=NAME"));
        spec.network = match text.split_once('=') {
            None if text == "none" => Network::None,
            None if text == "user" => Network::User { forwards: Vec::new(), card: None },
            Some(("tap", name)) if !name.is_empty() => {
                Network::Tap { interface: name.to_owned(), card: None }
            }
            Some(("bridge", name)) if !name.is_empty() => {
                Network::Bridge { name: name.to_owned(), card: None }
            }
            _ => return Err(wrong()),
        };
    }
    if !arguments.forward.is_empty() {
        if spec.network == Network::None && arguments.net.is_none() {
            spec.network = Network::User { forwards: Vec::new(), card: None };
        }
        let Network::User { forwards, .. } = &mut spec.network else {
            return Err(Failure::usage(
                "`--forward` needs a network behind the host: `--net user`".to_owned(),
            ));
        };
        for text in &arguments.forward {
            let ports = text
                .split_once(':')
                .and_then(|(host, guest)| Some((host.parse().ok()?, guest.parse().ok()?)));
            let (host, guest) = ports.filter(|(host, guest)| *host != 0 && *guest != 0).ok_or_else(|| {
                Failure::usage(format!("`--forward {text}`: write two ports, as `8022:22`"))
            })?;
            forwards.push(Forward { host, guest });
        }
    }
    if let Some(text) = &arguments.card {
        let wanted = Some(word("--card", text, "e1000, rtl8139, virtio or virtioModern")?);
        match &mut spec.network {
            Network::None => {
                return Err(Failure::usage("`--card` needs a network: `--net user`, for example".to_owned()));
            }
            Network::User { card, .. } | Network::Tap { card, .. } | Network::Bridge { card, .. } => {
                *card = wanted
            }
        }
    }
    Ok(())
}

fn display(text: &str) -> Result<Display, Failure> {
    let wrong =
        || Failure::usage(format!("`--graphics={text}`: it takes gtk, sdl, vnc, vnc=PORT, headless or none"));
    match text.split_once('=') {
        None => Ok(match text {
            "gtk" => Display::Gtk,
            "sdl" => Display::Sdl,
            "vnc" => Display::Vnc { port: 5900 },
            "headless" => Display::Headless,
            "none" => Display::None,
            _ => return Err(wrong()),
        }),
        Some(("vnc", port)) => Ok(Display::Vnc { port: port.parse().map_err(|_| wrong())? }),
        Some(_) => Err(wrong()),
    }
}

fn share(text: &str) -> Result<Share, Failure> {
    let (rest, read_only) = match text.strip_suffix(",ro") {
        Some(rest) => (rest, true),
        None => (text, false),
    };
    let Some((folder, tag)) = rest.rsplit_once('=').filter(|(folder, _)| !folder.is_empty()) else {
        return Err(Failure::usage(format!("`--share {text}`: write it as `FOLDER=TAG` or `FOLDER=TAG,ro`")));
    };
    Ok(Share { folder: whole(Path::new(folder))?, tag: tag.to_owned(), read_only })
}

/// The monitor works in a folder of its own, so paths must not depend on ours.
pub fn whole(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|e| Failure::usage(format!("`{}`: {e}", path.display())))
}

/// One of an option's words, as its type spells it.
pub fn word<T: DeserializeOwned>(option: &str, word: &str, allowed: &str) -> Result<T, Failure> {
    serde_json::from_value(serde_json::Value::String(word.to_owned()))
        .map_err(|_| Failure::usage(format!("`{option} {word}`: it takes {allowed}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(change: impl FnOnce(&mut MachineArgs)) -> Result<MachineSpec, String> {
        let mut arguments = MachineArgs::default();
        change(&mut arguments);
        let mut spec = MachineSpec::new("x", "/x".into());
        apply(&arguments, &mut spec).map(|()| spec).map_err(|failure| failure.message)
    }

    #[test]
    fn options_become_the_machine() {
        let spec = applied(|arguments| {
            arguments.forward = vec!["8022:22".into(), "8080:80".into()];
            arguments.card = Some("virtio".into());
            arguments.graphics = Some("vnc=5907".into());
            arguments.resolution = Some("800x600".into());
            arguments.audio = Some("ac97=pa".into());
            arguments.share = vec!["/a=b=tag,ro".into()];
            arguments.persist = Some("/layer".into());
        })
        .unwrap();
        let forwards = vec![Forward { host: 8022, guest: 22 }, Forward { host: 8080, guest: 80 }];
        assert_eq!(spec.network, Network::User { forwards, card: Some(rednix_vm::spec::Card::Virtio) });
        assert_eq!(spec.display, Display::Vnc { port: 5907 });
        assert_eq!(spec.resolution.unwrap().to_string(), "800x600");
        assert_eq!(spec.audio.unwrap().output, "pa");
        assert_eq!(spec.shares, [Share { folder: "/a=b".into(), tag: "tag".into(), read_only: true }]);
        let tap = applied(|arguments| arguments.net = Some("tap=tap0".into())).unwrap().network;
        assert_eq!(tap, Network::Tap { interface: "tap0".into(), card: None });
    }

    #[test]
    fn any_port_is_of_tests_alone() {
        let mut spec = MachineSpec::new("x", "/x".into());
        spec.network = Network::User { forwards: vec![Forward { host: 0, guest: 22 }], card: None };
        let failure = apply(&MachineArgs::default(), &mut spec).unwrap_err();
        assert!(failure.status == 2 && failure.message.contains("choose one"), "{failure}");
    }

    #[test]
    fn wrong_options_say_what_they_take() {
        let cases: [(&dyn Fn(&mut MachineArgs), &str); 11] = [
            (&|a| a.disk = Some("floppy".into()), "virtioModern"),
            (&|a| a.net = Some("tap".into()), "tap=INTERFACE"),
            (&|a| a.forward = vec!["8022".into()], "two ports"),
            (&|a| a.forward = vec!["0:22".into()], "two ports"),
            (
                &|a| {
                    a.forward = vec!["1:2".into()];
                    a.net = Some("tap=t".into());
                },
                "--net user",
            ),
            (&|a| a.card = Some("e1000".into()), "needs a network"),
            (&|a| a.graphics = Some("x11".into()), "vnc=PORT"),
            (&|a| a.resolution = Some("800".into()), "1280x800"),
            (&|a| a.resolution = Some("800x600".into()), "add `--graphics`"),
            (&|a| a.share = vec!["/a".into()], "FOLDER=TAG"),
            (&|a| a.net = Some("tap=".into()), "tap=INTERFACE"),
        ];
        for (change, expected) in cases {
            let message = applied(|arguments| change(arguments)).unwrap_err();
            assert!(message.contains(expected), "{message:?} has no {expected:?}");
        }
    }
}

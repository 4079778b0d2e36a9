//! What the machine room needs to know of this host, and the words of its options.

use std::path::{Path, PathBuf};

use rednix_vm::{Config, MachineSpec, Runner, Stop};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::evaluation::{self, Target};
use crate::failure::Failure;
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

/// The machine that a system written in Nix asks for. A configuration of a tree cannot ask for any.
pub fn wanted(session: &Session, project: &Project, system: &str) -> Result<Value, Failure> {
    if evaluation::is_system_file(system) || system.starts_with(".#") {
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
    let spec = serde_json::from_value(Value::Object(fields)).map_err(|e| wrong(&e.to_string()))?;
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
    let wanted = evaluation::wanted(session, &[Target::attribute(project, "directLoader")])?;
    let paths = session.build(&wanted)?;
    let store = session.store()?;
    store.add_root("direct-loader", &paths[0])?;
    spec.loader = Some(store.real_path(&paths[0]).join("usr/lib/boot/loader.pvh"));
    Ok(())
}

/// One of an option's words, as its type spells it.
pub fn word<T: DeserializeOwned>(option: &str, word: &str, allowed: &str) -> Result<T, Failure> {
    serde_json::from_value(serde_json::Value::String(word.to_owned()))
        .map_err(|_| Failure::usage(format!("`{option} {word}`: it takes {allowed}")))
}

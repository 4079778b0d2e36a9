//! Looking at paths: `cat`, `ls`, `dump`, `path-info`. Follows no links inside the store and changes nothing.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use rednix_store::handle::{Dir, Kind, Walk};
use rednix_store::nar;
use rednix_store::path::StorePath;
use rednix_store::store::{PathInfo, Store};
use serde_json::{Value, json};

use super::Place;
use super::arguments::{LsArgs, PathInfoArgs};
use crate::commands::{print, print_bytes};
use crate::failure::Failure;
use crate::session::Session;
use crate::view::size;

/// A reader that went away is no error.
fn quietly(result: std::io::Result<u64>) -> Result<(), Failure> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other
            .map(drop)
            .map_err(|error| Failure::failed(format!("cannot write to standard output: {error}"))),
    }
}

pub fn cat(session: &Session, text: &str) -> Result<(), Failure> {
    let store = session.store_to_read()?;
    let place = Place::valid(&store, text)?;
    let relative = place.relative();
    match kind_of(&store, &place)? {
        Kind::File => {}
        Kind::Symlink => {
            let target = store.contents().read_link(&relative)?;
            return Err(Failure::usage(format!("`{text}` is a symbolic link to `{}`", target.display())));
        }
        _ => {
            return Err(Failure::usage(format!("`{text}` is no file"))
                .hint(format!("`rednix store ls {text}` lists it")));
        }
    }
    let mut file = store.contents().open_file(&relative)?;
    quietly(std::io::copy(&mut file, &mut std::io::stdout().lock()))
}

/// What lies at a place.
fn kind_of(store: &Store, place: &Place) -> Result<Kind, Failure> {
    use rustix::io::Errno;
    match store.contents().kind(place.relative()) {
        Err(error)
            if [Errno::NOENT, Errno::NOTDIR]
                .map(|one| Some(one.raw_os_error()))
                .contains(&error.os_error()) =>
        {
            let inside = place.inside.display();
            Err(Failure::failed(format!("`{}` has no `{inside}`", place.path))
                .hint(format!("`rednix store ls -r {}` lists what it has", place.path)))
        }
        other => Ok(other?),
    }
}

pub fn ls(session: &Session, arguments: &LsArgs) -> Result<(), Failure> {
    let store = session.store_to_read()?;
    let place = Place::valid(&store, &arguments.path)?;
    let relative = place.relative();
    kind_of(&store, &place)?;
    let mut lines = Vec::new();
    let (top, name) = match (relative.parent(), relative.file_name()) {
        (Some(parent), Some(name)) if parent != Path::new("") => (store.contents().open_dir(parent)?, name),
        (_, Some(name)) => (store.contents().try_clone()?, name),
        _ => return Err(Failure::usage(format!("`{}` has no name", arguments.path))),
    };
    if top.kind(name)? == Kind::Directory {
        top.open_dir(name)?.walk(&mut |visit| {
            lines.push(line(visit.parent, &visit.entry.name, visit.relative, arguments.long)?);
            Ok(if arguments.recursive { Walk::Continue } else { Walk::Skip })
        })?;
    } else {
        lines.push(line(&top, name, Path::new(name), arguments.long)?);
    }
    print_bytes(&lines.concat())
}

fn line(parent: &Dir, name: &OsStr, shown: &Path, long: bool) -> rednix_store::Result<Vec<u8>> {
    let mut line = Vec::new();
    if long {
        let stat = parent.metadata(name)?;
        let (kind, bytes) = match Kind::of(&stat) {
            Kind::Directory => ("folder", 0),
            Kind::Symlink => ("link", 0),
            Kind::File if stat.st_mode & 0o100 != 0 => ("program", stat.st_size),
            _ => ("file", stat.st_size),
        };
        line.extend_from_slice(format!("{kind:<8}{bytes:>12}  ").as_bytes());
    }
    line.extend_from_slice(shown.as_os_str().as_encoded_bytes());
    if long && parent.kind(name)? == Kind::Symlink {
        line.extend_from_slice(b" -> ");
        line.extend_from_slice(parent.read_link(name)?.as_encoded_bytes());
    }
    line.push(b'\n');
    Ok(line)
}

pub fn dump(session: &Session, text: &str) -> Result<(), Failure> {
    // Any file can be dumped, as `nix-store --dump` does; one in the store must be valid.
    let path: PathBuf = match session.store_to_read() {
        Ok(store) if Place::find(&store, text).is_ok() => {
            let place = Place::valid(&store, text)?;
            store.contents().path_of(place.relative())
        }
        _ => PathBuf::from(text),
    };
    let mut out = std::io::BufWriter::with_capacity(1 << 16, std::io::stdout().lock());
    match nar::dump(&path, &mut out) {
        Err(error) if error.os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(_) => quietly(std::io::Write::flush(&mut out).map(|()| 0)),
    }
}

pub fn path_info(session: &Session, arguments: &PathInfoArgs) -> Result<(), Failure> {
    let store = session.store_to_read()?;
    let mut paths: Vec<StorePath> = Vec::new();
    if arguments.all {
        paths.extend(store.all_valid_paths()?);
    } else if arguments.paths.is_empty() {
        return Err(Failure::usage("no path was given").hint("`--all` tells about all valid paths"));
    }
    for text in &arguments.paths {
        paths.push(Place::valid(&store, text)?.path);
    }
    let infos: BTreeMap<StorePath, PathInfo> =
        if arguments.recursive { store.closure(&paths)? } else { store.path_infos(&paths)? };
    session.view.finish();
    let mut objects = serde_json::Map::new();
    let mut text = String::new();
    for (path, info) in &infos {
        let closure = match arguments.closure_size {
            true => Some(store.closure([path])?.values().map(|info| info.nar_size).sum::<u64>()),
            false => None,
        };
        if arguments.json {
            objects.insert(path.to_string(), object(&store, info, closure)?);
            continue;
        }
        text.push_str(&path.to_string());
        if arguments.size {
            text.push_str(&format!("  {}", size(info.nar_size)));
        }
        if let Some(bytes) = closure {
            text.push_str(&format!("  {}", size(bytes)));
        }
        text.push('\n');
    }
    if arguments.json {
        text = serde_json::to_string_pretty(&Value::Object(objects))? + "\n";
    }
    print(&text)
}

/// With the names C++ Nix uses.
fn object(store: &Store, info: &PathInfo, closure: Option<u64>) -> Result<Value, Failure> {
    let names =
        |paths: &mut dyn Iterator<Item = &StorePath>| paths.map(StorePath::to_string).collect::<Vec<_>>();
    let mut object = json!({
        "ca": info.content_address,
        "deriver": info.deriver.as_ref().map(StorePath::to_string),
        "narHash": info.nar_hash.to_sri(),
        "narSize": info.nar_size,
        "references": names(&mut info.references.iter()),
        "referrers": names(&mut store.referrers(&info.path)?.iter()),
        "registrationTime": info.registration_time_s,
        "signatures": info.signatures,
        "ultimate": info.ultimate,
    });
    if let Some(bytes) = closure {
        object["closureSize"] = bytes.into();
    }
    Ok(object)
}

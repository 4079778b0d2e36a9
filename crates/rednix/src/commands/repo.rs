//! `rednix repo`: packages as a signed repository that the installed system's package manager reads, and a server
//! for it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rednix_events::Event;
use rednix_image::closure::{self, Closure, Package};
use rednix_image::limits::KEY_FILE_SIZE_MAX;
use rednix_image::pkgar::{Contents, KeyFile, SecretKey};
use rednix_image::repository::{self, Publication};
use serde::Deserialize;

use crate::cli::RepoArgs;
use crate::evaluation::{self, Target};
use crate::failure::Failure;
use crate::interrupt;
use crate::project::Project;
use crate::relock;
use crate::serve::Server;
use crate::session::Session;

use super::print;

pub fn run(session: &Session, arguments: &RepoArgs) -> Result<(), Failure> {
    if arguments.names.is_empty() && arguments.serve.is_none() {
        return Err(Failure::usage("nothing to publish was named")
            .hint("rednix repo SYSTEM|PACKAGE…, or `rednix repo --serve` for a repository that is there"));
    }
    if !arguments.names.is_empty() {
        publish(session, arguments)?;
    }
    match arguments.serve {
        None => print(&format!("{}\n", arguments.target_dir.display())),
        Some(address) => serve(session, &arguments.target_dir, address),
    }
}

/// What the library says about the packages to publish.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    listed: Vec<String>,
    packages: Vec<Described>,
    /// Packages with files, in the order of the derivations.
    names: Vec<String>,
    /// Packages whose source has to be looked into for a version, in the order of the derivations after those.
    source_names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Described {
    #[serde(flatten)]
    package: Package,
    meta: bool,
    /// All packages of the recipe, on its main package.
    packages: Vec<String>,
    version: Option<String>,
    /// Where a version may stand: the source's URL, revision, branch.
    texts: Vec<String>,
    /// What the source is pinned to.
    source: String,
    source_path: Option<String>,
}

fn publish(session: &Session, arguments: &RepoArgs) -> Result<(), Failure> {
    let project = Project::find(&session.config, &arguments.tree)?;
    let target = project.target.clone();
    let (wanted, paths) = relock::building(session, project, arguments.tree.locked, |project| {
        let value = evaluation::json(session, &Target::repository(project, &arguments.names, "data"))?;
        let wanted: Wanted = serde_json::from_value(value)
            .map_err(|e| Failure::failed(format!("the library's `repository` is not understood: {e}")))?;
        let targets = ["outputs", "sources"].map(|part| Target::repository(project, &arguments.names, part));
        let expected = wanted.names.len() + wanted.source_names.len();
        let targets = if wanted.source_names.is_empty() { &targets[..1] } else { &targets[..] };
        let derivations = evaluation::wanted(session, targets)?;
        if derivations.len() != expected {
            return Err(Failure::failed(format!(
                "the library's `repository` has {} derivations for {expected} names",
                derivations.len()
            )));
        }
        Ok((wanted, session.build(&derivations)?))
    })?;
    let store = session.store()?;
    let mut folders = paths.iter().map(|path| store.real_path(path));
    let outputs: BTreeMap<&str, PathBuf> =
        wanted.names.iter().map(String::as_str).zip(folders.by_ref()).collect();
    let mut sources: BTreeMap<&str, PathBuf> =
        wanted.source_names.iter().map(String::as_str).zip(folders).collect();
    for described in &wanted.packages {
        if let Some(path) = &described.source_path {
            let path = rednix_store::path::StorePath::parse(path)?;
            sources.insert(&described.package.name, store.real_path(&path));
        }
    }
    let packages = with_folders(&wanted, &outputs);
    let closure = closure::resolve(&packages, &wanted.listed)?;
    let key = match &arguments.key {
        Some(file) => read_key(session, file)?,
        None => own_key(session, &store.layout().own_state().join("keys"))?,
    };
    let (count, bytes) = write(&wanted, &closure, &outputs, &sources, &key, &target, &arguments.target_dir)?;
    let size = crate::view::size(bytes);
    let message = format!("{} ({size}) for {target}", crate::view::count(count, "package"));
    session.events().emit(Event::Notice { message });
    session.view.finish();
    Ok(())
}

fn with_folders(wanted: &Wanted, outputs: &BTreeMap<&str, PathBuf>) -> Vec<Package> {
    let folder = |name: &str| outputs.get(name).cloned();
    wanted
        .packages
        .iter()
        .map(|described| Package {
            path: folder(&described.package.name),
            stages: described.packages.iter().filter_map(|name| folder(name)).collect(),
            ..described.package.clone()
        })
        .collect()
}

/// Writes the closure, its recipes whole. Gives the number of packages and their bytes.
fn write(
    wanted: &Wanted,
    closure: &Closure<'_>,
    outputs: &BTreeMap<&str, PathBuf>,
    sources: &BTreeMap<&str, PathBuf>,
    key: &SecretKey,
    target: &str,
    folder: &Path,
) -> Result<(u64, u64), Failure> {
    let described: BTreeMap<&str, &Described> =
        wanted.packages.iter().map(|described| (described.package.name.as_str(), described)).collect();
    let mut names: BTreeSet<&str> = BTreeSet::new();
    for member in &closure.members {
        names.insert(&member.package.name);
        let main = described.get(member.package.recipe());
        names.extend(main.iter().flat_map(|main| &main.packages).map(String::as_str));
    }
    let mut contents = BTreeMap::new();
    for name in &names {
        if let Some(folder) = outputs.get(name) {
            contents.insert(*name, Contents::read(folder)?);
        }
    }
    let found: BTreeMap<&str, &Vec<String>> =
        closure.members.iter().map(|member| (member.package.name.as_str(), &member.depends)).collect();
    let publications: Vec<Publication<'_>> = names
        .iter()
        .filter_map(|name| described.get(name))
        .map(|described| {
            let name = described.package.name.as_str();
            let texts: Vec<&str> = described.texts.iter().map(String::as_str).collect();
            let source = sources.get(name).map(PathBuf::as_path);
            Publication {
                name,
                // Optional packages have their recipe's version; looking at the main one's source gives it.
                version: if described.meta {
                    String::new()
                } else {
                    let source =
                        source.or_else(|| sources.get(described.package.recipe()).map(PathBuf::as_path));
                    repository::version(described.version.as_deref(), &texts, source)
                },
                source: described.source.clone(),
                depends: found
                    .get(name)
                    .map_or_else(|| described.package.dependencies.clone(), |d| (*d).clone()),
                contents: contents.get(name),
            }
        })
        .collect();
    repository::publish(folder, target, key, &publications)?;
    let bytes = contents.values().map(|contents| contents.head.archive_size()).sum();
    Ok((publications.len() as u64, bytes))
}

/// A key the user names.
fn read_key(session: &Session, file: &Path) -> Result<SecretKey, Failure> {
    let failed = |e: std::io::Error| Failure::usage(format!("cannot read the key `{}`: {e}", file.display()));
    let opened = std::fs::File::open(file).map_err(failed)?;
    if opened.metadata().map_err(failed)?.permissions().mode() & 0o077 != 0 {
        session.events().emit(Event::Warning {
            message: format!(
                "the key `{}` can be read by other users; `chmod 600` keeps it yours",
                file.display()
            ),
        });
    }
    let mut text = String::new();
    opened.take(KEY_FILE_SIZE_MAX).read_to_string(&mut text).map_err(failed)?;
    KeyFile::from_toml(&text).map_err(|e| Failure::usage(format!("`{}`: {e}", file.display())))
}

/// The store's own key, made when it is first needed.
fn own_key(session: &Session, folder: &Path) -> Result<SecretKey, Failure> {
    let file = folder.join("id_ed25519.toml");
    if !file.exists() {
        let failed =
            |e: std::io::Error| Failure::failed(format!("cannot make the key `{}`: {e}", file.display()));
        std::fs::create_dir_all(folder).map_err(failed)?;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
        let mut random = [0; 88];
        std::fs::File::open("/dev/urandom").and_then(|mut f| f.read_exact(&mut random)).map_err(failed)?;
        // Such a file is its owner's alone (0600) from the start. Another rednix may be first: its key stays.
        let mut scratch = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        std::io::Write::write_all(&mut scratch, KeyFile::new(&random).to_toml().as_bytes())
            .map_err(failed)?;
        match scratch.persist_noclobber(&file) {
            Ok(_) => session.events().emit(Event::Notice {
                message: format!("made a key for repositories: `{}`", file.display()),
            }),
            Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed(e.error)),
        }
    }
    read_key(session, &file)
}

fn serve(session: &Session, folder: &Path, address: SocketAddr) -> Result<(), Failure> {
    if !folder.join(repository::KEY_NAME).exists() {
        return Err(Failure::usage(format!("`{}` is no repository", folder.display()))
            .hint("name what to publish, or another folder with `--target-dir`"));
    }
    let failed = |e: std::io::Error| {
        Failure::failed(format!("cannot serve `{}` at {address}: {e}", folder.display()))
            .hint("`--serve 127.0.0.1:0` takes a port that is free")
    };
    let server = Server::bind(folder, address).map_err(failed)?;
    let address = server.address().map_err(failed)?;
    // From here on a signal ends the server and not the program.
    interrupt::token()?;
    session.events().emit(Event::Notice {
        message: format!(
            "in a guest of QEMU's user network: `http://10.0.2.2:{}` as a line of /etc/pkg.d/40_rednix; Ctrl-C ends",
            address.port()
        ),
    });
    session.view.finish();
    print(&format!("http://{address}\n"))?;
    server.run(session.events(), &interrupt::flag()).map_err(failed)?;
    Err(Failure::interrupted())
}

//! Flakes as commands name them: from a text on the command line to a locked flake and an attribute of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rednix_eval::{Evaluator, Handle};
use rednix_flake::{
    FlakeError, FlakeRef, LockOptions, LockedFlake, Parsed, difference, parse_input_path, split_outputs,
};

use crate::cli::LockFlags;
use crate::evaluation::{self, explain};
use crate::failure::Failure;
use crate::outside;
use crate::project::Project;
use crate::session::{Session, Wanted};
use crate::world::{Access, StoreWorld};

/// `REF#ATTRIBUTE^OUTPUTS`.
#[derive(Debug, Clone)]
pub struct Installable {
    reference: FlakeRef,
    fragment: String,
    outputs: Vec<String>,
    flags: LockFlags,
}

pub fn flake_failure(error: FlakeError) -> Failure {
    match error.to_string().split_once("\n\nhint: ") {
        Some((message, hint)) => Failure::usage(message.to_owned()).hint(hint.trim_end().to_owned()),
        None => Failure::usage(error.to_string()),
    }
}

/// A reference and its fragment; paths are relative to the current folder, and a flake is looked for upwards.
pub fn parse(text: &str, flake: bool) -> Result<(FlakeRef, String), Failure> {
    match Parsed::parse(text, flake).map_err(flake_failure)? {
        Parsed::Reference { mut reference, fragment } => {
            if let Some(relative) = reference.input.relative_path().map(str::to_owned) {
                let absolute = resolve(Path::new(&relative));
                reference.input.attributes.set("path", absolute.to_string_lossy().into_owned());
            }
            Ok((reference, fragment))
        }
        Parsed::Path { path, query, fragment } => path_reference(text, &path, query, fragment, flake),
    }
}

/// An absolute path by names alone: `..` is taken away with what stands before it.
fn resolve(path: &Path) -> PathBuf {
    let mut whole = PathBuf::from("/");
    let here = evaluation::working_directory();
    for piece in Path::new(&here).join(path).components() {
        match piece {
            std::path::Component::ParentDir => drop(whole.pop()),
            std::path::Component::Normal(name) => whole.push(name),
            _ => {}
        }
    }
    whole
}

fn path_reference(
    text: &str,
    path: &str,
    mut query: BTreeMap<String, String>,
    fragment: String,
    flake: bool,
) -> Result<(FlakeRef, String), Failure> {
    let mut folder = resolve(Path::new(if path.is_empty() { "." } else { path }));
    let wrong = |reason: &str| Failure::usage(format!("path '{}' {reason}", folder.display()));
    if flake {
        if !folder.exists() {
            return Err(wrong("does not exist"));
        }
        if !folder.is_dir() {
            return Err(wrong("is not a flake (because it's not a directory)")
                .hint("name the folder with the flake.nix in it"));
        }
        folder = find_flake(&folder)?;
        let mut root = folder.clone();
        let mut subdir = PathBuf::new();
        loop {
            if root.join(".git").exists() {
                if !subdir.as_os_str().is_empty() {
                    if query.contains_key("dir") {
                        return Err(Failure::usage(format!(
                            "flake URL '{text}' has an inconsistent 'dir' parameter"
                        )));
                    }
                    query.insert("dir".to_owned(), subdir.to_string_lossy().into_owned());
                }
                if root.join(".git/shallow").exists() {
                    query.insert("shallow".to_owned(), "1".to_owned());
                }
                return FlakeRef::of_path("git+file", &root.to_string_lossy(), query, fragment, flake)
                    .map_err(flake_failure);
            }
            let Some(name) = root.file_name().map(PathBuf::from) else { break };
            subdir = if subdir.as_os_str().is_empty() { name } else { name.join(&subdir) };
            root.pop();
        }
    }
    FlakeRef::of_path("path", &folder.to_string_lossy(), query, fragment, flake).map_err(flake_failure)
}

/// The nearest folder upwards with a `flake.nix`; the top of a repository or of a file system ends the search.
fn find_flake(start: &Path) -> Result<PathBuf, Failure> {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| path.metadata().map(|m| m.dev()).ok();
    for folder in start.ancestors() {
        if folder.join("flake.nix").exists() {
            return Ok(folder.to_path_buf());
        }
        let shown = start.display();
        if folder.join(".git").exists() {
            return Err(Failure::usage(format!(
                "path '{shown}' is not part of a flake (neither it nor its parent directories contain a 'flake.nix' file)"
            ))
            .hint("write a flake.nix, or name another flake"));
        }
        if device(folder) != device(start) {
            return Err(Failure::usage(format!(
                "unable to find a flake before encountering filesystem boundary at '{}'",
                folder.display()
            )));
        }
    }
    Err(Failure::usage(format!("could not find a flake.nix file in '{}' or above it", start.display()))
        .hint("write a flake.nix, or name another flake"))
}

fn options(flags: &LockFlags) -> Result<LockOptions, Failure> {
    let path = |text: &str| -> Result<Vec<String>, Failure> {
        let path = parse_input_path(text).map_err(flake_failure)?;
        if path.is_empty() { Err(Failure::usage("an input has to be named")) } else { Ok(path) }
    };
    let mut options = LockOptions { recreate: flags.recreate_lock_file, ..LockOptions::default() };
    for pair in flags.override_input.chunks(2) {
        let [input, flake] = pair else { continue };
        let (reference, _) = parse(flake, true)?;
        options.overrides.insert(path(input)?, reference);
    }
    options.updates =
        flags.update_input.iter().map(|input| path(input)).collect::<Result<BTreeSet<_>, _>>()?;
    Ok(options)
}

/// A flake that is locked, in an evaluator that can go on with it.
pub struct Loaded {
    pub evaluator: Evaluator,
    pub world: StoreWorld,
    pub locked: LockedFlake,
    pub is_dirty: bool,
}

impl Loaded {
    /// The flake's value.
    pub fn value(&mut self, session: &Session) -> Result<Handle, Failure> {
        let sources = outside::flakes::sources(&self.locked, self.is_dirty);
        let value = self.evaluator.flake(&sources);
        explain(session, &self.evaluator, value)
    }
}

/// Fetches and locks a flake; writes the lock file where that is wanted and possible.
pub fn load(session: &Session, reference: &FlakeRef, flags: &LockFlags) -> Result<Loaded, Failure> {
    let mut settings = evaluation::settings();
    settings.pure = !flags.impure;
    let access = if flags.impure { Access::All } else { Access::Pure };
    let (evaluator, world) = evaluation::evaluator_with(session, settings, access)?;
    world.outside().refresh.set(flags.refresh);
    let options = options(flags)?;
    let mut locked = outside::flakes::lock(&world, reference, &options).map_err(flake_failure)?;
    let mut is_dirty = false;
    if locked.is_changed() {
        let changes = difference(&locked.old, &locked.lock);
        // Another input in an input's place is for this command; a lock file with it would surprise.
        if flags.no_write_lock_file {
            world.outside().warn(&format!(
                "not writing modified lock file of flake '{reference}':\n{}",
                changes.trim_end()
            ));
            is_dirty = true;
        } else if write(session, &world, reference, &locked, &changes, flags)? {
            // The file is a part of the flake, which is another one now.
            world.outside().forget();
            let flake = outside::flakes::lock(&world, reference, &LockOptions::default())
                .map_err(flake_failure)?
                .flake;
            locked.flake = flake;
        }
    }
    Ok(Loaded { evaluator, world, locked, is_dirty })
}

/// Writes a changed lock file. False where it may not be written, which is said.
fn write(
    session: &Session,
    world: &StoreWorld,
    reference: &FlakeRef,
    locked: &LockedFlake,
    changes: &str,
    flags: &LockFlags,
) -> Result<bool, Failure> {
    let Some(folder) = reference.input.folder().filter(|_| reference.input.rev().ok().flatten().is_none())
    else {
        return Err(Failure::usage(format!(
            "cannot write modified lock file of flake '{reference}' (use '--no-write-lock-file' to ignore)"
        )));
    };
    if let Some(unlocked) = locked.lock.unlocked() {
        world.outside().warn(&format!(
            "not writing lock file of flake '{reference}' because it has an unlocked input ('{unlocked}')"
        ));
        return Ok(false);
    }
    if flags.no_update_lock_file {
        return Err(Failure::usage(format!(
            "flake '{reference}' requires lock file changes but they're not allowed due to '--no-update-lock-file'"
        )));
    }
    let relative = Path::new(&reference.subdir).join("flake.lock");
    let file = Path::new(&folder).join(&relative);
    let existed = file.exists();
    let what = if existed { "updating" } else { "creating" };
    world.outside().warn(&format!("{what} lock file '{}':\n{}", file.display(), changes.trim_end()));
    replace(&file, &format!("{}\n", locked.lock.to_text()))?;
    if Path::new(&folder).join(".git").exists() {
        let done = if existed { "Update" } else { "Add" };
        let message = flags
            .commit_lock_file
            .then(|| format!("{}: {done}\n\nFlake lock file updates:\n\n{changes}", relative.display()));
        session
            .fetcher()
            .track_file(Path::new(&folder), &relative, message.as_deref())
            .map_err(|error| Failure::failed(error.to_string()))?;
    }
    Ok(true)
}

/// Writes a file whole or not at all.
fn replace(file: &Path, text: &str) -> Result<(), Failure> {
    use std::os::unix::fs::PermissionsExt;
    let failed =
        |error: std::io::Error| Failure::failed(format!("cannot write `{}`: {error}", file.display()));
    let folder = file.parent().unwrap_or(Path::new("/"));
    let draft = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    std::fs::write(draft.path(), text).map_err(failed)?;
    let mode = file.metadata().map_or(0o644, |metadata| metadata.permissions().mode() & 0o777);
    std::fs::set_permissions(draft.path(), std::fs::Permissions::from_mode(mode)).map_err(failed)?;
    draft.persist(file).map(drop).map_err(|error| failed(error.error))
}

impl Installable {
    /// Whether a text names an attribute of a flake. In a checkout of rednix, and where another tree is worked with, `.#`
    /// is the library, which the flake of the checkout has as `legacyPackages`.
    pub fn is_named(project: &Project, text: &str) -> bool {
        let Some((before, _)) = text.split_once('#') else { return false };
        if before != "." && !before.is_empty() {
            return true;
        }
        let here = evaluation::working_directory();
        let library =
            project.tree != project.root.join("tree") || Path::new(&here).starts_with(&project.root);
        !library && find_flake(Path::new(&here)).is_ok()
    }

    pub fn parse(text: &str, flags: &LockFlags) -> Result<Installable, Failure> {
        let (text, outputs) = split_outputs(text);
        let (reference, fragment) = parse(text, true)?;
        Ok(Installable { reference, fragment, outputs, flags: flags.clone() })
    }

    pub fn show(&self) -> String {
        format!("{}#{}", self.reference, self.fragment)
    }

    /// The attribute's value. `role` is where flakes keep what is wanted, if it is no package.
    pub fn evaluate(
        &self,
        session: &Session,
        role: &str,
    ) -> Result<(Evaluator, StoreWorld, Handle), Failure> {
        let mut loaded = load(session, &self.reference, &self.flags)?;
        let top = loaded.value(session)?;
        // What the flake itself gives, not what is known of its source.
        let top = loaded.evaluator.attribute_of(top, "outputs").unwrap_or(top);
        let candidates = self.candidates(role);
        for path in &candidates {
            let found = find(&mut loaded.evaluator, top, path);
            if let Some(handle) = explain(session, &loaded.evaluator, found)? {
                return Ok((loaded.evaluator, loaded.world, handle));
            }
        }
        let names: Vec<String> = candidates.iter().map(|path| format!("'{}'", path.join("."))).collect();
        let names = match names.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        };
        Err(Failure::usage(format!("flake '{}' does not provide attribute {names}", self.reference))
            .hint(format!("`rednix flake show '{}'` lists what it provides", self.reference)))
    }

    fn candidates(&self, role: &str) -> Vec<Vec<String>> {
        let system = format!("{}-linux", std::env::consts::ARCH);
        if let Some(absolute) = self.fragment.strip_prefix('.') {
            return vec![split(absolute)];
        }
        let wanted = split(&self.fragment);
        let below = |start: &[&str], rest: &[String]| -> Vec<String> {
            start.iter().map(|piece| (*piece).to_owned()).chain(rest.iter().cloned()).collect()
        };
        if wanted.is_empty() {
            let default = ["default".to_owned()];
            if !role.is_empty() {
                return vec![below(&[role], &default), below(&[role, &system], &default)];
            }
            return vec![below(&["packages", &system], &default), below(&["defaultPackage", &system], &[])];
        }
        let mut candidates = Vec::new();
        if !role.is_empty() {
            candidates.push(below(&[role], &wanted));
            candidates.push(below(&[role, &system], &wanted));
            candidates.push(below(&["legacyPackages", &system], &wanted));
        } else {
            candidates.push(below(&["packages", &system], &wanted));
            candidates.push(below(&["legacyPackages", &system], &wanted));
        }
        candidates.push(wanted);
        candidates
    }

    /// Its derivations' outputs, written to the store; those of its attribute `part`, if one is given.
    pub fn wanted(&self, session: &Session, role: &str, part: &str) -> Result<Vec<Wanted>, Failure> {
        let (mut evaluator, world, handle) = self.evaluate(session, role)?;
        let handle = evaluator.select(handle, part, &[]);
        let handle = explain(session, &evaluator, handle)?;
        let found = evaluator.derivations(handle, &[]);
        let found = explain(session, &evaluator, found)?;
        if found.is_empty() {
            return Err(Failure::usage(format!("`{}` is nothing that can be built", self.show())));
        }
        world.flush()?;
        let mut wanted = Vec::new();
        for one in found {
            let derivation = session.store()?.read_derivation(&one.derivation)?;
            let outputs: Vec<String> = match self.outputs.as_slice() {
                [] => vec![one.output],
                [all] if all == "*" => derivation.outputs.keys().cloned().collect(),
                named => named.to_vec(),
            };
            wanted.extend(
                outputs.into_iter().map(|output| Wanted { derivation: one.derivation.clone(), output }),
            );
        }
        Ok(wanted)
    }
}

/// `a."b.c".d` in pieces.
fn split(path: &str) -> Vec<String> {
    let mut pieces = Vec::new();
    let (mut piece, mut quoted, mut begun) = (String::new(), false, false);
    for character in path.chars() {
        match character {
            '"' => (quoted, begun) = (!quoted, true),
            '.' if !quoted => {
                pieces.push(std::mem::take(&mut piece));
                begun = true;
            }
            other => {
                piece.push(other);
                begun = true;
            }
        }
    }
    if begun {
        pieces.push(piece);
    }
    pieces
}

/// The value at a path of names, computed; none where a name is missing.
pub fn find(
    evaluator: &mut Evaluator,
    top: Handle,
    path: &[String],
) -> Result<Option<Handle>, Box<rednix_eval::EvalError>> {
    let mut current = evaluator.force(top)?;
    for name in path {
        let Some(next) = evaluator.attribute_of(current, name) else { return Ok(None) };
        current = evaluator.force(next)?;
    }
    Ok(Some(current))
}

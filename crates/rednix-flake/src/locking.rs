//! From a flake and its old lock file to the new one: what stays, what is fetched, what follows what.
//!
//! Writes nothing. Sources are fetched and `flake.nix` is read by the caller's [`Sources`].

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use rednix_store::path::StorePath;

use crate::lock::{Edge, InputPath, LockFile, Locked, Node, show_input_path};
use crate::{Attributes, FlakeError, FlakeRef, Input, Result, limits};

/// An input as `flake.nix` declares it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredInput {
    pub reference: Option<FlakeRef>,
    pub is_flake: bool,
    /// Named from the top flake once the declaration is placed.
    pub follows: Option<InputPath>,
    pub overrides: BTreeMap<String, DeclaredInput>,
}

impl Default for DeclaredInput {
    fn default() -> Self {
        DeclaredInput { reference: None, is_flake: true, follows: None, overrides: BTreeMap::new() }
    }
}

/// What `flake.nix` says, without its outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declaration {
    pub description: Option<String>,
    pub inputs: BTreeMap<String, DeclaredInput>,
    /// `inputs.self`: how the flake's own source is to be fetched.
    pub own: Attributes,
}

/// Which registries may say what a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registries {
    None,
    /// Only those that every machine has alike.
    Limited,
    All,
}

/// A source that is in the store now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// What the registries made of it.
    pub resolved: Input,
    pub locked: Input,
    pub path: StorePath,
    /// The flake's folder, where a registry said it.
    pub subdir: Option<String>,
}

/// The world of a lock file.
pub trait Sources {
    fn fetch(&mut self, input: &Input, registries: Registries) -> Result<Fetched>;
    /// What `flake.nix` in a folder of a store path says. `reference` names the flake in errors.
    fn declaration(&mut self, path: &StorePath, folder: &str, reference: &FlakeRef) -> Result<Declaration>;
    /// The text of a file in a store path, if it is there.
    fn read(&mut self, path: &StorePath, file: &str) -> Result<Option<String>>;
    fn warn(&mut self, message: &str);
}

#[derive(Clone, Debug)]
pub struct LockOptions {
    /// Inputs that are something else, whatever anyone declares.
    pub overrides: BTreeMap<InputPath, FlakeRef>,
    /// Inputs whose pins are renewed.
    pub updates: BTreeSet<InputPath>,
    /// Forgets the old lock file.
    pub recreate: bool,
    pub use_registries: bool,
    /// False: inputs that would have to be pinned first are refused.
    pub allow_unlocked: bool,
}

impl Default for LockOptions {
    fn default() -> Self {
        LockOptions {
            overrides: BTreeMap::new(),
            updates: BTreeSet::new(),
            recreate: false,
            use_registries: true,
            allow_unlocked: true,
        }
    }
}

/// A flake whose source is in the store.
#[derive(Clone, Debug)]
pub struct Flake {
    pub original: FlakeRef,
    pub resolved: FlakeRef,
    pub locked: FlakeRef,
    pub path: StorePath,
    pub declaration: Declaration,
}

impl Flake {
    fn place(&self) -> Place {
        Place { path: self.path.clone(), folder: self.locked.subdir.clone() }
    }
}

/// A folder of a store path.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    path: StorePath,
    folder: String,
}

impl Place {
    fn file(&self, name: &str) -> String {
        if self.folder.is_empty() { name.to_owned() } else { format!("{}/{name}", self.folder) }
    }

    /// A relative path from here; `..` stops at the store path's own top.
    fn join(&self, relative: &str) -> Place {
        let mut pieces: Vec<&str> = self.folder.split('/').filter(|piece| !piece.is_empty()).collect();
        for piece in relative.split('/') {
            match piece {
                "" | "." => {}
                ".." => {
                    pieces.pop();
                }
                other => pieces.push(other),
            }
        }
        Place { path: self.path.clone(), folder: pieces.join("/") }
    }
}

pub struct LockedFlake {
    pub flake: Flake,
    pub old: LockFile,
    pub lock: LockFile,
    /// Inputs that were fetched while locking: their store path and folder.
    pub fetched: Vec<(Rc<Node>, StorePath, String)>,
}

impl LockedFlake {
    pub fn is_changed(&self) -> bool {
        self.lock.to_json().0 != self.old.to_json().0
    }
}

/// `YYYY-MM-DD` of seconds since 1970.
pub fn date(time_s: u64) -> String {
    let (year, month, day) = civil(time_s / 86_400);
    format!("{year:04}-{month:02}-{day:02}")
}

/// `YYYYMMDDhhmmss` of seconds since 1970, as `lastModifiedDate` has it.
pub fn compact_date(time_s: u64) -> String {
    let (year, month, day) = civil(time_s / 86_400);
    let seconds = time_s % 86_400;
    let (hour, minute, second) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}{hour:02}{minute:02}{second:02}")
}

/// Year, month and day of the days since 1970, by the Gregorian calendar counted in eras of 400 years from March.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// Fetches a flake and works out its lock file.
pub fn lock_flake(top: &FlakeRef, options: &LockOptions, sources: &mut dyn Sources) -> Result<LockedFlake> {
    let registries = if options.use_registries { Registries::All } else { Registries::None };
    let flake = get_flake(sources, top, registries, &[])?;
    let shown = flake.locked.show();
    let mut locking = Locking::new(sources, options, &flake);
    let locked = locking.run(&flake);
    let (old, lock) =
        locked.map_err(|error| error.context(format!("while updating the lock file of flake '{shown}'")))?;
    let fetched = std::mem::take(&mut locking.fetched);
    Ok(LockedFlake { flake, old, lock, fetched })
}

/// Fetches a flake and reads its declaration; once more where the flake says how it wants to be fetched.
fn get_flake(
    sources: &mut dyn Sources,
    original: &FlakeRef,
    registries: Registries,
    at: &[String],
) -> Result<Flake> {
    let mut fetched = sources.fetch(&original.input, registries)?;
    let subdir = fetched.subdir.take().unwrap_or_else(|| original.subdir.clone());
    let resolved = FlakeRef { input: fetched.resolved.clone(), subdir: subdir.clone() };
    let mut declaration = sources.declaration(&fetched.path, &subdir, &resolved)?;
    let mut wanted = fetched.locked.clone();
    for (name, value) in &declaration.own.0 {
        if !["submodules", "lfs"].contains(&name.as_str()) {
            return Err(FlakeError::Flake(format!("flake 'self' attribute '{name}' is not supported")));
        }
        wanted.attributes.0.insert(name.clone(), value.clone());
    }
    if wanted != fetched.locked {
        wanted.attributes.remove("narHash");
        fetched = sources.fetch(&wanted, Registries::None)?;
        declaration = sources.declaration(&fetched.path, &subdir, &resolved)?;
    }
    place_follows(&mut declaration.inputs, at);
    let locked = FlakeRef { input: fetched.locked, subdir };
    Ok(Flake { original: original.clone(), resolved, locked, path: fetched.path, declaration })
}

/// What a declaration says follows something is named from its own flake; from here on from the top.
fn place_follows(inputs: &mut BTreeMap<String, DeclaredInput>, at: &[String]) {
    for input in inputs.values_mut() {
        if let Some(follows) = &mut input.follows {
            follows.splice(0..0, at.iter().cloned());
        }
        place_follows(&mut input.overrides, at);
    }
}

/// What a flake further up says an input is.
#[derive(Clone)]
struct Override {
    input: DeclaredInput,
    place: Place,
    parent: Option<InputPath>,
}

struct Locking<'s, 'o> {
    sources: &'s mut dyn Sources,
    options: &'o LockOptions,
    registries: Registries,
    overrides: BTreeMap<InputPath, Override>,
    used_overrides: BTreeSet<InputPath>,
    used_updates: BTreeSet<InputPath>,
    fetched: Vec<(Rc<Node>, StorePath, String)>,
    parents: Vec<FlakeRef>,
}

/// One flake whose inputs are being locked.
struct Level<'l> {
    node: Rc<Node>,
    prefix: InputPath,
    old: Option<Rc<Node>>,
    /// What `follows` in the old lock is relative to.
    follows_prefix: InputPath,
    place: &'l Place,
    /// The inputs are those of the old lock and not of `flake.nix`.
    trusted: bool,
}

impl<'s, 'o> Locking<'s, 'o> {
    fn new(sources: &'s mut dyn Sources, options: &'o LockOptions, flake: &Flake) -> Self {
        let place = flake.place();
        let overrides = options.overrides.iter().map(|(path, reference)| {
            let input = DeclaredInput { reference: Some(reference.clone()), ..DeclaredInput::default() };
            (path.clone(), Override { input, place: place.clone(), parent: None })
        });
        Locking {
            sources,
            registries: if options.use_registries { Registries::Limited } else { Registries::None },
            overrides: overrides.collect(),
            options,
            used_overrides: BTreeSet::new(),
            used_updates: BTreeSet::new(),
            fetched: Vec::new(),
            parents: Vec::new(),
        }
    }

    fn run(&mut self, flake: &Flake) -> Result<(LockFile, LockFile)> {
        let place = flake.place();
        let old = self.lock_at(&place)?;
        let lock = LockFile::default();
        let level = Level {
            node: lock.root.clone(),
            prefix: Vec::new(),
            old: (!self.options.recreate).then(|| old.root.clone()),
            follows_prefix: Vec::new(),
            place: &place,
            trusted: false,
        };
        self.inputs(&flake.declaration.inputs, &level)?;
        for (path, reference) in &self.options.overrides {
            if !self.used_overrides.contains(path) {
                let name = show_input_path(path);
                self.sources.warn(&format!(
                    "the flag '--override-input {name} {reference}' does not match any input"
                ));
            }
        }
        for path in &self.options.updates {
            if !self.used_updates.contains(path) {
                let name = show_input_path(path);
                self.sources.warn(&format!("'{name}' does not match any input of this flake"));
            }
        }
        lock.check()?;
        Ok((old, lock))
    }

    fn lock_at(&mut self, place: &Place) -> Result<LockFile> {
        let name = place.file("flake.lock");
        match self.sources.read(&place.path, &name)? {
            Some(text) => LockFile::parse(&text, &format!("{}/{name}", place.path)),
            None => Ok(LockFile::default()),
        }
    }

    fn inputs(&mut self, inputs: &BTreeMap<String, DeclaredInput>, level: &Level<'_>) -> Result<()> {
        if level.prefix.len() > limits::INPUT_DEPTH_MAX {
            return Err(FlakeError::Flake(format!(
                "the inputs of '{}' are nested too deep",
                show_input_path(&level.prefix)
            )));
        }
        for (id, input) in inputs {
            self.add_overrides(input, &child(&level.prefix, id), level);
        }
        let strangers: Vec<InputPath> = self
            .overrides
            .keys()
            .filter(|path| {
                path.split_last()
                    .is_some_and(|(id, parent)| *parent == level.prefix[..] && !inputs.contains_key(id))
            })
            .cloned()
            .collect();
        for path in strangers {
            let (id, parent) = path.split_last().expect("no override is of the top");
            let parent = show_input_path(parent);
            self.sources.warn(&format!("input '{parent}' has an override for a non-existent input '{id}'"));
        }
        for (id, input) in inputs {
            let path = child(&level.prefix, id);
            let name = show_input_path(&path);
            self.input(id, input, path, level)
                .map_err(|error| error.context(format!("while updating the flake input '{name}'")))?;
        }
        Ok(())
    }

    fn add_overrides(&mut self, input: &DeclaredInput, path: &InputPath, level: &Level<'_>) {
        for (id, inner) in &input.overrides {
            let path = child(path, id);
            if inner.reference.is_some() || inner.follows.is_some() {
                self.overrides.entry(path.clone()).or_insert_with(|| Override {
                    input: inner.clone(),
                    place: level.place.clone(),
                    parent: Some(level.prefix.clone()),
                });
            }
            self.add_overrides(inner, &path, level);
        }
    }

    fn input(
        &mut self,
        id: &str,
        declared: &DeclaredInput,
        path: InputPath,
        level: &Level<'_>,
    ) -> Result<()> {
        let from_above = self.overrides.get(&path).cloned();
        let on_command_line = self.options.overrides.contains_key(&path);
        if from_above.is_some() {
            self.used_overrides.insert(path.clone());
        }
        let place = from_above.as_ref().map_or_else(|| level.place.clone(), |above| above.place.clone());
        let mut input = from_above.as_ref().map_or_else(|| declared.clone(), |above| above.input.clone());
        input.is_flake = declared.is_flake;
        if let Some(target) = input.follows {
            level.node.set(id, Edge::Follows(target));
            return Ok(());
        }
        let reference = match input.reference.take() {
            Some(reference) => reference,
            None => FlakeRef::indirect(id)?,
        };
        let parent = match reference.input.relative_path() {
            None => None,
            Some(_) => from_above.map_or_else(|| Some(level.prefix.clone()), |above| above.parent),
        };
        self.used_updates.insert(path.clone());
        let wanted = Wanted { id, path, reference, is_flake: input.is_flake, parent, place };
        match self.kept(&wanted, level, on_command_line) {
            Some(old) => self.keep(&wanted, &old, level),
            None => {
                // The pin is of the override, but what is noted as asked for is what the flake says: so it stays
                // when the lock file is renewed.
                let original = match (&declared.reference, on_command_line) {
                    (Some(reference), true) => reference.clone(),
                    _ => wanted.reference.clone(),
                };
                self.pin(&wanted, original, on_command_line, level)
            }
        }
    }

    /// The old entry, if it still says what the flake says.
    fn kept(&self, wanted: &Wanted<'_>, level: &Level<'_>, on_command_line: bool) -> Option<Rc<Node>> {
        if on_command_line || self.options.updates.contains(&wanted.path) {
            return None;
        }
        let Edge::Node(old) = level.old.as_ref()?.get(wanted.id)? else { return None };
        let locked = old.locked.as_ref()?;
        (locked.original.canonical() == wanted.reference.canonical() && locked.parent == wanted.parent)
            .then_some(old.clone())
    }

    fn keep(&mut self, wanted: &Wanted<'_>, old: &Rc<Node>, level: &Level<'_>) -> Result<()> {
        let locked = old.locked.clone().expect("inputs are locked");
        let node = Node::new(locked.clone());
        level.node.set(wanted.id, Edge::Node(node.clone()));
        let below = self.options.updates.range(wanted.path.clone()..).next();
        let mut refetch =
            below.is_some_and(|path| path.len() > wanted.path.len() && path.starts_with(&wanted.path));
        let mut inputs = BTreeMap::new();
        for (id, edge) in old.inputs.borrow().iter() {
            let input = match edge {
                Edge::Node(node) => {
                    let locked = node.locked.as_ref().expect("inputs are locked");
                    let reference = Some(locked.original.clone());
                    DeclaredInput { reference, is_flake: locked.is_flake, ..DeclaredInput::default() }
                }
                Edge::Follows(target) => {
                    // What made it follow may be gone from the flake: then only the input itself knows.
                    refetch |= !level.trusted && !self.overrides.contains_key(&child(&wanted.path, id));
                    let target = level.follows_prefix.iter().chain(target).cloned().collect();
                    DeclaredInput { follows: Some(target), ..DeclaredInput::default() }
                }
            };
            inputs.insert(id.clone(), input);
        }
        let (old, follows_prefix) = (Some(old.clone()), level.follows_prefix.clone());
        if !refetch {
            let level = Level {
                node,
                prefix: wanted.path.clone(),
                old,
                follows_prefix,
                place: level.place,
                trusted: true,
            };
            return self.inputs(&inputs, &level);
        }
        let (flake, place) = self.input_flake(wanted, &locked.locked, self.registries)?;
        self.fetched.push((node.clone(), place.path.clone(), place.folder.clone()));
        let level =
            Level { node, prefix: wanted.path.clone(), old, follows_prefix, place: &place, trusted: false };
        self.inputs(&flake.declaration.inputs, &level)
    }

    /// The flake of an input, at its place: fetched, or in the tree of the flake that names it.
    fn input_flake(
        &mut self,
        wanted: &Wanted<'_>,
        reference: &FlakeRef,
        registries: Registries,
    ) -> Result<(Flake, Place)> {
        let Some(relative) = wanted.reference.input.relative_path() else {
            let flake = get_flake(self.sources, reference, registries, &wanted.path)?;
            let place = flake.place();
            return Ok((flake, place));
        };
        let place = wanted.place.join(relative).join(&reference.subdir);
        let mut declaration = self.sources.declaration(&place.path, &place.folder, reference)?;
        place_follows(&mut declaration.inputs, &wanted.path);
        let (original, resolved) = (reference.clone(), reference.clone());
        let path = place.path.clone();
        Ok((Flake { original, resolved, locked: reference.clone(), path, declaration }, place))
    }

    fn pin(
        &mut self,
        wanted: &Wanted<'_>,
        original: FlakeRef,
        on_command_line: bool,
        level: &Level<'_>,
    ) -> Result<()> {
        let reference = &wanted.reference;
        let is_relative = reference.input.relative_path().is_some();
        if !self.options.allow_unlocked && !reference.input.is_locked() && !is_relative {
            return Err(FlakeError::Flake(format!(
                "cannot update unlocked flake input '{}' in pure mode",
                show_input_path(&wanted.path)
            )));
        }
        let locked = |locked: FlakeRef, is_flake: bool| Locked {
            locked,
            original: original.clone(),
            is_flake,
            parent: wanted.parent.clone(),
        };
        if !wanted.is_flake {
            let (pinned, place) = match reference.input.relative_path() {
                Some(relative) => (reference.clone(), wanted.place.join(relative)),
                None => {
                    let fetched = self.sources.fetch(&reference.input, self.registries)?;
                    let pinned = FlakeRef { input: fetched.locked, subdir: reference.subdir.clone() };
                    (pinned, Place { path: fetched.path, folder: String::new() })
                }
            };
            let node = Node::new(locked(pinned, false));
            self.fetched.push((node.clone(), place.path, place.folder));
            level.node.set(wanted.id, Edge::Node(node));
            return Ok(());
        }
        let registries = if on_command_line { Registries::All } else { self.registries };
        let (flake, place) = self.input_flake(wanted, reference, registries)?;
        let node = Node::new(locked(flake.locked.clone(), true));
        level.node.set(wanted.id, Edge::Node(node.clone()));
        if self.parents.contains(reference) {
            return Err(FlakeError::Flake(format!("found circular import of flake '{reference}'")));
        }
        self.parents.push(reference.clone());
        self.fetched.push((node.clone(), place.path.clone(), place.folder.clone()));
        // A new input brings its own lock file.
        let old = self.lock_at(&place)?;
        let level = Level {
            node,
            prefix: wanted.path.clone(),
            old: Some(old.root.clone()),
            follows_prefix: wanted.path.clone(),
            place: &place,
            trusted: false,
        };
        let result = self.inputs(&flake.declaration.inputs, &level);
        self.parents.pop();
        result
    }
}

/// An input once it is clear who says what it is.
struct Wanted<'w> {
    id: &'w str,
    path: InputPath,
    reference: FlakeRef,
    is_flake: bool,
    parent: Option<InputPath>,
    /// The flake that relative paths are relative to.
    place: Place,
}

fn child(prefix: &InputPath, id: &str) -> InputPath {
    let mut path = prefix.clone();
    path.push(id.to_owned());
    path
}

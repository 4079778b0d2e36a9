//! Flakes on this machine: locking one through the world of an evaluation, and what its evaluation then needs.
//!
//! Writes no lock file; that is the commands'.

use rednix_eval::{Evaluator, FetchedTree, FlakeSources, FlakeTree, Settings};
use rednix_flake::{
    Declaration, Fetched, FlakeError, FlakeRef, Input, LockOptions, LockedFlake, Registries, Sources,
    lock_flake,
};
use rednix_store::path::StorePath;

use crate::world::StoreWorld;

/// The world as locking sees it.
struct FlakeWorld {
    world: StoreWorld,
}

/// Fetches a flake and works out its lock file; nothing is written.
pub fn lock(
    world: &StoreWorld,
    reference: &FlakeRef,
    options: &LockOptions,
) -> Result<LockedFlake, FlakeError> {
    lock_flake(reference, options, &mut FlakeWorld { world: world.clone() })
}

impl FlakeWorld {
    fn outside(&self) -> &super::Outside {
        self.world.outside()
    }
}

fn outside(error: rednix_eval::WorldError) -> FlakeError {
    FlakeError::Outside(error.to_string())
}

impl Sources for FlakeWorld {
    fn fetch(&mut self, input: &Input, registries: Registries) -> Result<Fetched, FlakeError> {
        let (resolved, subdir) = self.outside().resolve(input, registries).map_err(outside)?;
        // What a lock file wrote down whole is not asked about again while its tree is there.
        let is_final =
            resolved.attributes.has("narHash") && resolved.last_modified().is_some() && resolved.is_locked();
        let tree = self.outside().tree(&resolved, is_final).map_err(outside)?;
        self.world.allow(&tree.path);
        Ok(Fetched { resolved, locked: Input { attributes: tree.attributes }, path: tree.path, subdir })
    }

    fn declaration(
        &mut self,
        path: &StorePath,
        folder: &str,
        reference: &FlakeRef,
    ) -> Result<Declaration, FlakeError> {
        let file = file_of(path, folder, "flake.nix");
        self.world.allow(path);
        let real = self.outside().real(path).join(folder).join("flake.nix");
        let shown = reference.show();
        if !real.is_file() {
            let name = if folder.is_empty() { "flake.nix".to_owned() } else { format!("{folder}/flake.nix") };
            return Err(FlakeError::Flake(format!(
                "source tree referenced by '{shown}' does not contain a '{name}' file\n\n\
                 hint: `flake = false;` makes an input of what is no flake; in a Git repository the file must be added"
            )));
        }
        let mut evaluator =
            Evaluator::new(Box::new(self.world.clone()), Settings { pure: true, ..Settings::default() });
        evaluator.flake_declaration(file.as_bytes(), &shown).map_err(|error| {
            let place = evaluator.place(error.range.start).map(|place| format!("\n  at {place}"));
            let message = match error.message.split_once("\n\nhint: ") {
                Some((message, hint)) => format!("{message}{}\n\nhint: {hint}", place.unwrap_or_default()),
                None => format!("{}{}", error.message, place.unwrap_or_default()),
            };
            FlakeError::Flake(message)
        })
    }

    fn read(&mut self, path: &StorePath, file: &str) -> Result<Option<String>, FlakeError> {
        let real = self.outside().real(path).join(file);
        match std::fs::read_to_string(&real) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(FlakeError::Outside(format!("cannot read `{path}/{file}`: {error}"))),
        }
    }

    fn warn(&mut self, message: &str) {
        self.outside().warn(message);
    }
}

fn file_of(path: &StorePath, folder: &str, name: &str) -> String {
    if folder.is_empty() { format!("{path}/{name}") } else { format!("{path}/{folder}/{name}") }
}

/// What the evaluation of a locked flake starts from.
pub fn sources(locked: &LockedFlake, is_dirty: bool) -> FlakeSources {
    let (_, keys) = locked.lock.to_json();
    let mut trees = Vec::new();
    for (key, node) in keys {
        let fetched = match &node.locked {
            None => {
                let flake = &locked.flake;
                let attributes = flake.locked.input.attributes.clone();
                Some((attributes, flake.path.clone(), flake.locked.subdir.clone(), is_dirty))
            }
            Some(pin) => locked.fetched.iter().find(|(other, ..)| std::rc::Rc::ptr_eq(other, &node)).map(
                |(_, path, folder)| {
                    (pin.locked.input.attributes.clone(), path.clone(), folder.clone(), false)
                },
            ),
        };
        if let Some((attributes, path, folder, is_dirty)) = fetched {
            trees.push(FlakeTree { node: key, tree: FetchedTree { path, attributes }, folder, is_dirty });
        }
    }
    FlakeSources { lock: locked.lock.to_text(), trees }
}

//! A store of its own with the test layer in it, and short ways to make derivations and build them.
#![allow(dead_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rednix_build::{BuildConfig, BuildErrors, Builder, Builtins, CancelToken, Fetch, FetchRequest, Wanted};
use rednix_events::{Event, Events, Recorder};
use rednix_store::derivation::{Derivation, Output, upstream_placeholder};
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::path::{ContentMethod, StorePath};
use rednix_store::store::{OpenOptions, Source, Store, VerifyOptions};

use super::Folder;

pub const SYSTEM: &str = "x86_64-linux";

/// Bytes by url; what is not there fails.
#[derive(Default)]
pub struct FakeFetch(pub BTreeMap<String, Vec<u8>>);

impl Fetch for FakeFetch {
    fn handles(&self, builder: &str) -> bool {
        builder == "fetchurl"
    }

    fn fetch(
        &self,
        requests: &[FetchRequest],
        _: &CancelToken,
        _: &Events,
        done: &(dyn Fn(usize, Result<(), String>) + Sync),
    ) {
        for (index, request) in requests.iter().enumerate() {
            let url = request.urls().into_iter().next().unwrap_or_default();
            let result = match self.0.get(&url) {
                Some(bytes) => std::fs::write(&request.destination, bytes).map_err(|error| error.to_string()),
                None => Err(format!("`{url}` is nowhere")),
            };
            done(index, result);
        }
    }
}

/// Builtins of the tests; the test binary's `main` registers the same ones.
pub fn builtins() -> Builtins {
    Builtins::new()
        .register("write", |attributes: &serde_json::Value, outputs: &BTreeMap<String, PathBuf>| {
            std::fs::write(&outputs["out"], attributes["text"].as_str().unwrap_or_default())
        })
        .register("copy", |attributes: &serde_json::Value, outputs: &BTreeMap<String, PathBuf>| {
            let source = attributes["src"].as_str().unwrap_or_default();
            std::fs::copy(source, &outputs["out"]).map(drop).map_err(|error| format!("`{source}`: {error}"))
        })
        .register("fail", |_: &serde_json::Value, _: &BTreeMap<String, PathBuf>| {
            Err::<(), _>("the file `x` is no archive")
        })
}

pub struct World {
    pub folder: Folder,
    pub store: Arc<Store>,
    pub recorder: Arc<Recorder>,
    pub layer: StorePath,
    pub config: BuildConfig,
    pub fetch: Arc<dyn Fetch>,
    pub cancel: CancelToken,
}

impl World {
    pub fn new() -> World {
        World::at(Folder::new())
    }

    pub fn at(folder: Folder) -> World {
        let store = Arc::new(Store::open(folder.path().join("root"), OpenOptions::default()).unwrap());
        let layer = store.add_from_path(super::layer(), Source::tree("layer")).unwrap().path;
        let mut config = BuildConfig::new(2, SYSTEM);
        config.timeout_total = Some(super::HUNG_AFTER);
        World {
            folder,
            store,
            recorder: Arc::default(),
            layer,
            config,
            fetch: Arc::new(FakeFetch::default()),
            cancel: CancelToken::new().unwrap(),
        }
    }

    pub fn root(&self) -> PathBuf {
        self.folder.path().join("root")
    }

    pub fn builder(&self) -> Builder {
        Builder::new(
            self.store.clone(),
            self.fetch.clone(),
            builtins(),
            self.config.clone(),
            self.recorder.clone(),
            self.cancel.clone(),
        )
    }

    pub fn builder_with(&self, backend: Arc<dyn rednix_build::Backend>) -> Builder {
        Builder::with_backend(
            self.store.clone(),
            backend,
            self.fetch.clone(),
            builtins(),
            self.config.clone(),
            self.recorder.clone(),
            self.cancel.clone(),
        )
    }

    /// A floating derivation that runs `script` in bash.
    pub fn script(&self, name: &str, script: &str) -> Recipe {
        let mut derivation = Derivation::new(name, SYSTEM, "/usr/bin/bash");
        derivation.arguments = vec![b"-ec".to_vec(), script.as_bytes().to_vec()];
        derivation.input_sources.insert(self.layer.clone());
        let recipe = Recipe { derivation };
        recipe
            .variable("name", name)
            .variable("rednixRoot", &self.layer.to_string())
            .variable("PATH", "/usr/bin")
            .variable("requiredSystemFeatures", "rednix")
            .floating(&["out"])
    }

    /// A derivation for one of the builtins, with structured attributes.
    pub fn builtin(&self, name: &str, builder: &str, attributes: serde_json::Value) -> Recipe {
        let derivation = Derivation::new(name, SYSTEM, format!("builtin:{builder}"));
        let recipe = Recipe { derivation };
        recipe.variable("__json", &attributes.to_string()).floating(&["out"])
    }

    pub fn write(&self, recipe: &Recipe) -> StorePath {
        let mut derivation = recipe.derivation.clone();
        let store = self.store.clone();
        let mut hashes = rednix_store::derivation::DerivationHashes::new();
        derivation
            .fill_output_paths(&mut |input| hashes.resolve(input, &mut |path| store.read_derivation(path)))
            .unwrap();
        self.store.write_derivation(&derivation).unwrap()
    }

    /// Writes the derivation and builds all its outputs.
    pub fn build(&self, recipe: &Recipe) -> Result<BTreeMap<String, StorePath>, BuildErrors> {
        let path = self.write(recipe);
        self.build_path(&path)
    }

    pub fn build_path(&self, path: &StorePath) -> Result<BTreeMap<String, StorePath>, BuildErrors> {
        let wanted = Wanted { derivation: path.clone(), outputs: BTreeSet::new() };
        let built = self.builder().build(&[wanted])?;
        Ok(built.into_iter().map(|((_, output), path)| (output, path)).collect())
    }

    /// Text of a file below a store path.
    pub fn read(&self, path: &StorePath, inside: &str) -> String {
        let real = self.store.real_path(path);
        let real = if inside.is_empty() { real } else { real.join(inside) };
        std::fs::read_to_string(&real).unwrap_or_else(|error| panic!("{}: {error}", real.display()))
    }

    /// Names of derivations whose build began, in order, since the last call.
    pub fn started(&self) -> Vec<String> {
        self.recorder
            .events()
            .into_iter()
            .filter_map(|event| match event {
                Event::BuildStarted { name, .. } => Some(name),
                _ => None,
            })
            .collect()
    }

    /// The store holds what it says, and no scratch folder is left.
    pub fn check_clean(&self) -> Result<(), String> {
        let report = self.store.verify(VerifyOptions::default()).map_err(|error| error.to_string())?;
        if !report.problems.is_empty() {
            return Err(format!("the store is damaged: {:?}", report.problems));
        }
        let scratch = self.store.layout().scratch();
        let left: Vec<_> = std::fs::read_dir(&scratch)
            .map(|list| list.flatten().map(|entry| entry.file_name()).collect())
            .unwrap_or_default();
        if !left.is_empty() {
            return Err(format!("scratch folders are left: {left:?}"));
        }
        let valid = self.store.all_valid_paths().map_err(|error| error.to_string())?;
        for entry in std::fs::read_dir(self.root().join("nix/store")).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let known = StorePath::from_basename(&name).is_ok_and(|path| valid.contains(&path));
            if !known && name != ".links" {
                return Err(format!("`{name}` is in the store but not registered"));
            }
        }
        Ok(())
    }
}

/// A derivation in the making.
#[derive(Clone)]
pub struct Recipe {
    pub derivation: Derivation,
}

impl Recipe {
    pub fn variable(mut self, name: &str, value: &str) -> Self {
        self.derivation.environment.insert(name.into(), value.into());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.derivation.environment.remove(name.as_bytes());
        self
    }

    pub fn floating(mut self, outputs: &[&str]) -> Self {
        let output = Output::Floating { method: ContentMethod::Recursive, algorithm: HashAlgorithm::Sha256 };
        self.derivation.outputs = outputs.iter().map(|name| ((*name).to_owned(), output.clone())).collect();
        self
    }

    pub fn fixed(mut self, method: ContentMethod, hash: Hash) -> Self {
        let output = Output::fixed(method, hash, &self.derivation.name, "out").unwrap();
        self.derivation.outputs = BTreeMap::from([("out".to_owned(), output)]);
        self
    }

    pub fn input_addressed(mut self, outputs: &[&str]) -> Self {
        self.derivation.outputs = outputs.iter().map(|name| ((*name).to_owned(), Output::Deferred)).collect();
        self
    }

    /// Makes the variable `name` the path of another derivation's floating output.
    pub fn needs(mut self, name: &str, derivation: &StorePath, output: &str) -> Self {
        let outputs = self.derivation.input_derivations.entry(derivation.clone()).or_default();
        outputs.insert(output.to_owned());
        let placeholder = upstream_placeholder(derivation, output);
        self.variable(name, &placeholder)
    }

    /// Adds an input derivation whose output path is known.
    pub fn needs_known(mut self, name: &str, derivation: &StorePath, path: &StorePath) -> Self {
        let outputs = self.derivation.input_derivations.entry(derivation.clone()).or_default();
        outputs.insert("out".to_owned());
        self.variable(name, &path.to_string())
    }
}

/// `fetchurl` of these bytes (or of others, to see what happens).
pub fn fetchurl(name: &str, url: &str, bytes: &[u8]) -> Recipe {
    let derivation = Derivation::new(name, "builtin", "builtin:fetchurl");
    Recipe { derivation }.variable("url", url).fixed(ContentMethod::Flat, Hash::sha256(bytes))
}

pub fn exists(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok()
}

/// The store is whole and nothing half-made is left, as a test ends.
pub fn clean(world: &World) -> Result<(), libtest_mimic::Failed> {
    world.check_clean().map_err(libtest_mimic::Failed::from)
}

/// The only failure of a build that must fail.
pub fn failure(
    result: Result<BTreeMap<String, StorePath>, BuildErrors>,
) -> Result<rednix_build::BuildError, libtest_mimic::Failed> {
    match result {
        Ok(outputs) => Err(format!("it was built: {outputs:?}").into()),
        Err(mut errors) if errors.failed.len() == 1 => Ok(errors.failed.remove(0)),
        Err(errors) => Err(format!("not one failure: {errors}").into()),
    }
}

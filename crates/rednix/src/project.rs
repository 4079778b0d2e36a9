//! Where the library and the recipe tree are: the checkout one stands in, else the copy inside the program.

use std::path::{Path, PathBuf};

use crate::cli::TreeArgs;
use crate::config::Config;
use crate::failure::Failure;
use crate::overriding;
use crate::working::{self, Copy};

include!(concat!(env!("OUT_DIR"), "/embedded.rs"));

/// The files an evaluation starts from. All paths are absolute.
#[derive(Debug, Clone)]
pub struct Project {
    /// Folder with `nix/`, `tree/` and `guest/`.
    pub root: PathBuf,
    pub tree: PathBuf,
    /// The tree's lock, where it is not `rednix.lock` beside the tree.
    pub lock: Option<PathBuf>,
    pub debian_lock: PathBuf,
    /// Recipes whose source is a folder for now, without any lock.
    pub overrides: Vec<(String, PathBuf)>,
    /// Working copies of this tree's recipes, as they are now.
    pub work: Vec<Copy>,
    pub target: String,
}

/// A lock written on this machine alone, because a pin had rotted. Not tracked by git.
pub const LOCAL_DEBIAN_LOCK: &str = "debian.lock.local.json";

impl Project {
    pub fn find(config: &Config, arguments: &TreeArgs) -> Result<Project, Failure> {
        let mut project = Project::find_without_work(config, arguments)?;
        project.work = working::copies(config, &project)?;
        // What the command line says goes before what was said some time ago.
        project.work.retain(|copy| !project.overrides.iter().any(|(recipe, _)| *recipe == copy.recipe));
        Ok(project)
    }

    /// The project as it is without working copies.
    pub fn find_without_work(config: &Config, arguments: &TreeArgs) -> Result<Project, Failure> {
        let here = std::env::current_dir()
            .map_err(|e| Failure::usage(format!("the current folder cannot be used: {e}")))?;
        let root = match checkout_around(&here) {
            Some(root) => root,
            None => unpack_embedded(&config.cache)?,
        };
        let tree = match (&arguments.tree, &config.tree_checkout) {
            (None, _) => root.join("tree"),
            (_, Some(checkout)) => checkout.clone(),
            (Some(folder), None) => {
                let tree = here.join(folder);
                if !tree.join("recipes").is_dir() {
                    return Err(Failure::usage(format!("`{folder}` is no recipe tree: it has no recipes/"))
                        .hint("pass the folder of a checkout of redox-os/redox"));
                }
                tree
            }
        };
        let lock = match &arguments.lock {
            Some(file) => Some(here.join(file)),
            None => Some(here.join("rednix.lock")).filter(|f| arguments.tree.is_some() && f.exists()),
        };
        let local = root.join("nix").join(LOCAL_DEBIAN_LOCK);
        let cached = config.cache.join(LOCAL_DEBIAN_LOCK);
        let debian_lock = [local, cached]
            .into_iter()
            .find(|file| !arguments.locked && file.exists())
            .unwrap_or_else(|| root.join("nix/debian.lock.json"));
        let locked = lock.clone().unwrap_or_else(|| tree.join("rednix.lock"));
        let overrides = overriding::momentary(&config.overrides, &locked)?;
        let target = arguments.target.clone();
        Ok(Project { root, tree, lock, debian_lock, overrides, work: Vec::new(), target })
    }

    /// The tree's folder by its one real name, for what is remembered per tree.
    pub fn tree_key(&self) -> PathBuf {
        std::fs::canonicalize(&self.tree).unwrap_or_else(|_| self.tree.clone())
    }

    /// The library applied to this project, as a Nix expression.
    pub fn expression(&self) -> String {
        let mut text = format!("(import {}) {{\n", nix_string(&self.root.join("nix/default.nix")));
        text.push_str(&format!("  tree = {};\n", nix_string(&self.tree)));
        if let Some(lock) = &self.lock {
            text.push_str(&format!("  lock = {};\n", nix_string(lock)));
        }
        text.push_str(&format!("  debianLock = {};\n", nix_string(&self.debian_lock)));
        text.push_str(&format!("  target = {};\n", quote(&self.target)));
        if !self.overrides.is_empty() {
            text.push_str("  overrides = {\n");
            for (name, folder) in &self.overrides {
                text.push_str(&format!("    {} = /. + {};\n", quote(name), nix_string(folder)));
            }
            text.push_str("  };\n");
        }
        if !self.work.is_empty() {
            text.push_str("  work = {\n");
            for copy in &self.work {
                text.push_str(&format!(
                    "    {} = {{ folder = {}; key = {}; content = {}; }};\n",
                    quote(&copy.recipe),
                    nix_string(&copy.folder),
                    quote(&copy.key()),
                    quote(&copy.content)
                ));
            }
            text.push_str("  };\n");
        }
        text.push('}');
        text
    }
}

fn nix_string(path: &Path) -> String {
    quote(&path.to_string_lossy())
}

/// A Nix string literal that holds exactly `text`.
pub fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' | '$' => {
                quoted.push('\\');
                quoted.push(character);
            }
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

/// The nearest folder upwards that holds this project's own files.
fn checkout_around(here: &Path) -> Option<PathBuf> {
    here.ancestors()
        .find(|folder| {
            folder.join("nix/cookbook.nix").is_file() && folder.join("tree/config/probe.toml").is_file()
        })
        .map(Path::to_path_buf)
}

/// Writes the embedded files once per version of them, and gives the folder.
fn unpack_embedded(cache: &Path) -> Result<PathBuf, Failure> {
    let mut hasher = rednix_store::hash::Hasher::new(rednix_store::hash::HashAlgorithm::Sha256);
    for (path, executable, contents) in FILES {
        hasher.update(path.as_bytes());
        hasher.update(&[0, u8::from(*executable)]);
        hasher.update(&(contents.len() as u64).to_le_bytes());
        hasher.update(contents);
    }
    let name = hasher.finish().to_nix32();
    let folder = cache.join("embedded").join(&name);
    if folder.exists() {
        return Ok(folder);
    }
    let failed = |path: &Path, error: std::io::Error| {
        Failure::failed(format!("cannot write the embedded tree to `{}`: {error}", path.display()))
            .hint("set XDG_CACHE_HOME to a folder that can be written to")
    };
    let parent = cache.join("embedded");
    std::fs::create_dir_all(&parent).map_err(|e| failed(&parent, e))?;
    // Renamed into place when whole, so that another rednix never sees half of it.
    let scratch = tempfile::tempdir_in(&parent).map_err(|e| failed(&parent, e))?;
    for (path, executable, contents) in FILES {
        use std::os::unix::fs::PermissionsExt;
        let file = scratch.path().join(path);
        std::fs::create_dir_all(file.parent().expect("every embedded file lies in a folder"))
            .and_then(|()| std::fs::write(&file, contents))
            .and_then(|()| {
                let mode = if *executable { 0o755 } else { 0o644 };
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode))
            })
            .map_err(|e| failed(&file, e))?;
    }
    let scratch = scratch.keep();
    match std::fs::rename(&scratch, &folder) {
        Ok(()) => Ok(folder),
        Err(_) if folder.exists() => {
            std::fs::remove_dir_all(&scratch).map_err(|e| failed(&scratch, e))?;
            Ok(folder)
        }
        Err(error) => Err(failed(&folder, error)),
    }
}

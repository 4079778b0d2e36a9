//! A small `nix-instantiate` for trying the evaluator: reads the file system, names store paths, writes nothing.

use rednix_eval::*;
use rednix_store::derivation::Derivation;
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::path::{ContentMethod, StorePath, fixed_output_path, text_path};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

struct ReadOnlyWorld {
    derivations: BTreeMap<StorePath, Derivation>,
}

fn failed(path: &Path, error: std::io::Error) -> WorldError {
    match error.kind() {
        std::io::ErrorKind::NotFound => WorldError::Missing(path.display().to_string()),
        std::io::ErrorKind::NotADirectory => {
            WorldError::Failed(format!("cannot read directory \"{}\": Not a directory", path.display()))
        }
        _ => WorldError::Failed(format!("cannot read `{}`: {error}", path.display())),
    }
}

fn kind(file_type: std::fs::FileType) -> FileKind {
    if file_type.is_symlink() {
        FileKind::Symlink
    } else if file_type.is_dir() {
        FileKind::Directory
    } else if file_type.is_file() {
        FileKind::Regular
    } else {
        FileKind::Other
    }
}

impl World for ReadOnlyWorld {
    fn read_file(&mut self, path: &Path) -> WorldResult<Vec<u8>> {
        std::fs::read(path).map_err(|error| failed(path, error))
    }

    fn read_dir(&mut self, path: &Path) -> WorldResult<Vec<(Vec<u8>, FileKind)>> {
        let mut listed = Vec::new();
        for entry in std::fs::read_dir(path).map_err(|error| failed(path, error))? {
            let entry = entry.map_err(|error| failed(path, error))?;
            let file_type = entry.file_type().map_err(|error| failed(path, error))?;
            listed.push((entry.file_name().as_bytes().to_vec(), kind(file_type)));
        }
        Ok(listed)
    }

    fn file_kind(&mut self, path: &Path) -> WorldResult<Option<FileKind>> {
        match std::fs::symlink_metadata(path) {
            Ok(metadata) => Ok(Some(kind(metadata.file_type()))),
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(failed(path, error)),
        }
    }

    fn read_link(&mut self, path: &Path) -> WorldResult<PathBuf> {
        std::fs::read_link(path).map_err(|error| failed(path, error))
    }

    fn environment(&mut self, name: &[u8]) -> Option<Vec<u8>> {
        std::env::var_os(std::ffi::OsStr::from_bytes(name)).map(|value| value.as_bytes().to_vec())
    }

    fn add_path(&mut self, request: &AddPath<'_>) -> WorldResult<StorePath> {
        let store = |error: rednix_store::Error| WorldError::Failed(error.to_string());
        if self.file_kind(request.path)?.is_none() {
            return Err(WorldError::Missing(request.path.display().to_string()));
        }
        let hash = match (request.method, request.accepted) {
            (ContentMethod::Flat, _) => Hash::sha256(&self.read_file(request.path)?),
            (_, None) => {
                rednix_store::nar::hash_path(request.path, HashAlgorithm::Sha256).map_err(store)?.0
            }
            (_, Some(accepted)) => {
                let mut hasher = rednix_store::hash::Hasher::new(HashAlgorithm::Sha256);
                let mut accept = |path: &Path, _| {
                    let relative = path.strip_prefix(request.path).unwrap_or(path);
                    Ok(relative == Path::new("") || accepted.contains(relative))
                };
                rednix_store::nar::dump_accepted(request.path, &mut accept, &mut hasher).map_err(store)?;
                hasher.finish()
            }
        };
        if request.expected.is_some_and(|expected| *expected != hash) {
            let shown = request.path.display();
            let message = format!("store path mismatch in (possibly filtered) path added from '{shown}'");
            return Err(WorldError::Failed(message));
        }
        fixed_output_path(request.method, &hash, request.name, &BTreeSet::new(), false).map_err(store)
    }

    fn add_text(&mut self, name: &str, text: &[u8], references: &BTreeSet<StorePath>) -> WorldResult<StorePath> {
        text_path(name, &Hash::sha256(text), references).map_err(|error| WorldError::Failed(error.to_string()))
    }

    fn write_derivation(&mut self, path: &StorePath, derivation: &Derivation, _: &[u8]) -> WorldResult<()> {
        self.derivations.insert(path.clone(), derivation.clone());
        Ok(())
    }

    fn read_derivation(&mut self, path: &StorePath) -> WorldResult<Derivation> {
        let found = self.derivations.get(path).cloned();
        found.ok_or_else(|| WorldError::Failed(format!("path '{path}' is not valid")))
    }

    fn realise(&mut self, wanted: &[(StorePath, Option<String>)]) -> WorldResult<Vec<StorePath>> {
        Err(WorldError::Failed(format!("cannot build '{}' during evaluation", wanted[0].0)))
    }

    fn is_valid(&mut self, path: &StorePath) -> WorldResult<bool> {
        Ok(self.derivations.contains_key(path))
    }

    fn current_system(&self) -> String {
        "x86_64-linux".into()
    }

    fn message(&mut self, text: &str) {
        eprintln!("{text}");
    }
}

#[derive(Default)]
struct Arguments {
    eval: bool,
    strict: bool,
    parse: bool,
    xml: bool,
    json: bool,
    raw: bool,
    no_location: bool,
    expressions: bool,
    attributes: Vec<String>,
    bindings: Vec<(String, String, bool)>,
    sources: Vec<String>,
    stats: bool,
}

fn main() {
    let mut settings = Settings::default();
    let mut given = Arguments::default();
    let mut arguments = std::env::args().skip(1);
    let mut search = Vec::new();
    while let Some(argument) = arguments.next() {
        let mut next = || arguments.next().expect("a value after the option");
        match argument.as_str() {
            "--eval" => given.eval = true,
            "--strict" => given.strict = true,
            "--parse" => given.parse = true,
            "--xml" => given.xml = true,
            "--json" => given.json = true,
            "--raw" => given.raw = true,
            "--no-location" => given.no_location = true,
            "--stats" => given.stats = true,
            "-E" | "--expr" => given.expressions = true,
            "-A" | "--attr" => given.attributes.push(next()),
            "-I" => search.push(next()),
            "--arg" | "--argstr" => {
                let text = argument == "--argstr";
                let name = next();
                given.bindings.push((name, next(), text));
            }
            "--max-call-depth" => settings.max_call_depth = next().parse().expect("a number"),
            "--extra-experimental-features" => {
                let feature = next();
                settings.toml_timestamps |= feature.contains("parse-toml-timestamps");
                settings.pipe_operators |= feature.contains("pipe-operators");
            }
            "--store" => {
                next();
            }
            "--option" => {
                next();
                next();
            }
            option if option.starts_with("--lint") => {
                next();
            }
            option if option.starts_with("--") => {}
            _ => given.sources.push(argument),
        }
    }
    search.extend(std::env::var("NIX_PATH").unwrap_or_default().split(':').map(str::to_owned));
    settings.search_path =
        search.iter().filter(|entry| !entry.is_empty()).map(|entry| SearchEntry::parse(entry)).collect();
    settings.home = std::env::var("HOME").ok();
    let directory = std::env::current_dir().expect("a working directory");
    settings.working_directory = Some(directory.display().to_string());
    settings.read_only = given.eval;
    let world = Box::new(ReadOnlyWorld { derivations: BTreeMap::new() });
    let mut evaluator = Evaluator::new(world, settings);
    let result = run(&mut evaluator, &given, directory.as_os_str().as_bytes());
    if given.stats {
        eprintln!("{} bytes allocated", evaluator.allocated_bytes());
    }
    if let Err(error) = result {
        report(&evaluator, &error);
        std::process::exit(1);
    }
    std::process::exit(0);
}

fn report(evaluator: &Evaluator, error: &EvalError) {
    eprintln!("error:");
    for frame in error.frames.iter().rev() {
        eprintln!("       … {}", frame.message);
        if let Some(place) = evaluator.place(frame.range.start) {
            eprintln!("         at {place}");
        }
    }
    eprintln!("       error: {}", error.message);
    if let Some(place) = evaluator.place(error.range.start) {
        eprintln!("       at {place}");
    }
}

fn run(evaluator: &mut Evaluator, given: &Arguments, directory: &[u8]) -> EvalResult<()> {
    let mut bindings = Vec::new();
    for (name, value, text) in &given.bindings {
        let handle = match text {
            true => evaluator.string(value.as_bytes()),
            false => evaluator.text(value.as_bytes(), directory)?,
        };
        bindings.push((name.clone(), handle));
    }
    let mut out = std::io::stdout().lock();
    for source in &given.sources {
        let root = if source == "-" {
            let mut text = Vec::new();
            std::io::stdin().read_to_end(&mut text).expect("standard input is readable");
            if given.parse {
                let mut printed = evaluator.parse(Origin::StandardInput, &text, directory)?;
                printed.push(b'\n');
                out.write_all(&printed).expect("standard output is writable");
                continue;
            }
            evaluator.source(Origin::StandardInput, &text, directory)?
        } else if given.expressions {
            evaluator.text(source.as_bytes(), directory)?
        } else {
            let path = Path::new(std::ffi::OsStr::from_bytes(directory)).join(source);
            evaluator.file(path.as_os_str().as_bytes())?
        };
        let paths = if given.attributes.is_empty() { vec![String::new()] } else { given.attributes.clone() };
        for path in paths {
            let mut value = evaluator.select(root, &path, &bindings)?;
            if !given.eval {
                for found in evaluator.derivations(value, &bindings)? {
                    writeln!(out, "{}", found.derivation).expect("standard output is writable");
                }
                continue;
            }
            if given.strict {
                value = evaluator.force_deep(value)?;
            }
            let mut shown = if given.xml {
                evaluator.to_xml(value, given.strict, !given.no_location)?
            } else if given.json {
                evaluator.to_json(value)?
            } else if given.raw {
                evaluator.to_text(value)?
            } else {
                evaluator.show(value)
            };
            if !given.raw && !given.xml {
                shown.push(b'\n');
            }
            out.write_all(&shown).expect("standard output is writable");
        }
    }
    Ok(())
}

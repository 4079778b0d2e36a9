//! Builtins that add files to the store.

use super::files::{as_path, kind_value};
use super::paths::{base_name, with_path};
use super::{Outcome, ready, value};
use crate::collect::Tracer;
use crate::context::ContextElement;
use crate::error::{EvalError, Frame, Result};
use crate::value::{Entry, Value, entries};
use crate::vm::Vm;
use crate::vm::native::{Native, Step};
use crate::world::{AddPath, FileKind};
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::path::{ContentMethod, StorePath};
use std::collections::BTreeSet;
use std::path::PathBuf;

impl Vm {
    /// A string that names a store path and depends on it.
    pub(crate) fn store_path_string(&mut self, path: StorePath) -> Value {
        let text = path.to_string();
        let number = self.contexts.number(ContextElement::Opaque(path));
        Value::string_with_context(&mut self.heap, text.as_bytes(), &[number])
    }

    /// Copies a file or tree under its own name, once per evaluation.
    pub(crate) fn copy_to_store(&mut self, path: &[u8]) -> Result<StorePath> {
        if let Some(known) = self.copied.get(path) {
            return Ok(known.clone());
        }
        if path.ends_with(b".drv") {
            let message = "file names are not allowed to end in '.drv'";
            return Err(EvalError::evaluation(message).at(self.here()));
        }
        let name = self.store_name(base_name(path))?;
        let added = self.add_to_store(path, &name, ContentMethod::Recursive, None, None)?;
        self.copied.insert(path.to_vec(), added.clone());
        Ok(added)
    }

    fn store_name(&self, name: &[u8]) -> Result<String> {
        String::from_utf8(name.to_vec()).map_err(|_| {
            let shown = String::from_utf8_lossy(name);
            EvalError::evaluation(format!("name '{shown}' is not valid UTF-8")).at(self.here())
        })
    }

    fn add_to_store(
        &mut self,
        path: &[u8],
        name: &str,
        method: ContentMethod,
        accepted: Option<&BTreeSet<PathBuf>>,
        expected: Option<&Hash>,
    ) -> Result<StorePath> {
        let request = AddPath { path: as_path(path), name, method, accepted, expected };
        self.world.add_path(&request).map_err(|error| self.world_error(&error))
    }
}

pub(super) fn to_file(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let name =
        vm.want_plain_string(arguments[0], "while evaluating the first argument passed to builtins.toFile")?;
    let text =
        vm.want_string(arguments[1], "while evaluating the second argument passed to builtins.toFile")?;
    let name = vm.store_name(name)?;
    let mut references = BTreeSet::new();
    for &number in arguments[1].context() {
        match vm.contexts.get(number) {
            ContextElement::Opaque(path) => {
                references.insert(path.clone());
            }
            other => {
                let message = format!(
                    "files created by builtins.toFile may not reference derivations, but {name} references {}",
                    other.encode()
                );
                return Err(EvalError::evaluation(message).at(vm.here()));
            }
        }
    }
    let path = vm.world.add_text(&name, text, &references).map_err(|error| vm.world_error(&error))?;
    value(vm.store_path_string(path))
}

pub(super) fn store_path(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    if vm.settings.pure {
        let message = "'builtins.storePath' is not allowed in pure evaluation mode";
        return Err(EvalError::evaluation(message).at(vm.here()));
    }
    let context = "while evaluating the first argument passed to 'builtins.storePath'";
    with_path(vm, arguments[0], context, [Value::Null; 3], |vm, path, _| {
        let direct = String::from_utf8(path.clone()).ok().and_then(|text| StorePath::parse(&text).ok());
        let path = if direct.is_some() { path } else { vm.follow_all(&path)? };
        let text = String::from_utf8_lossy(&path).into_owned();
        let Ok((store_path, _)) = StorePath::split(&text) else {
            let message = format!("path '{text}' is not in the Nix store");
            return Err(EvalError::evaluation(message).at(vm.here()));
        };
        if !vm.settings.read_only {
            let valid = vm.world.is_valid(&store_path).map_err(|error| vm.world_error(&error))?;
            if !valid {
                let message = format!("path '{store_path}' is not valid");
                return Err(EvalError::evaluation(message).at(vm.here()));
            }
        }
        let number = vm.contexts.number(ContextElement::Opaque(store_path));
        value(Value::string_with_context(&mut vm.heap, text.as_bytes(), &[number]))
    })
}

pub(super) fn filter_source(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    vm.want_function(arguments[0], "while evaluating the first argument passed to builtins.filterSource")?;
    let context =
        "while evaluating the second argument (the path to filter) passed to 'builtins.filterSource'";
    with_path(vm, arguments[1], context, [arguments[0]; 3], |vm, path, kept| {
        let name = vm.store_name(base_name(&path))?;
        Source { path, name, filter: Some(kept[0]), method: ContentMethod::Recursive, expected: None }.add(vm)
    })
}

/// `builtins.path { path; name; filter; recursive; sha256; }`.
pub(super) fn path(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let set = vm.want_attrs(arguments[0], "while evaluating the argument passed to 'builtins.path'")?;
    let symbols = vm.symbols;
    let mut path = None;
    for entry in entries(&mut vm.heap, set) {
        let name = entry.name;
        let known = [symbols.path, symbols.name, symbols.filter, symbols.recursive, symbols.sha256];
        if !known.contains(&name) {
            let message = format!("unsupported argument '{}' to 'builtins.path'", vm.interner.text(name));
            return Err(EvalError::evaluation(message).at(crate::source::Range::at(entry.pos)));
        }
        let computed = ready!(entry.value.get());
        if name == symbols.path {
            path = Some(computed);
        }
    }
    let Some(path) = path else {
        let message = "missing required 'path' attribute in the first argument to 'builtins.path'";
        return Err(EvalError::evaluation(message).at(vm.here()));
    };
    let context = "while evaluating the 'path' attribute passed to 'builtins.path'";
    with_path(vm, path, context, [arguments[0]; 3], |vm, path, kept| {
        let Value::Attrs(set) = kept[0] else { unreachable!("checked before") };
        let symbols = vm.symbols;
        let get = |entry: Option<&'static Entry>| entry.map(|entry| entry.value.get().peek());
        let name = match get(set.get(symbols.name)) {
            Some(name) => {
                let context = "while evaluating the `name` attribute passed to builtins.path";
                vm.want_plain_string(name, context)?.to_vec()
            }
            None => Vec::new(),
        };
        let name = if name.is_empty() { base_name(&path).to_vec() } else { name };
        let filter = get(set.get(symbols.filter));
        if let Some(filter) = filter {
            vm.want_function(filter, "while evaluating the `filter` parameter passed to builtins.path")?;
        }
        let method = match get(set.get(symbols.recursive)) {
            Some(flag) => {
                let context = "while evaluating the `recursive` attribute passed to builtins.path";
                if vm.want_bool(flag, context)? { ContentMethod::Recursive } else { ContentMethod::Flat }
            }
            None => ContentMethod::Recursive,
        };
        let expected = match get(set.get(symbols.sha256)) {
            Some(text) => {
                let context = "while evaluating the `sha256` attribute passed to builtins.path";
                let text = vm.want_plain_string(text, context)?;
                Some(vm.parse_hash(text, Some(HashAlgorithm::Sha256))?)
            }
            None => None,
        };
        let name = vm.store_name(&name)?;
        Source { path, name, filter, method, expected }.add(vm)
    })
}

impl Vm {
    /// A hash in any notation; an empty one is all zeros, with a warning.
    pub(crate) fn parse_hash(&mut self, text: &[u8], algorithm: Option<HashAlgorithm>) -> Result<Hash> {
        let text = String::from_utf8_lossy(text);
        if text.is_empty() {
            let Some(algorithm) = algorithm else {
                return Err(
                    EvalError::evaluation("empty hash requires explicit hash algorithm").at(self.here())
                );
            };
            let hash = Hash::zero(algorithm);
            self.world.message(&format!("warning: found empty hash, assuming '{}'", hash.to_sri()));
            return Ok(hash);
        }
        Hash::parse_any(&text, algorithm)
            .map_err(|error| EvalError::evaluation(error.to_string()).at(self.here()))
    }
}

/// A file or tree on its way to the store.
struct Source {
    path: Vec<u8>,
    name: String,
    filter: Option<Value>,
    method: ContentMethod,
    expected: Option<Hash>,
}

impl Source {
    fn add(self, vm: &mut Vm) -> Result<Outcome> {
        // What is added is what the links lead to.
        let path = vm.follow_all(&self.path)?;
        let source = Source { path, ..self };
        match source.filter {
            None => value(source.finish(vm, None)?),
            Some(filter) => Ok(Outcome::Run(Box::new(Filtering {
                source,
                filter,
                pending: Vec::new(),
                accepted: BTreeSet::new(),
                asked: None,
                started: false,
            }))),
        }
    }

    fn finish(&self, vm: &mut Vm, accepted: Option<&BTreeSet<PathBuf>>) -> Result<Value> {
        let added = vm.add_to_store(&self.path, &self.name, self.method, accepted, self.expected.as_ref());
        let added = added.map_err(|mut error| {
            let message = format!("while adding path '{}'", String::from_utf8_lossy(&self.path));
            error.frames.push(Frame { range: vm.here(), message });
            error
        })?;
        Ok(vm.store_path_string(added))
    }
}

/// Walks a tree, asking the filter about each entry; what it refuses is not entered.
struct Filtering {
    source: Source,
    filter: Value,
    pending: Vec<(PathBuf, FileKind)>,
    accepted: BTreeSet<PathBuf>,
    /// The entry whose answer is awaited, relative to the source.
    asked: Option<(PathBuf, FileKind)>,
    started: bool,
}

impl Filtering {
    fn enter(&mut self, vm: &mut Vm, relative: &std::path::Path) -> Result<()> {
        let directory = as_path(&self.source.path).join(relative);
        let mut listed = vm.world.read_dir(&directory).map_err(|error| vm.world_error(&error))?;
        // The last is taken first.
        listed.sort_by(|a, b| b.0.cmp(&a.0));
        for (name, kind) in listed {
            self.pending.push((relative.join(as_path(&name)), kind));
        }
        Ok(())
    }
}

impl Native for Filtering {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.value(self.filter);
        tracer.optional(self.source.filter);
    }

    fn resume(&mut self, vm: &mut Vm, value: Value) -> Result<Step> {
        if !std::mem::replace(&mut self.started, true) {
            let path = self.source.path.clone();
            if vm.file_kind(&path)? == Some(FileKind::Directory) {
                self.enter(vm, std::path::Path::new(""))?;
            }
        }
        if let Some((relative, kind)) = self.asked.take() {
            let context = "while evaluating the return value of the path filter function";
            if vm.want_bool(value, context)? {
                if kind == FileKind::Directory {
                    self.enter(vm, &relative)?;
                }
                self.accepted.insert(relative);
            }
        }
        let Some((relative, kind)) = self.pending.pop() else {
            let accepted = std::mem::take(&mut self.accepted);
            return Ok(Step::Return(self.source.finish(vm, Some(&accepted))?));
        };
        let full = as_path(&self.source.path).join(&relative);
        let name = vm.string(full.as_os_str().as_encoded_bytes());
        let kind_text = kind_value(vm, kind);
        self.asked = Some((relative, kind));
        Ok(Step::call(self.filter, &[name, kind_text]))
    }
}

//! Builtins that read the world: files, directories, the environment, the search path.

use super::paths::with_path;
use super::{ForceItems, Outcome, boolean, value};
use crate::collect::Tracer;
use crate::error::{ErrorKind, EvalError, Result};
use crate::memory::slice;
use crate::source::Pos;
use crate::value::{Entry, Value, new_attrs};
use crate::vm::Vm;
use crate::vm::coerce::Coerce;
use crate::vm::native::{Native, Step};
use crate::world::{FileKind, WorldError};
use rednix_syntax::printer::canonical_path;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Links followed before a path is given up.
const LINKS_MAX: u32 = 64;

pub(crate) fn as_path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

impl Vm {
    #[cold]
    pub(crate) fn world_error(&self, error: &WorldError) -> Box<EvalError> {
        EvalError::new(ErrorKind::World, error.to_string()).at(self.here())
    }

    pub(crate) fn read_file(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        self.world.read_file(as_path(path)).map_err(|error| self.world_error(&error))
    }

    pub(crate) fn file_kind(&mut self, path: &[u8]) -> Result<Option<FileKind>> {
        self.world.file_kind(as_path(path)).map_err(|error| self.world_error(&error))
    }

    /// The path with the link in its last component followed, again and again.
    pub(crate) fn follow(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        let mut path = path.to_vec();
        for _ in 0..LINKS_MAX {
            if self.file_kind(&path)? != Some(FileKind::Symlink) {
                return Ok(path);
            }
            let target = self.world.read_link(as_path(&path)).map_err(|error| self.world_error(&error))?;
            let mut joined = PathBuf::from(as_path(&path));
            joined.pop();
            joined.push(target);
            path = canonical_path(joined.as_os_str().as_bytes());
        }
        let shown = String::from_utf8_lossy(&path).into_owned();
        Err(EvalError::new(ErrorKind::World, format!("infinite symlink recursion in path '{shown}'"))
            .at(self.here()))
    }

    /// The path with all links in it followed.
    pub(crate) fn follow_all(&mut self, path: &[u8]) -> Result<Vec<u8>> {
        let mut done = Vec::new();
        for piece in path.split(|&byte| byte == b'/').filter(|piece| !piece.is_empty()) {
            done.push(b'/');
            done.extend_from_slice(piece);
            done = self.follow(&done)?;
            if done == b"/" {
                done.clear();
            }
        }
        if done.is_empty() {
            done.push(b'/');
        }
        Ok(done)
    }
}

pub(super) fn read_file(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    with_path(
        vm,
        arguments[0],
        "while evaluating the path passed to 'builtins.readFile'",
        [Value::Null; 3],
        |vm, path, _| {
            let bytes = vm.read_file(&path)?;
            if bytes.contains(&0) {
                let shown = String::from_utf8_lossy(&path);
                let message =
                    format!("the contents of the file '{shown}' cannot be represented as a Nix string");
                return Err(EvalError::evaluation(message).at(vm.here()));
            }
            value(vm.string(&bytes))
        },
    )
}

fn kind_name(kind: FileKind) -> &'static [u8] {
    match kind {
        FileKind::Regular => b"regular",
        FileKind::Directory => b"directory",
        FileKind::Symlink => b"symlink",
        FileKind::Other => b"unknown",
    }
}

pub(crate) fn kind_value(vm: &mut Vm, kind: FileKind) -> Value {
    vm.string(kind_name(kind))
}

pub(super) fn read_dir(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    with_path(
        vm,
        arguments[0],
        "while evaluating the path passed to 'builtins.readDir'",
        [Value::Null; 3],
        |vm, path, _| {
            let path = vm.follow_all(&path)?;
            let listed = vm.world.read_dir(as_path(&path)).map_err(|error| vm.world_error(&error))?;
            let mut made = Vec::with_capacity(listed.len());
            for (name, kind) in listed {
                let name = vm.interner.intern(&name);
                made.push(Entry::new(name, Pos::NONE, kind_value(vm, kind)));
            }
            made.sort_by_key(|entry| entry.name);
            value(Value::Attrs(new_attrs(&mut vm.heap, Pos::NONE, made)))
        },
    )
}

pub(super) fn read_file_type(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    with_path(
        vm,
        arguments[0],
        "while evaluating the path passed to 'builtins.readFileType'",
        [Value::Null; 3],
        |vm, path, _| match vm.file_kind(&path)? {
            Some(kind) => value(kind_value(vm, kind)),
            None => {
                let shown = String::from_utf8_lossy(&path).into_owned();
                Err(vm.world_error(&WorldError::Missing(shown)))
            }
        },
    )
}

pub(super) fn path_exists(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let directory = arguments[0].as_bytes().is_some_and(|text| text.ends_with(b"/") || text.ends_with(b"/."));
    let kept = [Value::Bool(directory), Value::Null, Value::Null];
    let context = "while evaluating the path passed to 'builtins.pathExists'";
    with_path(vm, arguments[0], context, kept, |vm, path, kept| {
        // A path that cannot be looked at is no error here.
        let kind = match kept[0] {
            Value::Bool(true) => vm.follow(&path).and_then(|path| vm.file_kind(&path)),
            _ => vm.file_kind(&path),
        };
        let kind = kind.unwrap_or(None);
        boolean(match kept[0] {
            Value::Bool(true) => kind == Some(FileKind::Directory),
            _ => kind.is_some(),
        })
    })
}

pub(super) fn get_env(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let name =
        vm.want_plain_string(arguments[0], "while evaluating the first argument passed to builtins.getEnv")?;
    let found = if vm.settings.pure { None } else { vm.world.environment(name) };
    value(vm.string(&found.unwrap_or_default()))
}

/// `builtins.nixPath`.
pub(crate) fn nix_path(vm: &mut Vm) -> Value {
    let symbols = vm.symbols;
    let mut items = Vec::new();
    let entries = if vm.settings.pure { Vec::new() } else { vm.settings.search_path.clone() };
    for entry in entries {
        let path = vm.string(entry.path.as_bytes());
        let prefix = vm.string(entry.prefix.as_bytes());
        items.push(vm.attrs(&[(symbols.path, path), (symbols.prefix, prefix)]));
    }
    vm.list(&items)
}

pub(super) fn find_file(vm: &mut Vm, arguments: &[Value]) -> Result<Outcome> {
    let list =
        vm.want_list(arguments[0], "while evaluating the first argument passed to builtins.findFile")?;
    vm.want_plain_string(arguments[1], "while evaluating the second argument passed to builtins.findFile")?;
    ForceItems::outcome(vm, list, [arguments[0], arguments[1], Value::Null], |_, kept| {
        let Value::List(length, start) = kept[0] else { unreachable!("checked before") };
        Ok(Outcome::Run(Box::new(FindFile {
            entries: slice(start, length),
            wanted: kept[1].as_bytes().unwrap_or_default(),
            next: 0,
            waiting: false,
        })))
    })
}

struct FindFile {
    entries: &'static [Value],
    wanted: &'static [u8],
    next: usize,
    /// The path of the entry before `next` is being turned into a string.
    waiting: bool,
}

impl FindFile {
    /// What of the name remains below an entry's prefix.
    fn suffix(&self, prefix: &[u8]) -> Option<&'static [u8]> {
        if prefix.is_empty() {
            return Some(self.wanted);
        }
        let rest = self.wanted.strip_prefix(prefix)?;
        match rest {
            [] => Some(rest),
            [b'/', rest @ ..] => Some(rest),
            _ => None,
        }
    }

    fn prefix(&self, vm: &mut Vm, entry: Value) -> Result<std::result::Result<&'static [u8], Value>> {
        let set =
            vm.want_attrs(entry, "while evaluating an element of the list passed to builtins.findFile")?;
        let Some(found) = set.get(vm.symbols.prefix) else { return Ok(Ok(b"")) };
        let prefix = found.value.get().peek();
        if !prefix.is_whnf() {
            return Ok(Err(prefix));
        }
        let context =
            "while evaluating the `prefix` attribute of an element of the list passed to builtins.findFile";
        Ok(Ok(vm.want_plain_string(prefix, context)?))
    }

    /// The file an entry gives for a suffix, if it is there.
    fn candidate(&self, vm: &mut Vm, directory: &[u8], suffix: &[u8]) -> Result<Option<Vec<u8>>> {
        if super::downloads::is_address(directory) {
            return self.fetched_candidate(vm, directory, suffix);
        }
        let base = vm.settings.working_directory.clone().unwrap_or_else(|| "/".into());
        let joined = if directory.starts_with(b"/") {
            [directory, b"/", suffix].concat()
        } else {
            [base.as_bytes(), b"/", directory, b"/", suffix].concat()
        };
        let path = canonical_path(&joined);
        Ok(vm.file_kind(&path).unwrap_or(None).is_some().then_some(path))
    }

    /// As [`FindFile::candidate`], of an entry that is an address. One that cannot be fetched is passed over.
    fn fetched_candidate(&self, vm: &mut Vm, address: &[u8], suffix: &[u8]) -> Result<Option<Vec<u8>>> {
        let address = String::from_utf8_lossy(address).into_owned();
        let folder = match vm.fetched_entries.get(&address) {
            Some(known) => known.clone(),
            None => {
                let found = vm.world.search_entry(&address).unwrap_or_else(|error| {
                    let message = format!(
                        "warning: Nix search path entry '{address}' cannot be downloaded, ignoring: {error}"
                    );
                    vm.world.message(&message);
                    None
                });
                vm.fetched_entries.insert(address, found.clone());
                found
            }
        };
        let Some(folder) = folder else { return Ok(None) };
        let path = canonical_path(&[folder.as_os_str().as_bytes(), b"/", suffix].concat());
        Ok(vm.file_kind(&path).unwrap_or(None).is_some().then_some(path))
    }

    fn not_found(&self, vm: &Vm) -> Box<EvalError> {
        let name = String::from_utf8_lossy(self.wanted);
        let message = if vm.settings.pure {
            format!("cannot look up '<{name}>' in pure evaluation mode (use '--impure' to override)")
        } else {
            format!("file '{name}' was not found in the Nix search path (add it using $NIX_PATH or -I)")
        };
        EvalError::new(ErrorKind::Throw, message).at(vm.here())
    }
}

impl Native for FindFile {
    fn trace(&self, tracer: &mut Tracer) {
        tracer.list(self.entries);
        tracer.bytes(self.wanted);
    }

    fn resume(&mut self, vm: &mut Vm, value: Value) -> Result<Step> {
        if std::mem::replace(&mut self.waiting, false) {
            let prefix = self.prefix(vm, self.entries[self.next - 1].peek())?.unwrap_or_default();
            let suffix = self.suffix(prefix).unwrap_or_default();
            let directory = value.as_bytes().unwrap_or_default().to_vec();
            let directory = vm.realised(value, directory)?;
            if let Some(path) = self.candidate(vm, &directory, suffix)? {
                return Ok(Step::Return(Value::path(&mut vm.heap, &path)));
            }
        }
        while let Some(entry) = self.entries.get(self.next) {
            let entry = entry.peek();
            let prefix = match self.prefix(vm, entry)? {
                Ok(prefix) => prefix,
                Err(wait) => return Ok(Step::Force(wait)),
            };
            self.next += 1;
            if self.suffix(prefix).is_none() {
                continue;
            }
            let set =
                vm.want_attrs(entry, "while evaluating an element of the list passed to builtins.findFile")?;
            let symbols = vm.symbols;
            let context = "in an element of the __nixPath";
            let path = vm.want_attribute(set, symbols.path, context)?.value.get();
            self.waiting = true;
            let context =
                "while evaluating the `path` attribute of an element of the list passed to builtins.findFile";
            return Ok(Step::Run(Box::new(Coerce::new(path, super::NAMING, context))));
        }
        if self.wanted == b"nix/fetchurl.nix" && !vm.settings.pure {
            return Ok(Step::Return(Value::path(&mut vm.heap, super::import::FETCHURL)));
        }
        Err(self.not_found(vm))
    }
}

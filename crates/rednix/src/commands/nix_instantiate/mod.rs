//! `rednix nix-instantiate`: the original's arguments, its output, its errors, its exit status.

mod arguments;
mod report;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rednix_eval::{EvalError, Evaluator, FoundDerivation, Handle, Origin};
use rednix_events::Event;

use crate::evaluation;
use crate::failure::Failure;
use crate::session::Session;
use crate::world::{Access, StoreWorld};
use arguments::{Argument, Output, Request};

const HELP: &str = "\
Usage: nix-instantiate [--eval | --parse] [OPTION...] [FILE...]

Evaluates Nix expressions, and prints the derivations they give, or with --eval their values.

  -E, --expr               take the arguments as expressions, not as files; a file `-` is standard input
  -A, --attr PATH          what to select
  --arg NAME EXPRESSION    an argument for functions; also --argstr, --arg-from-file, --arg-from-stdin
  -I, --include PATH       a place for <...>
  --eval, --parse          print values, or how the source is read
  --strict                 compute everything in the value
  --json, --xml, --raw     other forms of the value; --no-location leaves places out of XML
  --find-file              print where <...> lies
  --add-root PATH          keep the derivation from being collected
  --read-write-mode        let --eval write to the store
  --store STORE            local?root=DIR, a folder, or dummy://
  --show-trace             tell every step that led to an error
  --option NAME VALUE      a setting, as are --NAME VALUE, --NAME and --no-NAME
";

pub fn run(session: &mut Session, arguments: &[OsString]) -> Result<(), Failure> {
    // The original knows one exit status for every failure.
    work(session, arguments).map_err(report::plain)
}

fn work(session: &mut Session, arguments: &[OsString]) -> Result<(), Failure> {
    let request = Request::read(arguments)?;
    if request.version {
        return super::print(&format!("nix-instantiate (Nix) {}\n", rednix_eval::NIX_VERSION));
    }
    if request.help {
        return super::print(HELP);
    }
    for name in &request.unknown_settings {
        session.events().emit(Event::Notice { message: format!("warning: unknown setting '{name}'") });
    }
    // A signal ends the evaluation, not the program: what is temporary has to go.
    crate::interrupt::handle()?;
    let mut temporary = None;
    if let Some(store) = &request.store {
        let root = store_root(store, &mut temporary)?;
        session.use_store(&root);
    }
    let settings = request.settings(evaluation::settings());
    let access = match (request.pure, request.restricted) {
        (true, _) => Access::Pure,
        (false, true) => Access::Restricted,
        (false, false) => Access::All,
    };
    let (evaluator, world) = evaluation::evaluator_with(session, settings, access)?;
    let mut run = Run { session, evaluator, world, request: &request, out: Vec::new(), roots: 0 };
    let result = run.all();
    let out = run.out;
    session.view.finish();
    // What came before an error was printed by the original too.
    super::print_bytes(&out)?;
    result
}

/// One call of the program.
struct Run<'a> {
    session: &'a Session,
    evaluator: Evaluator,
    world: StoreWorld,
    request: &'a Request,
    out: Vec<u8>,
    /// Roots made so far.
    roots: u32,
}

/// Where an expression comes from.
#[derive(Clone, Copy)]
enum Input<'a> {
    Piped,
    Text(&'a str),
    File(&'a str),
}

impl Run<'_> {
    fn all(&mut self) -> Result<(), Failure> {
        let request = self.request;
        let given = self.arguments()?;
        if request.find_file {
            for name in &request.files {
                let found = self.evaluator.find_file(name);
                let path = self.explain(found)?;
                self.out.extend(path);
                self.out.push(b'\n');
            }
            return Ok(());
        }
        let mut inputs = Vec::new();
        if request.standard_input {
            inputs.push(Input::Piped);
        } else if request.files.is_empty() && !request.expression {
            inputs.push(Input::File("./default.nix"));
        }
        let kind = if request.expression { Input::Text } else { Input::File };
        inputs.extend(request.files.iter().map(|file| kind(file)));
        for input in inputs {
            if request.parse { self.parse(input)? } else { self.evaluate(input, &given)? }
        }
        Ok(())
    }

    fn evaluate(&mut self, input: Input<'_>, given: &[(String, Handle)]) -> Result<(), Failure> {
        let root = self.load(input)?;
        let root = self.evaluator.force(root);
        let root = self.explain(root)?;
        let whole = [String::new()];
        let attributes = &self.request.attributes;
        for attribute in if attributes.is_empty() { &whole } else { attributes.as_slice() } {
            let selected = self.evaluator.select_plain(root, attribute, given);
            let mut selected = self.explain(selected)?;
            if !self.request.eval {
                let found = self.evaluator.derivations(selected, given);
                for derivation in self.explain(found)? {
                    self.derivation(&derivation)?;
                }
                continue;
            }
            if !given.is_empty() {
                let called = self.evaluator.auto_call(selected, given);
                selected = self.explain(called)?;
            }
            self.value(selected)?;
        }
        Ok(self.world.flush()?)
    }

    fn value(&mut self, mut handle: Handle) -> Result<(), Failure> {
        let Request { strict, output, no_location, .. } = *self.request;
        if strict && output == Output::Nix {
            let forced = self.evaluator.force_deep(handle);
            handle = self.explain(forced)?;
        }
        let text = match output {
            Output::Raw => self.evaluator.to_text_for(handle, "while generating the nix-instantiate output"),
            Output::Json if !strict => self.evaluator.to_json_as_it_is(handle),
            Output::Json => self.evaluator.to_json(handle),
            Output::Xml => self.evaluator.to_xml(handle, strict, !no_location),
            Output::Nix => Ok(self.evaluator.show(handle)),
        };
        let text = self.explain(text)?;
        self.out.extend(text);
        if matches!(output, Output::Nix | Output::Json) {
            self.out.push(b'\n');
        }
        Ok(())
    }

    /// Prints a derivation's path, or the root that was made for it.
    fn derivation(&mut self, found: &FoundDerivation) -> Result<(), Failure> {
        let mut shown = found.derivation.to_string();
        match &self.request.root {
            None if self.roots == 0 => {
                self.roots = 1;
                let message = "warning: you did not specify '--add-root'; \
                    the result might be removed by the garbage collector";
                self.session.events().emit(Event::Notice { message: message.to_owned() });
            }
            None => {}
            Some(root) => {
                self.roots += 1;
                let mut link = std::path::absolute(root)?.into_os_string();
                if self.roots > 1 {
                    link.push(format!("-{}", self.roots));
                }
                self.world.flush()?;
                self.session.store()?.add_indirect_root(Path::new(&link), &found.derivation)?;
                shown = link.to_string_lossy().into_owned();
            }
        }
        if found.output != "out" {
            shown.push_str(&format!("!{}", found.output));
        }
        writeln!(self.out, "{shown}").expect("writing to memory");
        Ok(())
    }

    fn parse(&mut self, input: Input<'_>) -> Result<(), Failure> {
        let (origin, source, folder) = self.source(input)?;
        let text = self.evaluator.parse(origin, &source, folder.as_bytes());
        let text = self.explain(text)?;
        self.out.extend(text);
        self.out.push(b'\n');
        Ok(())
    }

    /// A source as text: standard input, an expression of the command line, or a file's contents.
    fn source(&mut self, input: Input<'_>) -> Result<(Origin, Vec<u8>, String), Failure> {
        let here = evaluation::working_directory();
        let file = match input {
            Input::Text(text) => return Ok((Origin::Text, text.as_bytes().to_vec(), here)),
            Input::Piped => {
                let mut source = Vec::new();
                std::io::stdin().read_to_end(&mut source)?;
                return Ok((Origin::StandardInput, source, here));
            }
            Input::File(file) => file,
        };
        let mut path = self.path(file)?;
        if path.is_dir() {
            path.push("default.nix");
        }
        let source = std::fs::read(&path).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                Failure::failed(format!("path '{}' does not exist", path.display()))
            }
            _ => Failure::failed(format!("cannot read '{}': {e}", path.display())),
        })?;
        let folder = path.parent().map(|p| p.to_string_lossy().into_owned()).unwrap_or(here);
        Ok((Origin::File(path.to_string_lossy().into_owned().into_bytes()), source, folder))
    }

    fn load(&mut self, input: Input<'_>) -> Result<Handle, Failure> {
        let result = match input {
            Input::File(file) => {
                let path = self.path(file)?;
                self.evaluator.file(path.to_string_lossy().as_bytes())
            }
            _ => {
                let (origin, source, folder) = self.source(input)?;
                self.evaluator.source(origin, &source, folder.as_bytes())
            }
        };
        self.explain(result)
    }

    /// What a file argument names: `<name>` is looked up.
    fn path(&mut self, file: &str) -> Result<PathBuf, Failure> {
        let Some(name) = file.strip_prefix('<').and_then(|rest| rest.strip_suffix('>')) else {
            return Ok(std::path::absolute(file)?);
        };
        let found = self.evaluator.find_file(name);
        let path = self.explain(found)?;
        Ok(PathBuf::from(String::from_utf8_lossy(&path).into_owned()))
    }

    fn arguments(&mut self) -> Result<Vec<(String, Handle)>, Failure> {
        let folder = evaluation::working_directory();
        let mut given = Vec::new();
        for (name, argument) in &self.request.arguments {
            let handle = match argument {
                Argument::Text(text) => self.evaluator.string(text.as_bytes()),
                Argument::Expression(text) => {
                    let value = self.evaluator.text(text.as_bytes(), folder.as_bytes());
                    self.explain(value)?
                }
                Argument::File(file) => {
                    let text = std::fs::read(file).map_err(|e| {
                        Failure::failed(format!("cannot read the argument '{name}' from '{file}': {e}"))
                    })?;
                    self.evaluator.string(&text)
                }
                Argument::StandardInput => {
                    let mut text = Vec::new();
                    std::io::stdin().read_to_end(&mut text)?;
                    self.evaluator.string(&text)
                }
            };
            given.push((name.clone(), handle));
        }
        Ok(given)
    }

    fn explain<T>(&self, result: Result<T, Box<EvalError>>) -> Result<T, Failure> {
        result.map_err(|error| report::failure(&self.evaluator, &error, self.request.show_trace))
    }
}

/// Evaluation that writes nothing still needs a place to be. It goes with the program; one that was killed leaves its
/// own to the next.
struct Dummy {
    folder: tempfile::TempDir,
    /// Locked as long as the program lives.
    _lock: std::fs::File,
}

impl Dummy {
    const PREFIX: &str = "rednix-dummy-";
    /// Younger ones may not be locked yet.
    const LEFT_AFTER: std::time::Duration = std::time::Duration::from_secs(60);

    fn new() -> std::io::Result<Dummy> {
        Dummy::remove_left(&std::env::temp_dir());
        let folder = tempfile::Builder::new().prefix(Dummy::PREFIX).tempdir()?;
        let lock = Dummy::lock(folder.path())?;
        Ok(Dummy { folder, _lock: lock })
    }

    fn lock(folder: &Path) -> std::io::Result<std::fs::File> {
        let file = std::fs::File::open(folder)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive)?;
        Ok(file)
    }

    /// What cannot be removed (somebody else's, say) stays.
    fn remove_left(parent: &Path) {
        let Ok(entries) = std::fs::read_dir(parent) else { return };
        for entry in entries.flatten() {
            let named = entry.file_name().to_string_lossy().starts_with(Dummy::PREFIX);
            let old = || {
                let metadata = entry.path().symlink_metadata().ok()?;
                Some(metadata.is_dir() && metadata.modified().ok()?.elapsed().ok()? > Dummy::LEFT_AFTER)
            };
            if named && old() == Some(true) && Dummy::lock(&entry.path()).is_ok() {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// `local?root=DIR`, a folder, or `dummy://`, which keeps nothing: its folder goes with `temporary`.
fn store_root(text: &str, temporary: &mut Option<Dummy>) -> Result<PathBuf, Failure> {
    if let Some(query) =
        text.strip_prefix("local").map(|r| r.trim_start_matches("://").trim_start_matches('?'))
    {
        let root = query.split('&').find_map(|pair| pair.strip_prefix("root="));
        return root.map(PathBuf::from).ok_or_else(|| {
            Failure::usage(format!(
                "`--store {text}`: only chroot stores are supported; write local?root=DIR"
            ))
        });
    }
    if text.starts_with("dummy") {
        let dummy = Dummy::new()?;
        let path = dummy.folder.path().to_path_buf();
        *temporary = Some(dummy);
        return Ok(path);
    }
    Ok(PathBuf::from(text))
}

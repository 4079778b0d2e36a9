//! `rednix nix-instantiate`: the original's arguments, its output, its exit status.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::PathBuf;

use rednix_eval::{Evaluator, Handle, Origin, SearchEntry, Settings};

use crate::evaluation::{self, explain};
use crate::failure::{EXIT_FAILED, Failure};
use crate::session::Session;
use crate::world::Access;

/// What the command line asks for.
#[derive(Default)]
struct Request {
    eval: bool,
    parse: bool,
    strict: bool,
    json: bool,
    xml: bool,
    raw: bool,
    no_location: bool,
    expression: bool,
    attributes: Vec<String>,
    /// `--arg` (an expression) or `--argstr` (its text), by name.
    arguments: Vec<(String, Argument)>,
    search_path: Vec<String>,
    files: Vec<String>,
    store: Option<String>,
    pure: bool,
    restricted: bool,
}

enum Argument {
    Expression(String),
    Text(String),
}

pub fn run(session: &mut Session, arguments: &[OsString]) -> Result<(), Failure> {
    // The original knows one exit status for every failure.
    work(session, arguments).map_err(|failure| Failure { status: EXIT_FAILED, ..failure })
}

fn work(session: &mut Session, arguments: &[OsString]) -> Result<(), Failure> {
    let mut request = read(session, arguments)?;
    if let Some(store) = &request.store {
        let root = store_root(store)?;
        session.use_store(&root);
    }
    let mut settings = evaluation::settings();
    let entries = request.search_path.iter().map(|e| SearchEntry::parse(e));
    settings.search_path = entries.chain(settings.search_path).collect();
    // Evaluation alone writes nothing to the store; asking for derivations does.
    settings.read_only = request.store.as_deref().is_some_and(|s| s.starts_with("dummy"));
    if request.files.is_empty() {
        request.files.push("./default.nix".to_owned());
    }
    if request.attributes.is_empty() {
        request.attributes.push(String::new());
    }
    if request.parse {
        return parse(session, settings, &request);
    }
    settings.pure = request.pure;
    let access = match (request.pure, request.restricted) {
        (true, _) => Access::Pure,
        (false, true) => Access::Restricted,
        (false, false) => Access::All,
    };
    let (mut evaluator, world) = evaluation::evaluator_with(session, settings, access)?;
    let given = given_arguments(session, &mut evaluator, &request)?;
    let mut out = Vec::new();
    for file in &request.files {
        let handle = load(session, &mut evaluator, &request, file)?;
        for attribute in &request.attributes {
            let selected = evaluator.select(handle, attribute, &given);
            let selected = explain(session, &evaluator, selected)?;
            if request.eval {
                write_value(session, &mut evaluator, &request, selected, &mut out)?;
            } else {
                let found = evaluator.derivations(selected, &given);
                for derivation in explain(session, &evaluator, found)? {
                    let output = if derivation.output == "out" {
                        String::new()
                    } else {
                        format!("!{}", derivation.output)
                    };
                    writeln!(out, "{}{output}", derivation.derivation).expect("writing to memory");
                }
            }
        }
    }
    world.flush()?;
    session.view.finish();
    super::print_bytes(&out)
}

fn write_value(
    session: &Session,
    evaluator: &mut Evaluator,
    request: &Request,
    mut handle: Handle,
    out: &mut Vec<u8>,
) -> Result<(), Failure> {
    if request.strict && !request.json && !request.xml {
        let forced = evaluator.force_deep(handle);
        handle = explain(session, evaluator, forced)?;
    }
    let text = if request.raw {
        evaluator.to_text(handle)
    } else if request.json {
        evaluator.to_json(handle)
    } else if request.xml {
        evaluator.to_xml(handle, request.strict, !request.no_location)
    } else {
        Ok(evaluator.show(handle))
    };
    out.extend(explain(session, evaluator, text)?);
    if !request.raw && !request.xml {
        out.push(b'\n');
    }
    Ok(())
}

fn parse(session: &Session, settings: Settings, request: &Request) -> Result<(), Failure> {
    let (mut evaluator, _) = evaluation::evaluator(session, settings)?;
    let mut out = Vec::new();
    for file in &request.files {
        let (origin, source, folder) = source_of(request, file)?;
        let text = evaluator.parse(origin, &source, folder.as_bytes());
        out.extend(explain(session, &evaluator, text)?);
        out.push(b'\n');
    }
    session.view.finish();
    super::print_bytes(&out)
}

/// A source that is text: standard input, an expression of the command line, or a file's contents.
fn source_of(request: &Request, file: &str) -> Result<(Origin, Vec<u8>, String), Failure> {
    let here = evaluation::working_directory();
    if request.expression {
        return Ok((Origin::Text, file.as_bytes().to_vec(), here));
    }
    if file == "-" {
        let mut source = Vec::new();
        std::io::stdin().read_to_end(&mut source)?;
        return Ok((Origin::StandardInput, source, here));
    }
    let path = std::path::absolute(file)?;
    let source = std::fs::read(&path).map_err(|e| Failure::failed(format!("cannot read `{file}`: {e}")))?;
    let folder = path.parent().map(|p| p.to_string_lossy().into_owned()).unwrap_or(here);
    Ok((Origin::File(path.to_string_lossy().into_owned().into_bytes()), source, folder))
}

fn load(
    session: &Session,
    evaluator: &mut Evaluator,
    request: &Request,
    file: &str,
) -> Result<Handle, Failure> {
    let result = if request.expression || file == "-" {
        let (origin, source, folder) = source_of(request, file)?;
        evaluator.source(origin, &source, folder.as_bytes())
    } else if let Some(name) = file.strip_prefix('<').and_then(|f| f.strip_suffix('>')) {
        let found = evaluator.find_file(name);
        let path = explain(session, evaluator, found)?;
        evaluator.file(&path)
    } else {
        let path = std::path::absolute(file)?;
        evaluator.file(path.to_string_lossy().as_bytes())
    };
    explain(session, evaluator, result)
}

fn given_arguments(
    session: &Session,
    evaluator: &mut Evaluator,
    request: &Request,
) -> Result<Vec<(String, Handle)>, Failure> {
    let folder = evaluation::working_directory();
    let mut given = Vec::new();
    for (name, argument) in &request.arguments {
        let handle = match argument {
            Argument::Text(text) => evaluator.string(text.as_bytes()),
            Argument::Expression(text) => {
                let value = evaluator.text(text.as_bytes(), folder.as_bytes());
                explain(session, evaluator, value)?
            }
        };
        given.push((name.clone(), handle));
    }
    Ok(given)
}

/// `local?root=DIR`, a folder, or `dummy://`, which keeps nothing.
fn store_root(text: &str) -> Result<PathBuf, Failure> {
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
        let folder = tempfile::Builder::new().prefix("rednix-dummy-").tempdir()?;
        // Evaluation that writes nothing still needs a place to be; it is empty.
        return Ok(folder.keep());
    }
    Ok(PathBuf::from(text))
}

fn read(session: &mut Session, arguments: &[OsString]) -> Result<Request, Failure> {
    let mut request = Request {
        store: std::env::var("NIX_REMOTE").ok().filter(|r| r.starts_with("dummy")),
        ..Request::default()
    };
    let mut words = arguments.iter().map(|a| a.to_string_lossy().into_owned());
    while let Some(word) = words.next() {
        let mut next = || words.next().ok_or_else(|| Failure::usage(format!("`{word}` needs an argument")));
        match word.as_str() {
            "--eval" | "--eval-only" => request.eval = true,
            "--parse" | "--parse-only" => request.parse = true,
            "--strict" => request.strict = true,
            "--json" => request.json = true,
            "--xml" => request.xml = true,
            "--raw" => request.raw = true,
            "--no-location" => request.no_location = true,
            "--read-write-mode" | "--readonly-mode" | "--quiet" | "--indirect" | "--impure" | "-v" => {}
            "--show-trace" => session.global.show_trace = true,
            "-E" | "--expr" => request.expression = true,
            "-A" | "--attr" => request.attributes.push(next()?),
            "-I" => request.search_path.push(next()?),
            "--store" => request.store = Some(next()?),
            "--add-root" | "--extra-experimental-features" | "--experimental-features" => drop(next()?),
            "--pure-eval" => request.pure = true,
            "--restrict-eval" => request.restricted = true,
            "--option" => match (next()?.as_str(), next()?.as_str()) {
                ("pure-eval", value) => request.pure = value == "true",
                ("restrict-eval", value) => request.restricted = value == "true",
                _ => {}
            },
            "--arg" => {
                let name = next()?;
                request.arguments.push((name, Argument::Expression(next()?)));
            }
            "--argstr" => {
                let name = next()?;
                request.arguments.push((name, Argument::Text(next()?)));
            }
            "--version" => {
                super::print("nix-instantiate (Nix) 2.34.8\n")?;
                std::process::exit(0);
            }
            other if other.starts_with("-I") => request.search_path.push(other[2..].to_owned()),
            other if other.starts_with('-') && other != "-" => {
                return Err(Failure::usage(format!(
                    "`nix-instantiate` does not know the option `{other}` here"
                )));
            }
            _ => request.files.push(word),
        }
    }
    Ok(request)
}

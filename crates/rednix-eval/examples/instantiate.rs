//! A small `nix-instantiate` for trying the evaluator: reads the file system, names store paths, writes nothing.

#[path = "support/read_only.rs"]
mod read_only;

use read_only::ReadOnlyWorld;
use rednix_eval::*;
use std::io::{Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

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
            "--collect-always" => settings.collect_always = true,
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
    let world = Box::new(ReadOnlyWorld::default());
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

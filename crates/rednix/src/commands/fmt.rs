//! `rednix fmt`: Nix files laid out in the official style. Writes only files that change, and only whole.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use rednix_syntax::SyntaxError;
use rednix_syntax::format::format;

use crate::cli::FmtArgs;
use crate::failure::{EXIT_FAILED, EXIT_USAGE, Failure};

/// Folders below a folder that is given, at most.
const DEPTH_MAX: usize = 64;

pub fn run(arguments: &FmtArgs) -> Result<(), Failure> {
    if arguments.files.iter().any(|file| file.as_os_str() == "-") {
        return standard_input(arguments);
    }
    let here = [PathBuf::from(".")];
    let given = if arguments.files.is_empty() { &here[..] } else { &arguments.files };
    let mut files = Vec::new();
    for path in given {
        collect(path, true, 0, &mut files)?;
    }
    let (mut changed, mut broken) = (Vec::new(), Vec::new());
    for file in &files {
        match one(file, arguments.check) {
            Ok(true) => changed.push(file),
            Ok(false) => {}
            Err(failure) => broken.push(failure.message),
        }
    }
    let lines: String = changed.iter().map(|file| format!("{}\n", file.display())).collect();
    super::print(&lines)?;
    if !broken.is_empty() {
        return Err(Failure { status: EXIT_USAGE, ..Failure::failed(broken.join("\nerror: ")) });
    }
    if arguments.check && !changed.is_empty() {
        let count = crate::view::count(changed.len() as u64, "file");
        let failure = Failure::failed(format!("{count} would be laid out anew"));
        return Err(Failure { status: EXIT_FAILED, ..failure }.hint("`rednix fmt` does it"));
    }
    Ok(())
}

fn standard_input(arguments: &FmtArgs) -> Result<(), Failure> {
    let mut source = Vec::new();
    std::io::stdin().read_to_end(&mut source)?;
    let text = format(&source).map_err(|errors| unreadable("standard input", &source, &errors))?;
    if !arguments.check {
        return super::print(&text);
    }
    if text.as_bytes() == source {
        Ok(())
    } else {
        Err(Failure::failed("standard input would be laid out anew"))
    }
}

/// Nix files at or below a path; hidden folders and what builds leave behind are passed over.
fn collect(path: &Path, given: bool, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let failed = |e: std::io::Error| Failure::usage(format!("cannot read `{}`: {e}", path.display()));
    let kind = if given { path.metadata() } else { path.symlink_metadata() }.map_err(failed)?;
    if kind.is_file() && (given || path.extension().is_some_and(|extension| extension == "nix")) {
        files.push(path.to_path_buf());
    }
    if !kind.is_dir() || depth >= DEPTH_MAX {
        return Ok(());
    }
    let mut entries =
        std::fs::read_dir(path).map_err(failed)?.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name();
        let hidden = name.to_string_lossy().starts_with('.');
        if !hidden && name != "target" {
            collect(&entry.path(), false, depth + 1, files)?;
        }
    }
    Ok(())
}

/// Lays one file out; whether it changed, or would.
fn one(file: &Path, check: bool) -> Result<bool, Failure> {
    let name = file.display().to_string();
    let source = std::fs::read(file).map_err(|e| Failure::usage(format!("cannot read `{name}`: {e}")))?;
    let text = format(&source).map_err(|errors| unreadable(&name, &source, &errors))?;
    if text.as_bytes() == source {
        return Ok(false);
    }
    if !check {
        write(file, text.as_bytes())
            .map_err(|e| Failure::failed(format!("cannot write `{name}`: {e}; it is as it was")))?;
    }
    Ok(true)
}

/// Puts a new file in the old one's place, with its permissions. A link stays one: what it names is replaced.
fn write(file: &Path, contents: &[u8]) -> std::io::Result<()> {
    let file = std::fs::canonicalize(file)?;
    let folder = file.parent().unwrap_or(Path::new("."));
    let mut new = tempfile::Builder::new().prefix(".rednix-fmt-").tempfile_in(folder)?;
    new.write_all(contents)?;
    new.as_file().set_permissions(file.metadata()?.permissions())?;
    new.persist(&file)?;
    Ok(())
}

fn unreadable(name: &str, source: &[u8], errors: &[SyntaxError]) -> Failure {
    let error = &errors[0];
    let before = &source[..(error.span.start as usize).min(source.len())];
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
    Failure::usage(format!("{name}:{line}:{column}: {}; the file is as it was", error.message))
}

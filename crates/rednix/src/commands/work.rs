//! `rednix work`: a recipe's source in a folder to work in, and back. What is built from it is another room's affair.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rednix_events::Event;
use rednix_store::handle::Dir;
use serde_json::Value;

use crate::cli::WorkArgs;
use crate::evaluation::{self, Target};
use crate::failure::Failure;
use crate::project::{Project, quote};
use crate::relock;
use crate::session::Session;
use crate::view::count;
use crate::working::{Entry, State};

use super::{print, print_bytes};

pub fn run(session: &Session, arguments: &WorkArgs) -> Result<(), Failure> {
    let project = Project::find_without_work(&session.config, &arguments.tree)?;
    let state = State::read(&session.config, &project)?;
    let Some(recipe) = &arguments.recipe else { return list(session, &state) };
    if arguments.diff {
        let known = known(&state, recipe)?;
        session.view.finish();
        return diff(session, recipe, known);
    }
    if arguments.clean || arguments.done {
        return end(session, state, recipe, arguments.done);
    }
    begin(session, &project, state, recipe, arguments)
}

fn known<'s>(state: &'s State, recipe: &str) -> Result<&'s Entry, Failure> {
    state.copies.get(recipe).ok_or_else(|| {
        let names: Vec<&str> = state.copies.keys().map(String::as_str).collect();
        let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Failure::usage(format!("there is no working copy of `{recipe}`; there are: {there}"))
            .hint(format!("`rednix work {recipe}` makes one"))
    })
}

fn list(session: &Session, state: &State) -> Result<(), Failure> {
    session.view.finish();
    let mut text = String::new();
    for (recipe, entry) in &state.copies {
        let changed = match &entry.base {
            _ if !entry.folder.is_dir() => "gone".to_owned(),
            None => "of your own".to_owned(),
            Some(base) => {
                let names = git_diff(session, &entry.folder, base, &["--name-only"])?;
                let files = names.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count() as u64;
                format!("{} changed", count(files, "file"))
            }
        };
        text.push_str(&format!("{recipe}  {}  {changed}\n", entry.folder.display()));
    }
    if state.copies.is_empty() {
        text.push_str("no working copies of this tree's recipes\n");
    }
    print(&text)
}

fn begin(
    session: &Session,
    project: &Project,
    mut state: State,
    name: &str,
    arguments: &WorkArgs,
) -> Result<(), Failure> {
    let quoted = quote(name);
    let owner =
        evaluation::json(session, &Target::attribute(project, &format!("cookbook.workable {quoted}")))?;
    let Value::String(recipe) = owner else {
        return Err(Failure::failed(format!("the library does not say whose source `{name}` uses")));
    };
    if recipe != name {
        let message = format!("`{name}` uses the source of `{recipe}`; that is worked on");
        session.events().emit(Event::Notice { message });
    }
    if let Some(entry) = state.copies.get(&recipe) {
        let hint = format!("`rednix work --done {recipe}` ends it");
        let place = entry.folder.display();
        return Err(Failure::usage(format!("`{recipe}` is worked on already, in `{place}`")).hint(hint));
    }
    let here = PathBuf::from(evaluation::working_directory());
    let folder = here.join(arguments.dir.clone().unwrap_or_else(|| Path::new("work").join(&recipe)));
    let folder: PathBuf = folder.components().collect();
    let mut kept = folder.clone().into_os_string();
    kept.push(".build");
    let base = if arguments.existing {
        if !folder.is_dir() {
            return Err(Failure::usage(format!("there is no folder `{}`", folder.display())));
        }
        None
    } else {
        Some(fill(session, project, &recipe, &folder)?)
    };
    let entry = Entry { folder: folder.clone(), kept: kept.into(), base, generation: generation() };
    state.copies.insert(recipe, entry);
    state.write(&session.config)?;
    session.view.finish();
    print(&format!("{}\n", folder.display()))
}

/// Another number for every copy that ever was: what was built of one is never taken for what another would give.
fn generation() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |time| time.as_millis() as u64)
}

/// Puts the prepared source there and commits it; gives the commit.
fn fill(session: &Session, project: &Project, recipe: &str, folder: &Path) -> Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::failed(format!("cannot make `{}`: {e}", folder.display()));
    let is_there = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
        entries => entries.map_err(failed)?.next().is_some(),
    };
    if is_there {
        return Err(Failure::usage(format!("`{}` is not empty", folder.display()))
            .hint("name another folder with `--dir`, or work in this one as it is with `--existing`"));
    }
    let target =
        |project: &Project| Target::attribute(project, &format!("cookbook.prepared {}", quote(recipe)));
    let paths = relock::building(session, project.clone(), false, |project| {
        session.build(&evaluation::wanted(session, &[target(project)])?)
    })?;
    // Not before there is something to put into it: what is refused leaves nothing.
    std::fs::create_dir_all(folder).map_err(failed)?;
    copy_writable(&session.store()?.real_path(&paths[0]), folder).map_err(failed)?;
    git(session, folder, &["init", "--quiet"], &[])?;
    // Also what the source's own list says to ignore: a change of it is a change.
    git(session, folder, &["add", "--all", "--force", "."], &[])?;
    let message = format!("The source of {recipe} as its recipe prepares it");
    git(session, folder, &["commit", "--quiet", "--no-verify", "--allow-empty", "-m", &message], &[])?;
    let commit = git(session, folder, &["rev-parse", "HEAD"], &[])?;
    Ok(String::from_utf8_lossy(&commit).trim().to_owned())
}

/// Copies what the store holds, so that its owner may change it.
fn copy_writable(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let metadata = entry.metadata()?;
        if metadata.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(&source)?, &target)?;
        } else if metadata.is_dir() {
            std::fs::create_dir(&target)?;
            copy_writable(&source, &target)?;
        } else {
            std::io::copy(&mut std::fs::File::open(&source)?, &mut std::fs::File::create(&target)?)?;
            if metadata.permissions().mode() & 0o100 != 0 {
                std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o755))?;
            }
        }
    }
    Ok(())
}

fn diff(session: &Session, recipe: &str, entry: &Entry) -> Result<(), Failure> {
    let Some(base) = &entry.base else {
        return Err(Failure::usage(format!(
            "the folder of `{recipe}` was there before: what it began with is not known"
        ))
        .hint("ask git there"));
    };
    let patch = git_diff(session, &entry.folder, base, &[])?;
    if patch.split(|byte| *byte == b'\n').any(|line| line.starts_with(b"Binary files ")) {
        let message = "a binary file changed; a recipe's patch cannot hold that".to_owned();
        session.events().emit(Event::Warning { message });
    }
    print_bytes(&patch)
}

/// The folder against the commit, new files included, by an index of our own: the user's stays as it is.
fn git_diff(session: &Session, folder: &Path, base: &str, more: &[&str]) -> Result<Vec<u8>, Failure> {
    let scratch = tempfile::tempdir()?;
    let index = [("GIT_INDEX_FILE", scratch.path().join("index"))];
    git(session, folder, &["read-tree", base], &index)?;
    git(session, folder, &["add", "--all", "."], &index)?;
    let fixed = [
        "diff",
        "--cached",
        "--no-color",
        "--no-ext-diff",
        "--no-renames",
        "--src-prefix=a/",
        "--dst-prefix=b/",
    ];
    let arguments: Vec<&str> = fixed.iter().chain(more).copied().chain([base, "--"]).collect();
    git(session, folder, &arguments, &index)
}

/// Runs git in the folder, with nothing of the user's settings that could change what it stores or prints.
fn git(
    session: &Session,
    folder: &Path,
    arguments: &[&str],
    variables: &[(&str, PathBuf)],
) -> Result<Vec<u8>, Failure> {
    let program = session.config.find_program("git").ok_or_else(|| {
        Failure::failed("git is not installed")
            .hint("working copies are git repositories; `rednix doctor` says more")
    })?;
    let settings = [
        "user.name=rednix",
        "user.email=rednix@localhost",
        "commit.gpgSign=false",
        "core.autocrlf=false",
        "core.hooksPath=/dev/null",
        "core.excludesFile=/dev/null",
        "core.safecrlf=false",
        "gc.auto=0",
        "init.defaultBranch=main",
    ];
    let mut command = Command::new(program);
    for setting in settings {
        command.args(["-c", setting]);
    }
    for inherited in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_CONFIG"] {
        command.env_remove(inherited);
    }
    let output = command
        .args(arguments)
        .current_dir(folder)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .output()
        .map_err(|e| Failure::failed(format!("cannot run git in `{}`: {e}", folder.display())))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Failure::failed(format!("git {} failed in `{}`", arguments[0], folder.display()))
        .details(String::from_utf8_lossy(&output.stderr)))
}

/// Throws away what is kept of builds, and with `done` forgets the copy.
fn end(session: &Session, mut state: State, recipe: &str, done: bool) -> Result<(), Failure> {
    let entry = known(&state, recipe)?.clone();
    if let (Some(parent), Some(name)) = (entry.kept.parent(), entry.kept.file_name())
        && entry.kept.is_dir()
    {
        Dir::open(parent)?.remove_tree(name)?;
    }
    if done {
        state.copies.remove(recipe);
    } else if let Some(entry) = state.copies.get_mut(recipe) {
        entry.generation = generation();
    }
    state.write(&session.config)?;
    let (folder, verb) =
        (entry.folder.display(), if done { "`{}` is built from its own source again; " } else { "" });
    let message = format!("{}your folder stays: {folder}", verb.replace("{}", recipe));
    session.events().emit(Event::Notice { message });
    Ok(())
}

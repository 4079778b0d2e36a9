//! Running the binary and looking at what it did.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// The program under test.
pub fn rednix() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_rednix"))
}

/// The checkout the tests belong to.
pub fn checkout() -> PathBuf {
    std::fs::canonicalize(Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")).expect("the checkout is there")
}

/// An empty folder that goes away with the value.
pub fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("rednix-test-").tempdir().expect("a temporary folder can be made")
}

/// What one run of the program gave.
pub struct Run {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Run {
    fn from(output: Output) -> Run {
        Run {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Run {
    /// Exit status and everything that must stand in standard error.
    pub fn expect(&self, status: i32, in_stderr: &[&str]) -> Result<&Run, String> {
        if self.status != Some(status) {
            return Err(format!("exit status {:?}, not {status}\n{}", self.status, self.all()));
        }
        for text in in_stderr {
            if !self.stderr.contains(text) {
                return Err(format!("standard error has no `{text}`\n{}", self.all()));
            }
        }
        Ok(self)
    }

    fn all(&self) -> String {
        format!("--- stdout\n{}--- stderr\n{}", self.stdout, self.stderr)
    }
}

/// A call of the program from the checkout, plain output, nothing on standard input.
pub fn call(arguments: &[&str]) -> Command {
    let mut command = Command::new(rednix());
    command
        .args(["--log-format", "plain"])
        .args(arguments)
        .current_dir(checkout())
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

pub fn run(command: &mut Command) -> Run {
    command.output().expect("the program can be started").into()
}

/// Writes a file and the folders above it.
pub fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("folders can be made");
    std::fs::write(path, text).expect("the file can be written");
}

/// Writes a script that can be started. Another process does it: what this one has open for writing, a program that
/// another test is just starting has open too, and the kernel executes no such file.
pub fn write_program(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("folders can be made");
    let mut writer = Command::new("install")
        .args(["-m", "755", "/dev/stdin"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("`install` can be started");
    let mut input = writer.stdin.take().expect("it is piped");
    std::io::Write::write_all(&mut input, text.as_bytes()).expect("it reads");
    drop(input);
    assert!(writer.wait().expect("it ends").success(), "`install` cannot write {}", path.display());
}

/// A recipe tree of one recipe, and one system `s` that has it.
pub fn tree_with(recipe: &str) -> tempfile::TempDir {
    let tree = scratch();
    write(&tree.path().join("recipes/one/recipe.toml"), recipe);
    write(&tree.path().join("config/s.toml"), "[general]\nfilesystem_size = 40\n[packages]\none = {}\n");
    tree
}

/// The store must be right whatever was tried on it.
pub fn verify(store: &Path) -> Result<(), String> {
    let run = run(call(&["verify", "--check-contents", "--store"]).arg(store));
    run.expect(0, &[]).map_err(|e| format!("after the failure the store does not verify: {e}"))?;
    match crate::peer::tool("nix-store") {
        None => Ok(()),
        Some(mut peer) => {
            let output = peer
                .args(["--store", &format!("local?root={}", store.display()), "--verify", "--check-contents"])
                .output()
                .map_err(|e| format!("the peer's nix-store: {e}"))?;
            if output.status.success() {
                Ok(())
            } else {
                Err(format!("the peer's --verify fails: {}", String::from_utf8_lossy(&output.stderr)))
            }
        }
    }
}

/// A derivation of one bash script in the smallest root, as an expression for `rednix build --expr`.
pub fn bash_expression(name: &str, script: &str) -> String {
    let file = scratch_script(script);
    format!(
        "let l = import {}/nix {{ }}; in l.derive.bashBuild {{ name = \"{name}\"; root = l.debian.root \"base\"; script = builtins.toFile \"script\" (builtins.readFile {}); }}",
        checkout().display(),
        file.display()
    )
}

/// Leaves the file in the system's temporary folder: it is read when the program evaluates.
fn scratch_script(script: &str) -> PathBuf {
    let file =
        tempfile::Builder::new().prefix("rednix-test-").suffix(".sh").tempfile().expect("a file can be made");
    std::fs::write(file.path(), script).expect("the file can be written");
    let (_, path) = file.keep().expect("the file can be kept");
    path
}

/// Something by which the processes of one test are told from all others of this machine.
pub fn mark(name: &str) -> String {
    use std::hash::{BuildHasher, Hasher};
    format!("rednix-{name}-{:016x}", std::hash::RandomState::new().build_hasher().finish())
}

/// Processes of this machine whose first argument begins with `name`.
pub fn processes_called(name: &str) -> usize {
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            std::fs::read(entry.path().join("cmdline")).is_ok_and(|line| line.starts_with(name.as_bytes()))
        })
        .count()
}

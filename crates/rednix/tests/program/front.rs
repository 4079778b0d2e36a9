//! nix-instantiate's front beside the original: standard output and exit status of each call in `front/cases.json` are
//! the same, and what the last error or warning says. Traces differ and are not compared.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::Outcome;
use crate::support::{Run, checkout, rednix, scratch, write};

pub const TESTS: [(&str, fn() -> Outcome); 1] = [("front_as_the_peer", as_the_peer)];

fn as_the_peer() -> Outcome {
    crate::peer::instantiate()?;
    let file = checkout().join("crates/rednix/tests/program/front/cases.json");
    let text = std::fs::read_to_string(&file).map_err(|error| error.to_string())?;
    let cases: Vec<Vec<String>> = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let (folder, ours, theirs) = (scratch(), scratch(), scratch());
    prepare(folder.path());
    let mut wrong = Vec::new();
    for case in &cases {
        let mut peer = crate::peer::instantiate()?;
        let peer = call(peer.args(case), folder.path(), theirs.path());
        let mut own = Command::new(rednix());
        let own = call(own.arg("nix-instantiate").args(case), folder.path(), ours.path());
        let (said, wanted) = (last_message(&own.stderr), last_message(&peer.stderr));
        if (own.status, &own.stdout, &said) != (peer.status, &peer.stdout, &wanted) {
            let shown = |run: &Run| format!("status {:?}\n{}{}", run.status, run.stdout, run.stderr);
            wrong.push(format!("{case:?}\n--- wanted {}--- got {}", shown(&peer), shown(&own)));
        }
    }
    if wrong.is_empty() { Ok(None) } else { Err(format!("{} differ\n{}", wrong.len(), wrong.join("\n"))) }
}

fn call(command: &mut Command, folder: &Path, store: &Path) -> Run {
    for root in ["rt", "rt2", "rt2-2"] {
        let _ = std::fs::remove_file(folder.join(root));
    }
    let mut child = command
        .arg("--store")
        .arg(format!("local?root={}", store.display()))
        .current_dir(folder)
        .env("NIX_CONFIG", "build-users-group =\nsubstituters =\nexperimental-features = nix-command flakes")
        .env("HOME", folder)
        .env("NO_COLOR", "1")
        .env_remove("NIX_PATH")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program can be started");
    let mut stdin = child.stdin.take().expect("it is piped");
    // Not every call reads it.
    let _ = std::io::Write::write_all(&mut stdin, b"1 + 1");
    drop(stdin);
    child.wait_with_output().expect("the program ends").into()
}

/// The last line that says what was wrong.
fn last_message(text: &str) -> Option<String> {
    let tells = |line: &&str| line.contains("error:") || line.contains("warning:");
    text.lines().rev().find(tells).map(|line| line.trim().to_owned())
}

fn prepare(folder: &Path) {
    let default = r#"{ a ? 1, b ? "x" }:
let
  drv = name: more: derivation ({ inherit name; system = "s"; builder = "/b"; } // more);
in
{
  inherit a b;
  c = { d = [ 1 { e = a; } ]; };
  f = x: x;
  drv = drv "n" { };
  set = { recurseForDerivations = true; y = drv "y" { outputs = [ "bin" "out" ]; }; };
  hidden.z = drv "z" { };
}
"#;
    write(&folder.join("default.nix"), default);
    write(&folder.join("sub/x.nix"), "{ v = ./x.nix; w = toString ./.; s = \"${./x.nix}\"; }\n");
    write(&folder.join("bad.nix"), "{ a = 1 +; }\n");
    write(&folder.join("arg.txt"), "hello\n");
}

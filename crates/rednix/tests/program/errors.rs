//! Errors as the user reads them: each file of `errors/` is evaluated, and what is written on standard error lies
//! beside it. `REDNIX_UPDATE=1` writes the expectations anew; the difference is then for git to show.

use std::path::Path;

use crate::Outcome;
use crate::support::{call, checkout, run, scratch};

pub const TESTS: [(&str, fn() -> Outcome); 2] =
    [("errors_as_the_user_reads_them", snapshots), ("depth_is_an_error", depth_is_an_error)];

fn snapshots() -> Outcome {
    let folder = checkout().join("crates/rednix/tests/program/errors");
    let store = scratch();
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .map_err(|error| error.to_string())?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".nix"))
        .collect();
    names.sort();
    let mut wrong = Vec::new();
    for name in &names {
        let mut command = call(&["eval", "--store"]);
        let got = run(command.arg(store.path()).arg(name).current_dir(&folder));
        let text = format!("{}exit status {}\n", got.stderr, got.status.unwrap_or(-1));
        // Paths of this machine are none of the expectation's.
        let text = text.replace(&*folder.to_string_lossy(), "FOLDER");
        if let Some(difference) = compare(&folder.join(name).with_extension("txt"), &text) {
            wrong.push(format!("{name}:\n{difference}"));
        }
    }
    if names.len() < 10 {
        return Err(format!("only {} cases in {}", names.len(), folder.display()));
    }
    if wrong.is_empty() { Ok(None) } else { Err(wrong.join("\n")) }
}

fn compare(file: &Path, got: &str) -> Option<String> {
    if std::env::var_os("REDNIX_UPDATE").is_some() {
        std::fs::write(file, got).expect("the expectation can be written");
        return None;
    }
    let expected = std::fs::read_to_string(file).unwrap_or_default();
    (expected != got).then(|| format!("--- expected\n{expected}--- got\n{got}"))
}

/// Whatever is deep ends in an error or a value, within a normal stack, never in a crash.
fn depth_is_an_error() -> Outcome {
    let store = scratch();
    let nested = |open: &str, middle: &str, close: &str, count: usize| {
        format!("{}{middle}{}", open.repeat(count), close.repeat(count))
    };
    let grown = |step: &str, start: &str| {
        format!("builtins.foldl' (x: _: {step}) {start} (builtins.genList (x: x) 300000)")
    };
    let cases = [
        nested("(", "1", ")", 200_000),
        nested("[", "1", "]", 200_000),
        nested("{a=", "1", ";}", 200_000),
        nested("x: ", "1", "", 200_000),
        nested("-", "1", "", 200_000),
        nested("!", "true", "", 200_000),
        nested("\"${", "1", "}\"", 100_000),
        nested("if true then ", "1", " else 2", 100_000),
        nested("let a = ", "1", "; in a", 100_000),
        nested("with {}; ", "1", "", 100_000),
        nested("1 + ", "1", "", 100_000),
        nested("a.", "b", "", 100_000),
        format!("{{ {} = 1; }}", vec!["a"; 100_000].join(".")),
        nested("[] ++ ", "[]", "", 100_000),
        nested("{} // ", "{}", "", 100_000),
        grown("[ x ]", "[ ]"),
        grown("{ a = x; }", "{ }"),
        grown("{ a = x; }", "{ }") + " == " + &grown("{ a = x; }", "{ }"),
        grown("{ a = 1; } // x", "{ }"),
        format!("builtins.toJSON ({})", grown("[ x ]", "[ ]")),
        format!("builtins.toXML ({})", grown("[ x ]", "[ ]")),
        format!("toString ({})", grown("[ x ]", "[ ]")),
        format!("builtins.deepSeq ({}) 1", grown("[ x ]", "[ ]")),
        format!("({}) < ({})", grown("[ x ]", "[ ]"), grown("[ x ]", "[ ]")),
        format!("builtins.fromJSON \"{}\"", nested("[", "", "]", 100_000)),
        format!("builtins.fromTOML \"a = {}\"", nested("[", "", "]", 100_000)),
        format!("builtins.match \"{}\" \"a\"", nested("(", "a", ")", 20_000)),
        "let f = n: f (n + 1); in f 0".to_owned(),
        "let f = n: 1 + f (n + 1); in f 0".to_owned(),
        "builtins.foldl (a: b: a + b) 0 [ ]".to_owned(),
        "let x = { y = x; }; in builtins.toJSON x".to_owned(),
    ];
    let folder = scratch();
    let file = folder.path().join("deep.nix");
    for (index, source) in cases.iter().enumerate() {
        std::fs::write(&file, source).map_err(|error| error.to_string())?;
        let got = run(call(&["eval", "--json", "--store"]).arg(store.path()).arg(&file));
        let fine =
            matches!(got.status, Some(0 | 2)) && (got.status == Some(0) || got.stderr.contains("error:"));
        if !fine {
            let start: String = source.chars().take(60).collect();
            return Err(format!("case {index} (`{start}`): exit status {:?}\n{}", got.status, got.stderr));
        }
    }
    Ok(None)
}

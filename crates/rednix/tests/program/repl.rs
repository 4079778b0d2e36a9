//! The repl from a pipe: values, bindings, commands, and going on after errors.

use std::io::Write;
use std::process::Stdio;

use crate::Outcome;
use crate::support::{Run, call, scratch, write};

pub const TESTS: [(&str, fn() -> Outcome); 3] = [
    ("repl_answers", answers),
    ("repl_goes_on_after_errors", goes_on_after_errors),
    ("repl_reads_files_again", reads_files_again),
];

fn converse(folder: &std::path::Path, input: &str) -> Result<Run, String> {
    let store = scratch();
    let mut child = call(&["repl", "--store"])
        .arg(store.path())
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).map_err(|error| error.to_string())?;
    drop(stdin);
    Ok(child.wait_with_output().map_err(|error| error.to_string())?.into())
}

fn answers() -> Outcome {
    let cases = [
        ("1 + 1", "2"),
        ("x = 3\nx * x", "9"),
        ("x = 3\nx = x + 1\nx", "4"),
        ("{\n  a = 1;\n}", "{ a = 1; }"),
        ("{ a = { b = [ 1 ]; }; c = throw \"no\"; }", "{ a = { ... }; c = «error: no»; }"),
        (":p { a = { b = [ 1 ]; }; }", "{ a = { b = [ 1 ]; }; }"),
        (":t [ 1 ]", "a list"),
        (":a { y = 5; }\ny", "5"),
        (":doc builtins.head", "builtins.head list\n\nThe first element."),
        ("f = /** Twice. */ x: x * 2\nf 4", "8"),
        ("''\n  a\n''", "\"a\\n\""),
        ("# nothing\n\n7", "7"),
        (":q\n1", ""),
    ];
    let folder = scratch();
    for (input, expected) in cases {
        let got = converse(folder.path(), &format!("{input}\n"))?;
        if got.status != Some(0) || got.stdout.trim_end() != expected {
            return Err(format!("{input}:\nwanted {expected}\ngot    {}\n{}", got.stdout, got.stderr));
        }
    }
    Ok(None)
}

fn goes_on_after_errors() -> Outcome {
    let folder = scratch();
    let got = converse(
        folder.path(),
        "nothing\n:nope\n:l none.nix\n:t\n1 + \"a\"\nlet f = n: 1 + f n; in f 0\n1 )\n42\n",
    )?;
    got.expect(
        0,
        &[
            "undefined variable 'nothing'",
            "no command `:nope`",
            "none.nix",
            "needs an argument",
            "stack overflow",
        ],
    )?;
    if got.stdout != "42\n" {
        return Err(format!("standard output is {:?}\n{}", got.stdout, got.stderr));
    }
    Ok(None)
}

fn reads_files_again() -> Outcome {
    let folder = scratch();
    write(&folder.path().join("a.nix"), "{ first = 1; f = { x ? 2 }: x; }");
    let got = converse(folder.path(), ":l a.nix\nfirst\nf { }\n:r\nfirst\n")?;
    got.expect(0, &["2 variables added"])?;
    if got.stdout != "1\n2\n1\n" {
        return Err(format!("standard output is {:?}\n{}", got.stdout, got.stderr));
    }
    Ok(None)
}

//! `rednix fmt`: what changes, what stays, and what is refused.

use std::path::Path;

use crate::Outcome;
use crate::support::{call, checkout, run, scratch, write};

pub const TESTS: [(&str, fn() -> Outcome); 2] =
    [("fmt_changes_files", changes_files), ("fmt_lays_out_as_expected", lays_out_as_expected)];

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("the file is there")
}

fn changes_files() -> Outcome {
    let folder = scratch();
    let at = |name: &str| folder.path().join(name);
    write(&at("a.nix"), "{a=1;b=2;}");
    write(&at("sub/b.nix"), "{\n  a = 1;\n}\n");
    write(&at(".hidden/c.nix"), "{a=1;}");
    write(&at("d.txt"), "{a=1;}");
    let fmt = |arguments: &[&str]| run(call(&["fmt"]).args(arguments).current_dir(folder.path()));
    let check = fmt(&["--check"]);
    check.expect(1, &["1 file would be laid out anew"])?;
    if check.stdout != "./a.nix\n" || read(&at("a.nix")) != "{a=1;b=2;}" {
        return Err(format!("--check printed {:?}, or changed the file", check.stdout));
    }
    fmt(&[]).expect(0, &[])?;
    if read(&at("a.nix")) != "{\n  a = 1;\n  b = 2;\n}\n" || read(&at(".hidden/c.nix")) != "{a=1;}" {
        return Err(format!("a.nix is {:?}", read(&at("a.nix"))));
    }
    fmt(&["--check"]).expect(0, &[])?;
    write(&at("bad.nix"), "{ a = 1 +; }");
    fmt(&["bad.nix", "a.nix"]).expect(2, &["bad.nix:1:10: syntax error, unexpected ';'", "as it was"])?;
    if read(&at("bad.nix")) != "{ a = 1 +; }" {
        return Err("a file that does not parse was changed".to_owned());
    }
    Ok(None)
}

/// One source with most of the language, and how it is laid out. `REDNIX_UPDATE=1` writes the expectation anew.
fn lays_out_as_expected() -> Outcome {
    let folder = checkout().join("crates/rednix/tests/program/formatting");
    let source = std::fs::File::open(folder.join("in.nix")).map_err(|error| error.to_string())?;
    let got = run(call(&["fmt", "-"]).stdin(source));
    got.expect(0, &[])?;
    let expected = folder.join("out.nix");
    if std::env::var_os("REDNIX_UPDATE").is_some() {
        write(&expected, &got.stdout);
    }
    if got.stdout != read(&expected) {
        return Err(format!("got\n{}", got.stdout));
    }
    run(call(&["fmt", "--check"]).arg(&expected)).expect(0, &[])?;
    Ok(None)
}

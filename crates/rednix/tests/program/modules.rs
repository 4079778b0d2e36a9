//! The module system and systems written in Nix: a table of modules and what they give, errors as their reader sees
//! them, and the documented example.
//!
//! Expectations lie beside the cases. `REDNIX_UPDATE=1` writes them anew; the difference is then for git to show.

use std::fmt::Write;
use std::path::PathBuf;

use serde_json::Value;

use crate::Outcome;
use crate::support::{call, checkout, run, scratch, write};

pub const TESTS: [(&str, fn() -> Outcome); 7] = [
    ("modules_give_values", modules_give_values),
    ("modules_give_errors", modules_give_errors),
    ("module_reference_is_current", module_reference_is_current),
    ("documented_system_is_what_it_says", documented_system),
    ("system_file_names_its_machine", system_file_names_its_machine),
    ("system_file_that_gives_none", system_file_that_gives_none),
    ("machines_are_what_the_target_says", machines_of_targets),
];

fn folder() -> PathBuf {
    checkout().join("crates/rednix/tests/program/modules")
}

/// The output of `rednix eval` with these arguments.
fn eval(arguments: &[&str]) -> Result<String, String> {
    let result = run(call(&["eval"]).args(arguments));
    result.expect(0, &[])?;
    Ok(result.stdout)
}

fn cases() -> String {
    folder().join("cases.nix").display().to_string()
}

/// Compares with a file of expectations, or writes it.
fn compare(name: &str, got: &str) -> Outcome {
    let file = folder().join(name);
    if std::env::var_os("REDNIX_UPDATE").is_some() {
        std::fs::write(&file, got).map_err(|e| e.to_string())?;
        return Ok(None);
    }
    let wanted = std::fs::read_to_string(&file).map_err(|e| format!("{}: {e}", file.display()))?;
    for (number, (got, wanted)) in got.lines().zip(wanted.lines()).enumerate() {
        if got != wanted {
            return Err(format!("{name}:{}:\ngot    {got}\nwanted {wanted}", number + 1));
        }
    }
    if got.lines().count() == wanted.lines().count() {
        Ok(None)
    } else {
        Err(format!("{name} has {} lines, not {}", wanted.lines().count(), got.lines().count()))
    }
}

/// One line a case, so that a difference is easy to see.
fn modules_give_values() -> Outcome {
    let text = eval(&["--json", &cases(), "-A", "values"])?;
    let values: Value = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    let mut lines = String::new();
    for (group, cases) in values.as_object().ok_or("the values are no set")? {
        match cases {
            Value::Object(cases) => {
                for (name, value) in cases {
                    let _ = writeln!(lines, "{group}.{name} = {value}");
                }
            }
            value => {
                let _ = writeln!(lines, "{group} = {value}");
            }
        }
    }
    compare("values.txt", &lines)
}

/// Message and hint. What led there depends on how the library calls itself, and is left out.
fn modules_give_errors() -> Outcome {
    let names = eval(&["--json", "-E", &format!("builtins.attrNames (import {}).errors", cases())])?;
    let names: Vec<String> = serde_json::from_str(&names).map_err(|e| e.to_string())?;
    let told: Vec<Result<String, String>> = std::thread::scope(|scope| {
        let handles: Vec<_> = names
            .chunks(names.len().div_ceil(4))
            .map(|part| scope.spawn(|| part.iter().map(|n| error(n)).collect::<Vec<_>>()))
            .collect();
        handles.into_iter().flat_map(|h| h.join().expect("the thread ends")).collect()
    });
    let mut text = String::new();
    for (name, told) in names.iter().zip(told) {
        let _ = writeln!(text, "# {name}\n{}", told?);
    }
    compare("errors.txt", &text)
}

fn error(name: &str) -> Result<String, String> {
    let result = run(&mut call(&["eval", &cases(), "-A", &format!("errors.{name}")]));
    result.expect(2, &["error: "]).map_err(|e| format!("{name}: {e}"))?;
    let here = format!("{}/", folder().display());
    let library = format!("{}/nix/", checkout().display());
    let mut lines = Vec::new();
    // The message ends where the excerpt of a source or the trace begins.
    let mut is_message = true;
    for line in result.stderr.lines() {
        is_message &= !(line.trim_start().starts_with("-->")
            || line.starts_with("  while ")
            || line.starts_with("  from ")
            || line.starts_with("  in `")
            || line.is_empty());
        if is_message {
            lines.push(line.trim_start_matches("error: ").to_owned());
        } else if let Some(hint) = line.strip_prefix("hint: ") {
            let hint: Vec<&str> = hint
                .split("; ")
                .filter(|part| !part.contains("left out") && !part.contains("--show-trace"))
                .collect();
            if !hint.is_empty() {
                lines.push(format!("hint: {}", hint.join("; ")));
            }
        }
    }
    Ok(lines.join("\n").replace(&here, "").replace(&library, "nix/"))
}

fn module_reference_is_current() -> Outcome {
    let reference = eval(&["--raw", "-A", "moduleReference"])?;
    let document = std::fs::read_to_string(checkout().join("docs/modules.md")).map_err(|e| e.to_string())?;
    let options = document.matches("\n### `").count();
    if options < 50 {
        return Err(format!("docs/modules.md tells of {options} options only"));
    }
    if document.ends_with(&format!("\n\n{reference}")) {
        return Ok(None);
    }
    let differs = reference.lines().find(|line| !document.contains(line)).unwrap_or("the order of its parts");
    Err(format!(
        "docs/modules.md is not what `rednix eval --raw -A moduleReference` gives, the first difference being: {differs}"
    ))
}

/// The example changes what it says and nothing else, and gives the same packages.
fn documented_system() -> Outcome {
    let example = checkout().join("docs/examples/system.nix");
    let expression = format!(
        "let l = import {}/nix {{ }}; s = l.systemOf {}; p = l.systems.probe; in {{ new = s.configuration; old = p.config; packages = s.packages == p.packages; differs = s.image.drvPath != p.image.drvPath; inherit (s) machine; }}",
        checkout().display(),
        example.display()
    );
    let value: Value =
        serde_json::from_str(&eval(&["--json", "-E", &expression])?).map_err(|e| e.to_string())?;
    if value["packages"] != true || value["differs"] != true {
        return Err(format!("the packages differ, or the image does not:\n{value}"));
    }
    let files = |of: &str| value[of]["files"].as_array().cloned().unwrap_or_default();
    let (new, old) = (files("new"), files("old"));
    let added: Vec<&Value> = new.iter().filter(|file| !old.contains(file)).collect();
    let gone: Vec<&Value> = old.iter().filter(|file| !new.contains(file)).collect();
    let wanted_added = serde_json::json!([
        { "path": "/etc/hostname", "data": "example" },
        { "path": "/etc/motd", "data": "It is described in Nix.\n", "append": true, "postinstall": true },
        { "path": "/etc/notes/first", "data": "first\n", "mode": 0o600 },
    ]);
    let wanted_gone = serde_json::json!([{ "path": "/etc/hostname", "data": "probe" }]);
    if serde_json::json!(added) != wanted_added || serde_json::json!(gone) != wanted_gone {
        return Err(format!("added {added:#?}\ngone {gone:#?}"));
    }
    for part in ["general", "packages", "users", "groups", "rednix"] {
        if value["new"][part] != value["old"][part] {
            return Err(format!("`{part}` differs: {} and {}", value["new"][part], value["old"][part]));
        }
    }
    if value["machine"] != serde_json::json!({ "vmm": "qemu", "memoryMib": 256, "cpus": 1 }) {
        return Err(format!("another machine: {}", value["machine"]));
    }
    Ok(None)
}

/// Options of the command line go before what the file says. The image is built for it.
fn system_file_names_its_machine() -> Outcome {
    let image = run(&mut call(&["image", "docs/examples/system.nix"]));
    image.expect(0, &[])?;
    let manifest = PathBuf::from(image.stdout.trim()).join("manifest.json");
    let manifest = std::fs::read_to_string(&manifest).map_err(|e| format!("{}: {e}", manifest.display()))?;
    if !manifest.contains("etc/notes/first") {
        return Err("the image has no /etc/notes/first".to_owned());
    }
    let monitor = "qemu-system-x86_64";
    let on_path = |folder: PathBuf| folder.join(monitor).is_file();
    if !std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(on_path) {
        return Ok(Some(format!("{monitor} is not installed; the image was checked")));
    }
    let result = run(&mut call(&["run", "docs/examples/system.nix", "--dry-run", "--cpus", "3"]));
    result.expect(0, &[])?;
    for part in ["-m 256", "-smp 3"] {
        if !result.stdout.contains(part) {
            return Err(format!("no `{part}` in {}", result.stdout));
        }
    }
    Ok(None)
}

fn system_file_that_gives_none() -> Outcome {
    let folder = scratch();
    let file = folder.path().join("system.nix");
    write(&file, "{ rednix, ... }: { imag = 1; }\n");
    run(call(&["run", "--dry-run"]).arg(&file)).expect(2, &["gives no system", "hint: let it be"])?;
    write(&file, "{ config = \"probe\"; modules = [ { packages = [ \"porbe\" ]; } ]; }\n");
    run(call(&["image"]).arg(&file)).expect(2, &["system.nix:1:35 sets it", "did you mean `probe`?"])?;
    Ok(None)
}

/// A configuration of a tree alone, one with options, and one that knows better.
fn machines_of_targets() -> Outcome {
    let ask = r#"l: with l.systems; [
      probe.machine
      (l.system { config = "probe"; modules = [ { virtualisation.memory = 512; } ]; }).machine
      (l.system { config = "probe"; modules = [ { virtualisation = { architecture = "x86_64"; firmware = "uefi"; }; } ]; }).machine
    ]"#;
    let better = r#"{"architecture":"x86_64","firmware":"uefi","vmm":"qemu"}"#;
    for (target, alone) in [
        ("x86_64-unknown-redox", ""),
        ("i586-unknown-redox", r#""architecture":"i586","firmware":"bios""#),
        ("aarch64-unknown-redox", r#""architecture":"aarch64""#),
        ("riscv64gc-unknown-redox", r#""architecture":"riscv64""#),
    ] {
        let comma = if alone.is_empty() { "" } else { "," };
        let expected = format!(r#"[{{{alone}}},{{{alone}{comma}"memoryMib":512,"vmm":"qemu"}},{better}]"#);
        let got = eval(&["--json", "--target", target, "--apply", ask])?;
        if got.trim_end() != expected {
            return Err(format!("{target}: {got}"));
        }
    }
    Ok(None)
}

//! `rednix cargo test|run`: a crate's tests, or one of its programs, inside a Redox machine. The crate is built as a
//! recipe made for the folder, in the sandbox, against the tree's own relibc; the machine is the named system with
//! the programs in it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rednix_events::Outcome;
use rednix_store::hash::Hash;
use rednix_vm::testing::{Action, Run, Shell, Step, TestMachine, run_test_by_name};
use rednix_vm::{MachineSpec, TestReport, TestSpec};

use crate::cli::{CargoArgs, CargoCommand};
use crate::evaluation::{self, Target};
use crate::failure::Failure;
use crate::machines;
use crate::project::{self, Project};
use crate::relock;
use crate::session::Session;

use super::print;

/// The recipe's name, and where its programs are in the machine.
const RECIPE: &str = "rednix-crate";
const FOLDER: &str = "usr/libexec/rednix-crate";
/// Beside them the manifest of each one's package, which may say which one is run.
const MANIFESTS: &str = "usr/libexec/rednix-crate.manifests";

pub fn run(session: &Session, command: &CargoCommand) -> Result<u8, Failure> {
    let (arguments, tests) = match command {
        CargoCommand::Test(arguments) => (arguments, true),
        CargoCommand::Run(arguments) => (arguments, false),
    };
    let project = Project::find(&session.config, &arguments.tree)?;
    let workspace = workspace(arguments)?;
    let built = build(session, &project, arguments, &workspace, tests)?;
    let spec = specification(arguments, &test_name(&workspace), &built)?;
    let mut config = machines::config(session)?;
    config.timeout_factor = arguments.patience.clamp(1, 1000);
    config.log_folder = session.cache_folder("test-results")?;
    let report = match run_test_by_name(&spec, &config, session.events(), None) {
        Ok(report) => report,
        Err(rednix_vm::Error::Interrupted) => return Err(Failure::interrupted()),
        Err(error) => return Err(error.into()),
    };
    session.view.finish();
    tell(&report, &built.programs, tests)
}

/// The folder whose Cargo.lock counts: that of the crate, or of the workspace around it.
fn workspace(arguments: &CargoArgs) -> Result<PathBuf, Failure> {
    let here = PathBuf::from(evaluation::working_directory());
    let start = match &arguments.manifest_path {
        Some(path) => here.join(path).parent().map(Path::to_path_buf).unwrap_or(here),
        None => here,
    };
    let crate_folder =
        start.ancestors().find(|folder| folder.join("Cargo.toml").is_file()).ok_or_else(|| {
            Failure::usage(format!("there is no Cargo.toml in `{}` or above", start.display()))
                .hint("go to the crate's folder, or name its manifest by `--manifest-path`")
        })?;
    let locked = crate_folder
        .ancestors()
        .find(|folder| folder.join("Cargo.toml").is_file() && folder.join("Cargo.lock").is_file());
    let folder = locked.ok_or_else(|| {
        Failure::usage(format!(
            "`{}` has no Cargo.lock, so what it is built of is not pinned",
            crate_folder.display()
        ))
        .hint("`cargo generate-lockfile` makes one")
    })?;
    Ok(folder.to_path_buf())
}

/// What is needed to run.
struct Built {
    image: PathBuf,
    /// Names in the programs' folder, in order.
    programs: Vec<String>,
}

fn build(
    session: &Session,
    project: &Project,
    arguments: &CargoArgs,
    workspace: &Path,
    tests: bool,
) -> Result<Built, Failure> {
    let script = script(arguments, tests)?;
    let paths = relock::building(session, project.clone(), arguments.tree.locked, |project| {
        let text = expression(project, &arguments.system, workspace, &script, tests);
        let wanted = evaluation::wanted(session, &[Target::internal("the crate's system", text)])?;
        session.build(&wanted)
    })?;
    let [image, package] = paths.as_slice() else {
        return Err(Failure::failed("the crate's system is not one image and one package"));
    };
    let store = session.store()?;
    store.add_root("cargo-system", image)?;
    let folder = store.real_path(package).join(FOLDER);
    let mut programs = Vec::new();
    for item in std::fs::read_dir(&folder).into_iter().flatten() {
        programs.push(item?.file_name().to_string_lossy().into_owned());
    }
    programs.sort();
    if programs.is_empty() {
        let what = if tests { "tests" } else { "programs" };
        return Err(Failure::failed(format!("the crate in `{}` has no {what}", workspace.display())));
    }
    if !tests && programs.len() > 1 {
        programs = vec![chosen(&programs, &defaults(&store.real_path(package).join(MANIFESTS), &programs))?];
    }
    Ok(Built { image: store.real_path(image).join("disk.img"), programs })
}

/// What the programs' manifests say is run where nobody names one.
fn defaults(manifests: &Path, programs: &[String]) -> BTreeSet<String> {
    let default_of = |program: &String| {
        let text = std::fs::read_to_string(manifests.join(format!("{program}.toml"))).ok()?;
        let manifest: toml::Table = text.parse().ok()?;
        Some(manifest.get("package")?.get("default-run")?.as_str()?.to_owned())
    };
    programs.iter().filter_map(default_of).collect()
}

/// The one program to run, of several.
fn chosen(programs: &[String], defaults: &BTreeSet<String>) -> Result<String, Failure> {
    let mut wanted = defaults.iter();
    match (wanted.next(), wanted.next()) {
        (Some(one), None) if programs.contains(one) => Ok(one.clone()),
        _ => Err(Failure::usage(format!("there are several programs to run: {}", programs.join(", ")))
            .hint("say which by `--bin NAME`, or by `default-run` in the crate's Cargo.toml")),
    }
}

/// Under which the results of this workspace are kept, apart from those of all others.
fn test_name(workspace: &Path) -> String {
    let name = workspace.file_name().unwrap_or_default().to_string_lossy();
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect();
    let hash = Hash::sha256(workspace.as_os_str().as_encoded_bytes()).to_hex();
    format!("cargo-{}-{}", &name[..name.len().min(40)], &hash[..8])
}

/// The image of the system with the crate in it, and the crate's package.
fn expression(project: &Project, system: &str, workspace: &Path, script: &str, tests: bool) -> String {
    let library = project.expression();
    let library = library.strip_suffix('}').unwrap_or(&library);
    let source = project::quote(&workspace.to_string_lossy());
    let (system, script) = (project::quote(system), project::quote(script));
    format!(
        "let l = {library}  overlays = [ (final: prev: {{ {RECIPE} = {{ source = /. + {source}; \
         build = {{ template = \"custom\"; script = {script}; }}; rednix.tests = {tests}; }}; }}) ];\n}};\n\
         in [ (l.system {{ config = {system}; name = \"{RECIPE}\"; modules = [ {{ packages = [ \"{RECIPE}\" ]; }} ]; }}).image \
         (l.package \"{RECIPE}\") ]"
    )
}

/// The recipe's build: cargo says which programs it made, and they are put where the machine runs them from.
fn script(arguments: &CargoArgs, tests: bool) -> Result<String, Failure> {
    let mut words = vec![if tests { "test --no-run" } else { "build" }.to_owned()];
    let mut option = |name: &str, value: &Option<String>| match value {
        None => Ok(()),
        Some(value) if value.chars().all(|c| c.is_ascii_alphanumeric() || "-_,/ ".contains(c)) => {
            words.push(format!("{name} '{value}'"));
            Ok(())
        }
        Some(value) => Err(Failure::usage(format!("`{name} {value}`: letters, digits, `-`, `_`, `/` only"))),
    };
    option("--package", &arguments.package)?;
    option("--features", &arguments.features)?;
    option("--bin", &arguments.bin)?;
    option("--test", &arguments.test)?;
    if arguments.release {
        words.push("--release".to_owned());
    }
    // What cargo made for the tests says so; a program is of the kind `bin`, and its manifest is kept.
    let wanted = if tests { r#""test":true}"# } else { r#""kind":["bin"]"# };
    Ok(format!(
        r#"mkdir -p "$COOKBOOK_STAGE/{FOLDER}"{}
"$COOKBOOK_CARGO" {} "${{COOKBOOK_CARGO_FLAGS[@]}}" --manifest-path "$COOKBOOK_SOURCE/Cargo.toml" \
    --message-format json-render-diagnostics >"$COOKBOOK_BUILD/messages"
grep -F '{wanted}' "$COOKBOOK_BUILD/messages" | sed -n 's/.*"manifest_path":"\([^"]*\)".*"executable":"\([^"]*\)".*/\1\n\2/p' | while read -r manifest && read -r made
do
    name=$(basename "$made")
    cp "$made" "$COOKBOOK_STAGE/{FOLDER}/$name"{}
done
"#,
        if tests { String::new() } else { format!(r#" "$COOKBOOK_STAGE/{MANIFESTS}""#) },
        words.join(" "),
        if tests {
            String::new()
        } else {
            format!("\n    cp \"$manifest\" \"$COOKBOOK_STAGE/{MANIFESTS}/$name.toml\"")
        },
    ))
}

fn specification(arguments: &CargoArgs, name: &str, built: &Built) -> Result<TestSpec, Failure> {
    let (user, password) = match arguments.login.split_once(':') {
        Some((user, password)) => (user, Some(password.to_owned())),
        None => (arguments.login.as_str(), None),
    };
    let mut machine = MachineSpec::new("redox", built.image.clone());
    machine.memory_mib = arguments.memory;
    machine.exit_device = false;
    if let Some(word) = &arguments.accel {
        machine.acceleration = machines::word("--accel", word, "auto, kvm or tcg")?;
    }
    let words: Vec<String> =
        arguments.arguments.iter().map(|word| ion_word(word)).collect::<Result<_, _>>()?;
    let timeout = Some(Duration::from_secs(arguments.limit));
    let step = |action| Step { on: None, action, timeout, position: None };
    let mut steps = vec![step(Action::Login { user: user.to_owned(), password })];
    for program in &built.programs {
        let command = [vec![format!("/{FOLDER}/{program}")], words.clone()].concat().join(" ");
        steps.push(step(Action::Run(Run { command, status: None, output: None })));
    }
    let machines = vec![TestMachine {
        vmm: "qemu".to_owned(),
        shell: Shell::Ion,
        start: true,
        private_network: false,
        machine,
    }];
    Ok(TestSpec {
        name: name.to_owned(),
        machines,
        steps,
        fail_on: Vec::new(),
        timeout: Some(arguments.limit * (built.programs.len() as u64 + 1)),
        capture: false,
    })
}

/// A word as ion takes it.
fn ion_word(word: &str) -> Result<String, Failure> {
    if word.contains(['\'', '\n']) {
        return Err(Failure::usage(format!("{word:?} cannot be typed at the machine's shell")));
    }
    Ok(format!("'{word}'"))
}

fn tell(report: &TestReport, programs: &[String], tests: bool) -> Result<u8, Failure> {
    let mut worst = 0;
    let runs = report.steps.iter().filter_map(|step| step.answer.as_ref());
    for (program, answer) in programs.iter().zip(runs) {
        let name = program.rsplit_once('-').map_or(program.as_str(), |(name, _)| name);
        if tests {
            print(&format!("     Running {name} in the machine\n"))?;
        }
        print(&answer.output)?;
        if answer.status != 0 {
            worst = 1;
            if tests {
                print(&format!("     {name} ended with status {}\n", answer.status))?;
            }
        }
    }
    match report.outcome {
        Outcome::Passed if tests => Ok(worst),
        Outcome::Passed => {
            let status = report.steps.iter().filter_map(|step| step.answer.as_ref()).next_back();
            Ok(status.map_or(0, |answer| u8::try_from(answer.status).unwrap_or(1)))
        }
        Outcome::Skipped => Err(Failure::failed(report.message.clone())),
        Outcome::Failed => {
            let mut details = String::new();
            report.console_tail.iter().for_each(|line| details.push_str(&format!("  | {line}\n")));
            Err(Failure::failed(report.message.clone()).details(details))
        }
    }
}

#[cfg(test)]
mod unit_tests {
    use super::*;

    #[test]
    fn what_is_typed_is_one_word_each() {
        assert_eq!(ion_word("--skip x").unwrap(), "'--skip x'");
        assert!(ion_word("it's").is_err());
        let arguments = CargoArgs { package: Some("a; rm".into()), ..CargoArgs::default() };
        assert!(script(&arguments, true).is_err());
        let arguments = CargoArgs { package: Some("a-b".into()), release: true, ..CargoArgs::default() };
        let text = script(&arguments, true).unwrap();
        assert!(text.contains("test --no-run --package 'a-b' --release"), "{text}");
    }

    /// The recipe's script with a made-up cargo: which programs it takes, and which one is run then.
    #[test]
    fn of_several_programs_one_is_run() {
        let artifact = |folder: &str, name: &str, kind: &str| {
            format!(
                r#"{{"reason":"compiler-artifact","package_id":"x","manifest_path":"F/{folder}/Cargo.toml","target":{{"kind":["{kind}"],"crate_types":["{kind}"],"name":"{name}"}},"profile":{{"test":false}},"executable":"F/{name}","fresh":false}}"#
            )
        };
        let plain = "[package]\nname = \"p\"\n";
        let with_default = |name: &str| format!("[package]\nname = \"p\"\ndefault-run = \"{name}\"\n");
        let cases = [
            (vec![("p", "one", "bin"), ("p", "two", "bin")], plain.to_owned(), Err("one, two")),
            (vec![("p", "one", "bin"), ("p", "two", "bin")], with_default("two"), Ok("two")),
            (vec![("p", "one", "bin"), ("p", "two", "bin")], with_default("three"), Err("one, two")),
            (vec![("p", "one", "bin"), ("q", "two", "bin")], with_default("one"), Ok("one")),
        ];
        for (artifacts, manifest, expected) in cases {
            let folder = tempfile::tempdir().unwrap();
            let place = folder.path().to_str().unwrap().to_owned();
            let mut messages = artifact("p", "library", "lib").replace(r#""F/library""#, "null");
            for (package, name, kind) in &artifacts {
                messages.push('\n');
                messages.push_str(&artifact(package, name, kind));
                std::fs::write(folder.path().join(name), "").unwrap();
                std::fs::create_dir_all(folder.path().join(package)).unwrap();
                std::fs::write(folder.path().join(package).join("Cargo.toml"), plain).unwrap();
            }
            std::fs::write(folder.path().join("p/Cargo.toml"), &manifest).unwrap();
            std::fs::write(folder.path().join("messages.json"), messages.replace("F/", &format!("{place}/")))
                .unwrap();
            let cargo = format!("cargo() {{ cat '{place}/messages.json'; }}\n");
            let text = cargo + &script(&CargoArgs::default(), false).unwrap();
            let output = std::process::Command::new("bash")
                .args(["-euc", &text])
                .envs([("COOKBOOK_CARGO", "cargo"), ("COOKBOOK_SOURCE", &place), ("COOKBOOK_BUILD", &place)])
                .envs([("COOKBOOK_STAGE", format!("{place}/stage")), ("COOKBOOK_CARGO_FLAGS", String::new())])
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let mut programs: Vec<String> = std::fs::read_dir(folder.path().join("stage").join(FOLDER))
                .unwrap()
                .map(|item| item.unwrap().file_name().to_string_lossy().into_owned())
                .collect();
            programs.sort();
            assert_eq!(programs, ["one", "two"]);
            let defaults = defaults(&folder.path().join("stage").join(MANIFESTS), &programs);
            match (chosen(&programs, &defaults), expected) {
                (Ok(one), Ok(wanted)) => assert_eq!(one, wanted),
                (Err(failure), Err(names)) => {
                    assert!(failure.status == 2 && failure.message.contains(names), "{}", failure.message);
                }
                (other, _) => panic!("{other:?}, not {expected:?}"),
            }
        }
    }

    #[test]
    fn results_of_two_workspaces_are_apart() {
        let (one, other) =
            (test_name(Path::new("/home/a/my crate")), test_name(Path::new("/home/b/my crate")));
        assert!(one.starts_with("cargo-my_crate-") && one != other, "{one}, {other}");
    }
}

//! The sandbox, tried with real commands: what a builder can and cannot see and do, and that nothing of it
//! stays. Runs once per kind of sandbox the machine allows.

mod support;

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use libtest_mimic::{Arguments, Failed, Trial};
use rednix_build::Builtins;
use rednix_build::sandbox::{
    Bytes, Confinement, Control, Ending, Input, Program, Root, SandboxError, compose_farm, run,
};
use support::{Folder, Scratch, control, expect, none_left};

/// Argument that makes this test binary a stand-in for a rednix that is killed.
const VICTIM: &str = "victim";

fn builtins() -> Builtins {
    Builtins::new()
        .register("write", |attributes: &serde_json::Value, outputs: &BTreeMap<String, PathBuf>| {
            std::fs::write(&outputs["out"], attributes["text"].as_str().unwrap_or_default())
        })
        .register("fail", |_: &serde_json::Value, _: &BTreeMap<String, PathBuf>| {
            Err::<(), _>("the file `x` is no archive")
        })
        .register("panic", |_: &serde_json::Value, _: &BTreeMap<String, PathBuf>| -> Result<(), String> {
            panic!("a bug")
        })
        .register("calls", |attributes: &serde_json::Value, _: &BTreeMap<String, PathBuf>| {
            match support::calls::reached(attributes) {
                reached if reached.is_empty() => Ok(()),
                reached => Err(reached.join(", ")),
            }
        })
        .register("abstract", |attributes: &serde_json::Value, _: &BTreeMap<String, PathBuf>| {
            use std::os::linux::net::SocketAddrExt;
            let name = attributes["name"].as_str().unwrap_or_default();
            let address = std::os::unix::net::SocketAddr::from_abstract_name(name.as_bytes())
                .map_err(|error| error.to_string())?;
            match std::os::unix::net::UnixStream::connect_addr(&address) {
                Ok(_) => Err("the host's abstract socket was reached".to_owned()),
                Err(_) => Ok(()),
            }
        })
}

fn main() {
    rednix_build::child_main(&builtins());
    if std::env::args().nth(1).as_deref() == Some(VICTIM) {
        return victim();
    }
    let arguments = Arguments::from_args();
    let kinds = support::confinements();
    let mut trials = Vec::new();
    for (name, test) in TESTS {
        match &kinds {
            Ok(kinds) => {
                for &kind in kinds {
                    let name = format!("{name} [{}]", label(kind));
                    trials.push(Trial::test(name, move || test(kind)));
                }
            }
            Err(reason) => {
                eprintln!("skipped: {name}: {reason}");
                let nothing = || Ok(());
                trials.push(Trial::test(*name, nothing).with_ignored_flag(true));
            }
        }
    }
    support::finish(libtest_mimic::run(&arguments, trials));
}

fn label(kind: Confinement) -> &'static str {
    match kind {
        Confinement::User { is_host_root: false } => "user",
        Confinement::User { is_host_root: true } => "root in a user namespace",
        Confinement::Privileged { nested_user: true, .. } => "root",
        Confinement::Privileged { nested_user: false, .. } => "root without user namespaces",
    }
}

type Test = fn(Confinement) -> Result<(), Failed>;

const TESTS: &[(&str, Test)] = &[
    ("what a script sees and cannot do", script_table),
    ("exit status and signals are told", endings),
    ("a missing builder is named", missing_builder),
    ("a builder that is still being written is waited for", busy_builder),
    ("the network is denied", network_denied),
    ("abstract sockets are out of reach", abstract_socket),
    ("system calls reach nothing beyond", system_calls),
    ("the host's files are invisible", host_files_invisible),
    ("inputs are visible and read only", inputs_read_only),
    ("hundreds of layers and inputs", many_layers_and_inputs),
    ("a farm serves as root", farm_as_root),
    ("a hanging fork bomb ends with the time-out", fork_bomb),
    ("silence ends a build", silence),
    ("cancelling ends a build", cancel),
    ("killing rednix leaves no process", parent_killed),
    ("a background process does not outlive the builder", background_process),
    ("builtins run confined", builtin_runs),
];

fn run_script(kind: Confinement, script: &str) -> (Ending, String, Scratch) {
    let scratch = Scratch::new(kind, script);
    let mut log = Vec::new();
    let ending = run(&scratch.spec, &control(), &mut |piece| log.extend_from_slice(piece))
        .unwrap_or_else(|error| panic!("{script}: {error}"));
    (ending, String::from_utf8_lossy(&log).into_owned(), scratch)
}

/// (what, script, what it must print).
const SCRIPTS: &[(&str, &str, &str)] = &[
    ("working folder", "echo $PWD", "/build\n"),
    ("host name", "echo $HOSTNAME", "localhost\n"),
    ("build folder writable", "echo a > /build/x; cat x", "a\n"),
    ("temporary folder writable", "echo a > /tmp/x; cat /tmp/x", "a\n"),
    ("outputs can be made", "mkdir /nix/store/x; ls /nix/store", "x\n"),
    ("root read only", "touch /x 2>/dev/null || echo denied", "denied\n"),
    ("layers read only", "touch /usr/bin/x 2>/dev/null || echo denied", "denied\n"),
    ("/dev read only", "touch /dev/x 2>/dev/null || echo denied", "denied\n"),
    ("/dev/shm writable", "echo a > /dev/shm/x; cat /dev/shm/x", "a\n"),
    ("devices work", "echo a > /dev/null; head -c 2 /dev/zero | (read -r -d '' -n 1 x; echo $?)", "0\n"),
    (
        "devices present",
        "cd /dev; for d in full random tty urandom zero null; do [ -c $d ] || echo no $d; done",
        "",
    ),
    ("standard input is empty", "cat", ""),
    ("environment cleared", "/usr/bin/env -u SHLVL -u PWD -u _", "PATH=/usr/bin\n"),
    ("process 1 is hidden", "cat /proc/1/environ 2>/dev/null || echo denied", "denied\n"),
    (
        "process 1 cannot be killed",
        "kill -9 1 2>/dev/null || kill -TERM 1 2>/dev/null || :; echo here",
        "here\n",
    ),
    ("only its own processes", "set -- /proc/[0-9]*; [ $# -le 3 ] && echo few", "few\n"),
    ("set-user-id denied", "touch x; chmod 4755 x 2>/dev/null || echo denied", "denied\n"),
    ("set-group-id denied", "touch x; chmod 2755 x 2>/dev/null || echo denied", "denied\n"),
    ("ordinary modes allowed", "touch x; chmod 751 x; stat -c %a x", "751\n"),
    (
        "kernel switches closed",
        "echo 1 2>/dev/null > /proc/sys/kernel/core_uses_pid || echo denied",
        "denied\n",
    ),
    (
        "no descriptors inherited",
        "for n in 3 4 5 6 7 8 9 10 11 12; do [ -e /proc/$$/fd/$n ] && echo $n; done; echo -",
        "-\n",
    ),
    ("no core files", "ulimit -c", "0\n"),
    (
        "no capabilities",
        "while read -r k v; do [ $k = CapEff: -o $k = CapBnd: ] && echo $v; done < /proc/self/status",
        "0000000000000000\n0000000000000000\n",
    ),
    (
        "no new privileges",
        "while read -r k v; do [ $k = NoNewPrivs: ] && echo $v; done < /proc/self/status",
        "1\n",
    ),
    (
        "nothing of the host is mounted",
        "while read -r a b c d e f; do case $e in /|/nix/store|/build|/tmp|/dev|/dev/*|/proc|/proc/*) ;; *) echo $e;; esac; done < /proc/self/mountinfo",
        "",
    ),
    ("fifos work", "mkfifo f; (echo a > f) & cat f", "a\n"),
];

fn script_table(kind: Confinement) -> Result<(), Failed> {
    for (what, script, wanted) in SCRIPTS {
        let (ending, log, _scratch) = run_script(kind, script);
        if *wanted != log || !matches!(ending, Ending::Exited(_)) {
            return Err(Failed::from(format!("{what}: wanted {wanted:?}, saw {log:?} and {ending:?}")));
        }
    }
    if kind != (Confinement::Privileged { host_id: 65_530, nested_user: false }) {
        let (_, log, _scratch) = run_script(kind, "id -u; id -g; id -un");
        expect(log == "1000\n100\nbuilder\n", format!("the builder is {log:?}"))?;
    }
    Ok(())
}

fn endings(kind: Confinement) -> Result<(), Failed> {
    let cases = [
        ("exit 0", Ending::Exited(0)),
        ("exit 3", Ending::Exited(3)),
        ("kill -SEGV $$", Ending::Signalled(11)),
        ("kill -9 $$", Ending::Signalled(9)),
    ];
    for (script, wanted) in cases {
        let (ending, log, _scratch) = run_script(kind, script);
        expect(ending == wanted, format!("{script}: {ending:?}, {log}"))?;
    }
    Ok(())
}

fn missing_builder(kind: Confinement) -> Result<(), Failed> {
    let mut scratch = Scratch::new(kind, "");
    scratch.spec.program = Program::Execute { path: "/usr/bin/absent".into(), arguments: vec![] };
    match run(&scratch.spec, &control(), &mut |_| {}) {
        Err(SandboxError::Start { builder, .. }) if builder == "/usr/bin/absent" => Ok(()),
        other => Err(Failed::from(format!("{other:?}"))),
    }
}

/// As it is while another program is being started that has the file open for a moment.
fn busy_builder(kind: Confinement) -> Result<(), Failed> {
    let host = tempfile::tempdir()?;
    let tool = host.path().join("tool");
    std::fs::copy(support::layer().join("usr/bin/bash"), &tool)?;
    let held = std::fs::File::options().append(true).open(&tool)?;
    let mut scratch = Scratch::new(kind, "");
    scratch.spec.inputs = vec![Input { host: tool.as_path().into(), name: "tool".into() }];
    let arguments = vec!["-c".into(), "exit 7".into()];
    scratch.spec.program = Program::Execute { path: "/nix/store/tool".into(), arguments };
    let ending = std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(500));
            drop(held);
        });
        run(&scratch.spec, &control(), &mut |_| {})
    })?;
    expect(ending == Ending::Exited(7), format!("{ending:?}"))
}

fn network_denied(kind: Confinement) -> Result<(), Failed> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let script = format!(
        "(exec 3<>/dev/tcp/127.0.0.1/{port}) 2>/dev/null && echo reached the host
         (exec 3<>/dev/tcp/192.0.2.1/80) 2>/dev/null && echo reached the world
         echo done"
    );
    let (_, log, _scratch) = run_script(kind, &script);
    expect(log == "done\n", log)
}

fn abstract_socket(kind: Confinement) -> Result<(), Failed> {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("rednix-test-{}-{}", std::process::id(), label(kind));
    let address = std::os::unix::net::SocketAddr::from_abstract_name(name.as_bytes())?;
    let _listener = UnixListener::bind_addr(&address)?;
    std::os::unix::net::UnixStream::connect_addr(&address)?;
    let ending = run_builtin(kind, "abstract", serde_json::json!({ "name": name }))?.0;
    expect(ending == Ending::Exited(0), format!("{ending:?}"))
}

/// Whatever a program asks of the kernel itself: see `support::calls`.
#[allow(unsafe_code)]
fn system_calls(kind: Confinement) -> Result<(), Failed> {
    // One for each kind of sandbox: they are tried at once.
    let key = 7 << 28 | (label(kind).len() as i32) << 22 | std::process::id() as i32 & 0x3f_ffff;
    // SAFETY: makes a piece of shared memory and attaches nothing.
    let shared = unsafe { libc::shmget(key, 4096, libc::IPC_CREAT | 0o666) };
    expect(shared >= 0, "shared memory can be made")?;
    let host = tempfile::tempdir()?;
    let input = host.path().join("input");
    std::fs::create_dir(&input)?;
    let mut scratch = Scratch::new(kind, "");
    scratch.spec.inputs = vec![Input { host: input.as_path().into(), name: "input".into() }];
    scratch.spec.program = Program::Builtin {
        name: "calls".to_owned(),
        attributes: serde_json::json!({ "key": key, "input": "/nix/store/input" }).to_string(),
        outputs: vec![("out".to_owned(), "/nix/store/result".to_owned())],
    };
    let ending = run(&scratch.spec, &control(), &mut |_| {});
    // SAFETY: removes what was made above, which nobody has attached.
    unsafe { libc::shmctl(shared, libc::IPC_RMID, std::ptr::null_mut()) };
    let ending = ending?;
    expect(ending == Ending::Exited(0), format!("{ending:?}"))
}

fn host_files_invisible(kind: Confinement) -> Result<(), Failed> {
    let secret = tempfile::NamedTempFile::new()?;
    let path = secret.path().display();
    let exe = std::env::current_exe()?;
    let script = format!(
        "for f in {path} {} /root /home /sys /var /etc/shadow /usr/bin/perl; do [ -e $f ] && echo $f; done; ls /",
        exe.display()
    );
    let (_, log, _scratch) = run_script(kind, &script);
    let visible: Vec<&str> = log.lines().filter(|line| line.contains('/')).collect();
    expect(visible.is_empty(), format!("visible: {visible:?}"))
}

fn inputs_read_only(kind: Confinement) -> Result<(), Failed> {
    let host = tempfile::tempdir()?;
    let (folder, file, link) =
        (host.path().join("a-folder"), host.path().join("b-file"), host.path().join("c-link"));
    std::fs::create_dir(&folder)?;
    std::fs::write(folder.join("x"), "inside")?;
    std::fs::write(&file, "text")?;
    std::os::unix::fs::symlink("a-folder/x", &link)?;
    std::fs::write(host.path().join("d-secret"), "")?;
    let mut scratch = Scratch::new(
        kind,
        "cd /nix/store; ls; cat a-folder/x b-file c-link; echo
         (echo y > b-file) 2>/dev/null || echo denied
         touch a-folder/y 2>/dev/null || echo denied
         rm -rf a-folder b-file 2>/dev/null || echo denied
         cat a-folder/x",
    );
    scratch.spec.inputs = [&folder, &file, &link]
        .map(|path| Input {
            host: path.as_path().into(),
            name: path.file_name().unwrap().to_os_string().into(),
        })
        .to_vec();
    let mut log = Vec::new();
    run(&scratch.spec, &control(), &mut |piece| log.extend_from_slice(piece))?;
    let log = String::from_utf8_lossy(&log);
    let wanted = "a-folder\nb-file\nc-link\ninsidetextinside\ndenied\ndenied\ndenied\ninside";
    expect(log == wanted, format!("{log}"))?;
    expect(std::fs::read_to_string(&file)? == "text", "an input was changed")
}

fn many_layers_and_inputs(kind: Confinement) -> Result<(), Failed> {
    let host = tempfile::tempdir()?;
    let mut layers = Vec::new();
    let mut inputs = Vec::new();
    for index in 0..900 {
        let layer = host.path().join(format!("layer:{index}"));
        std::fs::create_dir_all(layer.join("data"))?;
        std::fs::write(layer.join("data").join(index.to_string()), "")?;
        std::fs::write(layer.join("data/top"), index.to_string())?;
        inputs.push(Input { host: layer.clone().into(), name: Bytes::from(format!("i{index}").as_str()) });
        layers.push(Bytes::from(layer));
    }
    layers.push(support::layer().into());
    let mut scratch = Scratch::new(
        kind,
        "cat /data/top; set -- /data/*; echo -n \" $#\"; set -- /nix/store/*; echo \" $#\"",
    );
    scratch.spec.inputs = inputs;
    scratch.spec.root = Root::Overlay(layers);
    let mut log = Vec::new();
    run(&scratch.spec, &control(), &mut |piece| log.extend_from_slice(piece))?;
    let log = String::from_utf8_lossy(&log);
    expect(log == "0 901 900\n", format!("{log}"))
}

fn farm_as_root(kind: Confinement) -> Result<(), Failed> {
    let host = tempfile::tempdir()?;
    let farm = host.path().join("farm");
    compose_farm(&[support::layer().to_owned()], &farm, 1000, 100)?;
    let mut scratch =
        Scratch::new(kind, "touch /usr/bin/x 2>/dev/null || echo denied; echo a > y; cat /build/y");
    scratch.spec.root = Root::Folder(farm.into());
    let mut log = Vec::new();
    run(&scratch.spec, &control(), &mut |piece| log.extend_from_slice(piece))?;
    expect(log == b"denied\na\n", String::from_utf8_lossy(&log))
}

fn fork_bomb(kind: Confinement) -> Result<(), Failed> {
    let marker = support::mark();
    let mut scratch = Scratch::new(
        kind,
        &format!(
            "trap '' TERM INT HUP; f() {{ : {marker}; f & f & sleep 100; }}; f; while :; do sleep 1; done"
        ),
    );
    scratch.spec.limits.processes = Some(200);
    let control = Control { timeout_total: Some(Duration::from_millis(1500)), ..control() };
    let start = Instant::now();
    let ending = run(&scratch.spec, &control, &mut |_| {})?;
    expect(matches!(ending, Ending::TimedOut(_)), format!("{ending:?}"))?;
    expect(start.elapsed() < support::HUNG_AFTER, format!("it took {:?}", start.elapsed()))?;
    expect(support::processes_with(&marker).is_empty(), "processes are left when run returns")
}

fn silence(kind: Confinement) -> Result<(), Failed> {
    // All lines together take longer than the silence that is allowed; each ends it.
    support::patiently(|limit| {
        let pause = limit.as_secs_f64() * 0.4;
        let script = format!("for i in 1 2 3; do echo $i; sleep {pause}; done; sleep 1000");
        let scratch = Scratch::new(kind, &script);
        let control = Control { timeout_silence: Some(limit), ..control() };
        let mut log = Vec::new();
        let ending = run(&scratch.spec, &control, &mut |piece| log.extend_from_slice(piece))?;
        expect(ending == Ending::Silent(limit), format!("{ending:?}"))?;
        expect(log == b"1\n2\n3\n", String::from_utf8_lossy(&log))
    })
}

fn cancel(kind: Confinement) -> Result<(), Failed> {
    let mark = support::mark();
    let scratch = Scratch::new(kind, &format!("sleep {mark} & sleep {mark}"));
    let control = control();
    let token = control.cancel.clone();
    let ending = std::thread::scope(|scope| {
        let canceller = scope.spawn(|| {
            let begun = support::until("both sleep", || support::sleepers(&mark).len() == 2);
            token.cancel();
            begun
        });
        let ending = run(&scratch.spec, &control, &mut |_| {})?;
        canceller.join().expect("it does not panic")?;
        Ok::<_, Failed>(ending)
    })?;
    expect(ending == Ending::Cancelled, format!("{ending:?}"))?;
    expect(support::processes_with(&mark).is_empty(), "processes are left")
}

/// Runs a sandbox until it is killed; the first argument after the name is the marker.
fn victim() {
    let argument = |index| std::env::args().nth(index).expect("the test passes it");
    let (marker, kind) = (argument(2), argument(3).parse::<usize>().expect("an index"));
    let kind = support::confinements().expect("the test found some")[kind];
    let scratch = Scratch::new(kind, &format!("(sleep {marker}) & echo ready; sleep {marker}; :"));
    let _ = run(&scratch.spec, &control(), &mut |piece| {
        use std::io::Write;
        let _ = std::io::stdout().write_all(piece);
        let _ = std::io::stdout().flush();
    });
}

fn parent_killed(kind: Confinement) -> Result<(), Failed> {
    use std::io::BufRead;
    let kinds = support::confinements()?;
    let index = kinds.iter().position(|&other| other == kind).expect("it came from this list");
    let marker = support::mark();
    let elsewhere = Folder::new();
    let mut victim = Command::new(std::env::current_exe()?)
        .env("TMPDIR", elsewhere.path())
        .args([VICTIM, &marker, &index.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    std::io::BufReader::new(victim.stdout.take().unwrap()).read_line(&mut line)?;
    expect(line == "ready\n", format!("the victim said {line:?}"))?;
    support::until("the sandbox runs", || support::sleepers(&marker).len() == 2)?;
    victim.kill()?;
    victim.wait()?;
    none_left(&marker)?;
    Ok(())
}

fn background_process(kind: Confinement) -> Result<(), Failed> {
    let marker = support::mark();
    // Had the builder's end not been noticed, it would have ended by the time-out.
    let (ending, _, _scratch) = run_script(kind, &format!("(trap '' HUP; sleep {marker}) & exit 0"));
    expect(ending == Ending::Exited(0), format!("{ending:?}"))?;
    expect(support::processes_with(&marker).is_empty(), "processes are left")
}

fn run_builtin(
    kind: Confinement,
    name: &str,
    attributes: serde_json::Value,
) -> Result<(Ending, String, Scratch), Failed> {
    let mut scratch = Scratch::new(kind, "");
    scratch.spec.root = Root::Empty;
    scratch.spec.program = Program::Builtin {
        name: name.to_owned(),
        attributes: attributes.to_string(),
        outputs: vec![("out".to_owned(), "/nix/store/result".to_owned())],
    };
    let mut log = Vec::new();
    let ending = run(&scratch.spec, &control(), &mut |piece| log.extend_from_slice(piece))?;
    Ok((ending, String::from_utf8_lossy(&log).into_owned(), scratch))
}

fn builtin_runs(kind: Confinement) -> Result<(), Failed> {
    let (ending, log, scratch) = run_builtin(kind, "write", serde_json::json!({ "text": "hello" }))?;
    expect(ending == Ending::Exited(0), format!("{ending:?} {log}"))?;
    expect(std::fs::read_to_string(scratch.path("store/result"))? == "hello", "wrong output")?;
    let failed = |text: &str| Ending::BuiltinFailed(text.to_owned());
    let (ending, ..) = run_builtin(kind, "fail", serde_json::json!({}))?;
    expect(ending == failed("the file `x` is no archive"), format!("{ending:?}"))?;
    let (ending, log, _) = run_builtin(kind, "panic", serde_json::json!({}))?;
    expect(matches!(ending, Ending::BuiltinFailed(_)) && log.contains("a bug"), format!("{ending:?} {log}"))?;
    let (ending, ..) = run_builtin(kind, "absent", serde_json::json!({}))?;
    expect(ending == failed("this rednix has no builder `builtin:absent`"), format!("{ending:?}"))
}

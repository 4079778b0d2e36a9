//! Whole builds that fail, take too long, are interrupted or killed, or meet another rednix: what is told, and that
//! nothing half-made stays. Real sandboxes, real stores, no network.

mod support;

use std::process::{Command, Stdio};
use std::sync::Arc;

use libtest_mimic::Failed;
use rednix_build::Reason;
use rednix_events::Event;
use rednix_store::path::StorePath;
use support::world::{Recipe, World, builtins, clean, failure, fetchurl};
use support::{Folder, Test, expect};

/// First arguments that turn this test binary into another process of a test.
const RACER: &str = "racer";
const SMALL_DISK: &str = "small-disk";
const VICTIM: &str = "victim";

fn main() {
    rednix_build::child_main(&builtins());
    match std::env::args().nth(1).as_deref() {
        Some(RACER) => return racer(),
        Some(SMALL_DISK) => return small_disk_inside(),
        Some(VICTIM) => return victim(),
        _ => {}
    }
    support::run_all(TESTS, obstacle);
}

const TESTS: &[(&str, Test)] = &[
    ("a failing build says why", failures),
    ("a failing build shows the end of its log", log_tail),
    ("a failure stops what needs it, and no more with keep-going", keep_going),
    ("the folder of a failed build can be kept", keep_failed),
    ("what no store path may be", odd_outputs),
    ("builds end in time", time_outs),
    ("Ctrl-C leaves nothing", cancelled),
    ("two rednix build a thing once", two_at_once),
    ("a full disk is told and leaves a clean store", small_disk),
    ("killed in the middle, the next one goes on", killed),
    ("a bug ends the build it is in, and nothing waits for ever", bugs),
];

/// What keeps a single test from being run here.
fn obstacle(test: Test) -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let in_chroot = !mounts.lines().any(|line| line.split(' ').nth(4) == Some("/"));
    (in_chroot && std::ptr::fn_addr_eq(test, small_disk as Test))
        .then(|| "in a plain chroot no file system can be mounted without showing outside".to_owned())
}

fn failures() -> Result<(), Failed> {
    let world = World::new();
    let other_system = {
        let mut recipe = world.script("bad", "");
        recipe.derivation.system = b"riscv64-linux".to_vec();
        recipe
    };
    let no_builder = {
        let mut recipe = world.script("bad", "");
        recipe.derivation.builder = b"/usr/bin/absent".to_vec();
        recipe
    };
    let missing = StorePath::parse("/nix/store/0dzsnvb6wnk8fc2gwhllh91jlhbhkmcn-absent")?;
    let cases: Vec<(Recipe, &str)> = vec![
        (world.script("bad", "exit 7"), "its builder ended with exit status 7"),
        (world.script("bad", "kill -SEGV $$"), "its builder was ended by signal 11 (SIGSEGV)"),
        (world.script("bad", "true"), "it did not make its output `out` at"),
        (world.script("bad", "echo > $dev").floating(&["dev", "out"]), "it did not make its output `out` at"),
        (other_system, "it is for `riscv64-linux`, but this machine builds for x86_64-linux"),
        (no_builder, "cannot start the builder `/usr/bin/absent` in the sandbox"),
        (world.script("bad", "").variable("requiredSystemFeatures", "kvm"), "it requires the feature `kvm`"),
        (world.script("bad", "").variable("rednixRoot", "/usr"), "its `rednixRoot` names `/usr`"),
        (
            world.script("bad", "").variable("rednixRoot", &missing.to_string()),
            "`/nix/store/0dzsnvb6wnk8fc2gwhllh91jlhbhkmcn-absent`, which it needs, is not in the store",
        ),
    ];
    for (recipe, wanted) in cases {
        let error = failure(world.build(&recipe))?;
        let text = error.to_string();
        expect(
            text.starts_with("cannot build `bad`: ") && text.contains(wanted),
            format!("{wanted}: {text}"),
        )?;
    }
    clean(&world)
}

fn log_tail() -> Result<(), Failed> {
    let world = World::new();
    let recipe = world.script("noisy", "seq 1 100; echo last >&2; exit 1");
    let error = failure(world.build(&recipe))?;
    expect(error.log_tail.len() == 25 && error.log_tail[24] == "last", format!("{:?}", error.log_tail))?;
    let log = zstd::decode_all(std::fs::File::open(error.log_file.as_ref().expect("it is kept"))?)?;
    expect(log.starts_with(b"1\n2\n") && log.ends_with(b"100\nlast\n"), "the log is not whole")?;
    let events = world.recorder.events();
    let told = events
        .iter()
        .any(|event| matches!(event, Event::BuildFailed { log_tail, .. } if log_tail.len() == 25));
    expect(told, "no event")?;
    clean(&world)
}

fn keep_going() -> Result<(), Failed> {
    let mut world = World::new();
    let bad = world.write(&world.script("bad", "exit 1"));
    let blocked = world.write(&world.script("blocked", "echo > $out").needs("bad", &bad, "out"));
    let mut goal = world.script("goal", "echo > $out").needs("blocked", &blocked, "out");
    for index in 0..6 {
        let good =
            world.write(&world.script(&format!("good{index}"), &format!("sleep 0.1; echo {index} > $out")));
        goal = goal.needs(&format!("good{index}"), &good, "out");
    }
    world.config.max_jobs = 1;
    let errors = world.build(&goal).err().ok_or("it was built")?;
    expect(errors.failed.len() == 1 && errors.failed[0].name() == "bad", format!("{errors}"))?;
    expect(
        errors.to_string().contains("other derivations were not built because of this"),
        format!("{errors}"),
    )?;
    expect(world.started() == ["bad"], format!("{:?}", world.started()))?;
    world.config.keep_going = true;
    let errors = world.build(&goal).err().ok_or("it was built")?;
    let not_tried: Vec<&str> = errors.not_tried.keys().map(StorePath::name).collect();
    expect(world.started().len() == 1 + 7, format!("{:?}", world.started()))?;
    expect(not_tried.len() == 2, format!("{not_tried:?}"))?;
    clean(&world)
}

fn keep_failed() -> Result<(), Failed> {
    let mut world = World::new();
    world.config.keep_failed = true;
    let error = failure(world.build(&world.script("bad", "echo clue > clue; exit 1")))?;
    let kept = error.kept.clone().ok_or("nothing was kept")?;
    expect(std::fs::read_to_string(kept.join("clue"))? == "clue\n", "the folder is not the build's")?;
    expect(error.to_string().contains(&kept.display().to_string()), format!("{error}"))?;
    world.config.keep_failed = false;
    let error = failure(world.build(&world.script("bad", "exit 2")))?;
    expect(error.kept.is_none(), "something was kept")
}

fn odd_outputs() -> Result<(), Failed> {
    let world = World::new();
    let cases = [("mkfifo $out", "device"), ("mkdir $out; mkfifo $out/x", "device")];
    for (script, wanted) in cases {
        let error = failure(world.build(&world.script("odd", script)))?;
        expect(error.to_string().contains(wanted), format!("{script}: {error}"))?;
    }
    // Strange modes and links become what every store path is.
    let script =
        "mkdir -p $out/shut; echo a > $out/shut/a; echo b > $out/b; chmod 000 $out/b; ln $out/b $out/c
                  echo x > $out/x; chmod 4711 $out/x || chmod 711 $out/x; chmod 000 $out/shut";
    let outputs = world.build(&world.script("modes", script))?;
    use std::os::unix::fs::MetadataExt;
    let real = world.store.real_path(&outputs["out"]);
    for (name, mode) in [("", 0o40555), ("b", 0o100444), ("c", 0o100444), ("x", 0o100555), ("shut", 0o40555)]
    {
        let status = std::fs::symlink_metadata(if name.is_empty() { real.clone() } else { real.join(name) })?;
        expect(status.mode() == mode, format!("`{name}` has mode {:o}", status.mode()))?;
        expect(status.mtime() == 1 || name == "shut", format!("`{name}` has time {}", status.mtime()))?;
        expect(status.is_dir() || status.nlink() == 1, format!("`{name}` has other names"))?;
    }
    clean(&world)
}

fn time_outs() -> Result<(), Failed> {
    let mut world = World::new();
    support::patiently(|limit| {
        world.config.timeout_total = Some(limit);
        let error = failure(world.build(&world.script("slow", "echo begun; (sleep 1000) & sleep 1000")))?;
        expect(matches!(error.reason, Reason::TimedOut(_)), format!("{error}"))?;
        expect(error.log_tail == ["begun"], "the log is lost")
    })?;
    world.config.timeout_total = None;
    world.config.timeout_silence = Some(std::time::Duration::from_millis(700));
    let error = failure(world.build(&world.script("still", "sleep 1000")))?;
    expect(matches!(error.reason, Reason::Silent(_)), format!("{error}"))?;
    clean(&world)
}

fn cancelled() -> Result<(), Failed> {
    let world = World::new();
    let mark = support::mark();
    let done = world.write(&world.script("done", "echo done > $out"));
    let script = format!("mkdir $out; echo half > $out/x; sleep {mark} & sleep {mark}");
    let recipe = world.script("long", &script).needs("done", &done, "out");
    let result = std::thread::scope(|scope| {
        let canceller = scope.spawn(|| {
            let begun = support::until("both sleep", || support::sleepers(&mark).len() == 2);
            world.cancel.cancel();
            begun
        });
        let result = world.build(&recipe);
        canceller.join().expect("the canceller does not panic").map(|()| result)
    })?;
    let errors = result.err().ok_or("it was built")?;
    expect(
        errors.cancelled && errors.to_string() == "interrupted; what was built before stays built",
        format!("{errors}"),
    )?;
    expect(support::processes_with(&mark).is_empty(), "processes are left")?;
    let mut world = world;
    world.cancel = rednix_build::CancelToken::new()?;
    world.build_path(&done)?;
    expect(world.started() == ["done", "long"], "what was built before is lost")?;
    clean(&world)
}

fn race_recipe(world: &World) -> Recipe {
    world.script("race", "sleep 1; mkdir $out; echo won > $out/x")
}

/// Another rednix with the same store; prints what it started.
fn racer() {
    let root = std::env::args().nth(2).expect("the test passes the root");
    let mut world = World::new();
    world.store = Arc::new(
        rednix_store::store::Store::open(root, rednix_store::store::OpenOptions::default())
            .expect("it opens"),
    );
    let outputs = world.build(&race_recipe(&world)).unwrap_or_else(|errors| panic!("{errors}"));
    print!("{} {}", world.started().len(), outputs["out"]);
}

fn two_at_once() -> Result<(), Failed> {
    let world = World::new();
    let elsewhere = Folder::new();
    let racer = Command::new(std::env::current_exe()?)
        .env("TMPDIR", elsewhere.path())
        .args([RACER, world.root().to_str().expect("it is text")])
        .stdout(Stdio::piped())
        .spawn()?;
    let ours = std::thread::scope(|scope| {
        let builds: Vec<_> = (0..2).map(|_| scope.spawn(|| world.build(&race_recipe(&world)))).collect();
        builds.into_iter().map(|build| build.join().expect("no panic")).collect::<Result<Vec<_>, _>>()
    })?;
    let output = racer.wait_with_output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (theirs, path) = text.split_once(' ').ok_or_else(|| format!("the other said {text:?}"))?;
    expect(ours.iter().all(|outputs| outputs["out"].to_string() == path), "different results")?;
    let count = world.started().len() + theirs.parse::<usize>()?;
    expect(count == 1, format!("it was built {count} times"))?;
    clean(&world)
}

fn slow_recipe(world: &World, mark: &str) -> Recipe {
    let early = world.write(&world.script("early", "echo early > $out"));
    let script = format!("echo half > $out; sleep {mark} || :");
    world.script("slow", &script).needs("early", &early, "out")
}

/// Another rednix, which is going to be killed.
fn victim() {
    let argument = |index| std::env::args().nth(index).expect("the test passes it");
    let mut world = World::new();
    world.store = Arc::new(
        rednix_store::store::Store::open(argument(2), rednix_store::store::OpenOptions::default())
            .expect("it opens"),
    );
    let _ = world.build(&slow_recipe(&world, &argument(3)));
}

fn killed() -> Result<(), Failed> {
    let (world, elsewhere) = (World::new(), Folder::new());
    let mark = support::mark();
    let mut victim = Command::new(std::env::current_exe()?)
        .args([VICTIM, world.root().to_str().expect("it is text"), &mark])
        .env("TMPDIR", elsewhere.path())
        .spawn()?;
    support::until("the other rednix builds", || !support::sleepers(&mark).is_empty())?;
    victim.kill()?;
    victim.wait()?;
    support::none_left(&mark)?;
    let early = world.write(&world.script("early", "echo early > $out"));
    world.build_path(&early)?;
    expect(world.started().is_empty(), "what was built before is lost")?;
    // The same derivation with the same lock: nothing of the killed one is in its way.
    std::thread::scope(|scope| {
        let build = scope.spawn(|| world.build(&slow_recipe(&world, &mark)));
        let woken = support::wake(&mark);
        build.join().expect("the build does not panic")?;
        woken.map_err(Failed::from)
    })?;
    expect(world.started() == ["slow"], format!("{:?}", world.started()))?;
    world.store.gc(&rednix_store::store::GcOptions::default())?;
    clean(&world)
}

struct PanickingBackend;

impl rednix_build::Backend for PanickingBackend {
    fn run(
        &self,
        _: &rednix_build::BuildRequest,
        _: &rednix_build::sandbox::Control,
        _: &mut dyn FnMut(&[u8]),
    ) -> Result<rednix_build::BuildOutcome, rednix_build::backend::BackendError> {
        panic!("a bug in a backend");
    }
}

struct PanickingFetch;

impl rednix_build::Fetch for PanickingFetch {
    fn handles(&self, _: &str) -> bool {
        true
    }

    fn fetch(
        &self,
        _: &[rednix_build::FetchRequest],
        _: &rednix_build::CancelToken,
        _: &rednix_events::Events,
        _: &(dyn Fn(usize, Result<(), String>) + Sync),
    ) {
        panic!("a bug in a fetcher");
    }
}

fn bugs() -> Result<(), Failed> {
    let mut world = World::new();
    let wanted = [rednix_build::Wanted::all(&world.write(&world.script("x", "")))];
    let errors = world.builder_with(Arc::new(PanickingBackend)).build(&wanted).err().ok_or("it was built")?;
    expect(matches!(errors.failed[0].reason, Reason::Panicked), format!("{errors}"))?;
    world.fetch = Arc::new(PanickingFetch);
    let error = failure(world.build(&fetchurl("y", "u:y", b"y")))?;
    expect(matches!(error.reason, Reason::Panicked), format!("{error}"))?;
    clean(&world)
}

/// Runs with a store on a file system of 60 MiB, in a mount namespace of this process.
#[allow(unsafe_code)]
fn small_disk_inside() {
    use rustix::mount::{MountFlags, MountPropagationFlags};
    use rustix::thread::UnshareFlags;
    let folder = std::path::PathBuf::from(std::env::args().nth(2).expect("the test passes a folder"));
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let flags = match user.is_root() {
        true => UnshareFlags::NEWNS,
        false => UnshareFlags::NEWNS | UnshareFlags::NEWUSER,
    };
    // SAFETY: this process has a single thread and has opened nothing that depends on its namespaces.
    unsafe { rustix::thread::unshare_unsafe(flags) }.expect("namespaces can be made");
    if !user.is_root() {
        let write = |name: &str, text: String| std::fs::write(format!("/proc/self/{name}"), text).unwrap();
        write("setgroups", "deny".to_owned());
        write("uid_map", format!("{0} {0} 1", user.as_raw()));
        write("gid_map", format!("{0} {0} 1", group.as_raw()));
    }
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    rustix::mount::mount_change("/", private).expect("mounts can be made private");
    rustix::mount::mount("tmpfs", &folder, "tmpfs", MountFlags::empty(), c"size=60m,mode=0755")
        .expect("a small file system can be mounted");
    let world = World::at(Folder::below(&folder));
    for script in [
        // The builder itself finds no space.
        "mkdir $out; i=0; while head -c 4000000 /dev/zero > $out/$i; do i=$((i + 1)); done; exit 1",
        // The builder fits, the copy of its output does not.
        "mkdir $out; i=0; while [ $i -lt 30 ]; do head -c 1000000 /dev/zero > $out/$i; i=$((i + 1)); done",
    ] {
        match world.build(&world.script("large", script)) {
            Ok(_) => println!("it was built"),
            Err(errors) => println!("{errors}"),
        }
    }
    match world.check_clean() {
        Ok(()) => println!("clean"),
        Err(problem) => println!("{problem}"),
    }
    let fits = world.build(&world.script("small", "echo fits > $out"));
    println!("{}", if fits.is_ok() { "fits" } else { "does not fit" });
}

fn small_disk() -> Result<(), Failed> {
    let (folder, elsewhere) = (Folder::new(), Folder::new());
    let output = Command::new(std::env::current_exe()?)
        .args([SMALL_DISK, folder.text()])
        .env("TMPDIR", elsewhere.path())
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let full = text.matches("free some space there").count();
    let errors = String::from_utf8_lossy(&output.stderr);
    expect(full == 2, format!("told {full} times: {text}{errors}"))?;
    expect(text.ends_with("clean\nfits\n"), format!("{text}{errors}"))
}

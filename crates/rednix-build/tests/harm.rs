//! Builders that try what builders of Nix have got away with, one test for each class of hole, named after it. Each
//! tries the harm in a real sandbox and a real store, and looks whether it was done. `SECURITY.md` lists them.

mod support;

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use libtest_mimic::Failed;
use support::world::{World, builtins, clean, exists};
use support::{Test, expect};

fn main() {
    rednix_build::child_main(&builtins());
    support::run_all(TESTS, |_| None);
}

const TESTS: &[(&str, Test)] = &[
    ("cve_2024_27297_output_changed_after_registration", changed_after_registration),
    ("cve_2025_46416_descriptors_kept_open", descriptors_kept_open),
    ("cve_2024_38531_setuid_and_open_build_folders", setuid_and_open_folders),
    ("cve_2025_46415_links_in_what_is_deleted", links_in_what_is_deleted),
    ("cve_2025_52991_build_folders_are_new_and_closed", build_folders_are_new_and_closed),
    ("cve_2025_52992_failed_builds_leave_nothing_to_change", failed_builds_leave_nothing),
    ("cve_2025_52993_owners_of_what_links_point_to", owners_of_what_links_point_to),
    ("cve_2026_39860_links_in_place_of_outputs", links_in_place_of_outputs),
    ("hard_links_to_inputs", hard_links_to_inputs),
    ("other_builds_and_the_database", other_builds_and_the_database),
    ("trees_that_are_too_deep_or_too_large", too_deep_or_too_large),
    ("names_as_long_as_they_can_be", longest_names),
    ("special_files_in_outputs", special_files),
];

/// A process that its builder leaves behind goes on writing to the output.
fn changed_after_registration() -> Result<(), Failed> {
    let world = World::new();
    let script = "echo right > $out
        (trap '' HUP TERM; while :; do echo changed > $out; echo changed >> /build/x; done) > /dev/null 2>&1 &
        echo right > $out; exit 0";
    // What the race leaves is not known, only that it stays as it was registered.
    let outputs = world.build(&world.script("racing", script))?;
    let before = world.read(&outputs["out"], "");
    std::thread::sleep(Duration::from_millis(300));
    expect(world.read(&outputs["out"], "") == before, "the output changed")?;
    clean(&world)
}

/// The same through a descriptor opened before the end: the file that is registered is another one.
fn descriptors_kept_open() -> Result<(), Failed> {
    let world = World::new();
    let script = "echo right > $out; stat -c %i $out > /build/inode; exec 7<>$out; stat -c %i $out; \
                  (sleep 1; echo changed >&7) & exit 0";
    let outputs = world.build(&world.script("holding", script))?;
    let real = world.store.real_path(&outputs["out"]);
    std::thread::sleep(Duration::from_millis(1300));
    expect(world.read(&outputs["out"], "") == "right\n", "the output changed")?;
    expect(std::fs::symlink_metadata(real)?.nlink() == 1, "the output has other names")?;
    clean(&world)
}

fn setuid_and_open_folders() -> Result<(), Failed> {
    let world = World::new();
    let script = "mkdir $out; for m in 4755 2755 6777 1777; do echo > $out/$m; chmod $m $out/$m || :; done; \
                  mkdir $out/d; chmod 7777 $out/d || :; chmod 777 /build || :";
    let outputs = world.build(&world.script("setuid", script))?;
    let real = world.store.real_path(&outputs["out"]);
    for name in ["4755", "2755", "6777", "1777", "d"] {
        let mode = std::fs::symlink_metadata(real.join(name))?.mode() & 0o7777;
        expect(matches!(mode, 0o444 | 0o555), format!("`{name}` has mode {mode:o}"))?;
    }
    // Whatever a builder does to its own folder: the one above lets nobody else in.
    let scratch = world.store.scratch_dir("build")?;
    let mode = std::fs::symlink_metadata(scratch.path())?.mode() & 0o7777;
    expect(mode == 0o700, format!("build folders have mode {mode:o}"))?;
    drop(scratch);
    clean(&world)
}

/// Everything a builder leaves is deleted; what its links point to is not.
fn links_in_what_is_deleted() -> Result<(), Failed> {
    let world = World::new();
    let canary = world.folder.path().join("canary");
    std::fs::create_dir(&canary)?;
    std::fs::write(canary.join("file"), "here")?;
    let to = canary.display();
    let script = format!(
        "mkdir -p d/e; ln -s {to} link; ln -s {to} d/link; ln -s {to}/file d/e/file; ln -s / root; \
         (while :; do rm -rf d/e; ln -sfn {to} d/e; rm -f d/e; mkdir d/e; done) > /dev/null 2>&1 & \
         echo done > $out; chmod 000 d || :"
    );
    world.build(&world.script("links", &script))?;
    world.build(&world.script("failing", &format!("ln -s {to} $out; ln -s {to} x; exit 1"))).unwrap_err();
    expect(std::fs::read_to_string(canary.join("file"))? == "here", "something outside was deleted")?;
    clean(&world)
}

/// CVE-2025-52991: nobody can have put anything into a build folder beforehand, and nobody else gets into one.
fn build_folders_are_new_and_closed() -> Result<(), Failed> {
    let world = World::new();
    world.build(
        &world.script("planting", "umask 0; echo > /build/planted; echo > /tmp/planted; echo x > $out"),
    )?;
    let mark = support::mark();
    let finding =
        format!("test ! -e /build/planted; test ! -e /tmp/planted; echo y > $out; sleep {mark} || :");
    let finding = world.write(&world.script("finding", &finding));
    let modes = std::thread::scope(|scope| {
        let build = scope.spawn(|| world.build_path(&finding));
        let mut modes = std::collections::BTreeSet::new();
        while !build.is_finished() {
            let is_waiting = !support::sleepers(&mark).is_empty();
            for entry in std::fs::read_dir(world.store.layout().scratch()).into_iter().flatten().flatten() {
                modes.extend(entry.metadata().map(|metadata| metadata.mode() & 0o7777));
            }
            // It was looked at in the middle of the build, whenever else it was.
            if is_waiting {
                support::wake(&mark).expect("it sleeps");
                break;
            }
        }
        build.join().expect("the build does not panic").map(|_| modes)
    })?;
    expect(modes.iter().copied().eq([0o700]), format!("folders of builds have the modes {modes:?}"))?;
    clean(&world)
}

/// CVE-2025-52992: what a failed build leaves has no name any more, and who holds it open changes nothing of the store.
fn failed_builds_leave_nothing() -> Result<(), Failed> {
    let world = World::new();
    let script = "umask 0; mkdir $out; echo wrong > $out/file; chmod 777 $out $out/file; exec 7<>$out/file; \
                  (trap '' HUP TERM; sleep 1; echo changed >&7; echo changed > $out/file) > /dev/null 2>&1 & exit 1";
    let recipe = world.script("failing", script).input_addressed(&["out"]);
    world.build(&recipe).unwrap_err();
    clean(&world)?;
    std::thread::sleep(Duration::from_millis(1300));
    clean(&world)?;
    expect(world.store.all_valid_paths()?.iter().all(|path| path.name() != "failing"), "it is registered")
}

/// CVE-2025-52993: what a builder leaves is given its modes and owner, and nothing that it swaps for a link meanwhile.
fn owners_of_what_links_point_to() -> Result<(), Failed> {
    let world = World::new();
    let canary = world.folder.path().join("canary");
    std::fs::create_dir(&canary)?;
    std::fs::write(canary.join("file"), "here")?;
    let state = || {
        [canary.clone(), canary.join("file")].map(|path| {
            let metadata = std::fs::symlink_metadata(path).expect("the canary is there");
            // Whatever changes an owner, a mode or a time changes the last one.
            (metadata.uid(), metadata.gid(), metadata.mode(), metadata.ctime(), metadata.ctime_nsec())
        })
    };
    let (before, to) = (state(), canary.display());
    let script = format!(
        "mkdir -p $out/d; ln -s {to} $out/link; ln -s {to}/file $out/file; \
         (trap '' HUP TERM; while :; do rm -rf $out/d; ln -sfn {to} $out/d; rm -f $out/d; mkdir $out/d; \
         echo > $out/d/file; done) > /dev/null 2>&1 & sleep 0.3; exit $STATUS"
    );
    for status in ["0", "1"] {
        let recipe = world.script("swapping", &script).variable("STATUS", status);
        expect(world.build(&recipe).is_ok() == (status == "0"), "the build ends otherwise")?;
        expect(state() == before, "something outside got another owner, mode or time")?;
    }
    clean(&world)
}

/// A link where an output belongs is registered as that link: nothing behind it is read or changed.
fn links_in_place_of_outputs() -> Result<(), Failed> {
    let world = World::new();
    let secret = world.folder.path().join("secret");
    std::fs::write(&secret, "secret")?;
    let to = secret.display();
    let outputs = world.build(&world.script("link", &format!("ln -s {to} $out")))?;
    let real = world.store.real_path(&outputs["out"]);
    expect(std::fs::symlink_metadata(&real)?.is_symlink(), "the output is no link")?;
    let script = format!("mkdir $out; ln -s {to} $out/x; ln -s .. $out/up; ln -s /etc $out/etc");
    let outputs = world.build(&world.script("links", &script))?;
    let real = world.store.real_path(&outputs["out"]);
    for name in ["x", "up", "etc"] {
        expect(std::fs::symlink_metadata(real.join(name))?.is_symlink(), format!("`{name}` is no link"))?;
    }
    let metadata = std::fs::symlink_metadata(&secret)?;
    expect(metadata.mode() & 0o7777 != 0o444 && metadata.mtime() != 1, "something outside was changed")?;
    clean(&world)
}

/// An output that is another name of an input would let one be changed through the other.
fn hard_links_to_inputs() -> Result<(), Failed> {
    let world = World::new();
    let input = world.write(&world.script("input", "mkdir $out; echo input > $out/file"));
    let script = "mkdir $out; ln $input/file $out/file 2>/dev/null || cp $input/file $out/file
        ln $out/file $out/twin; ln $out/file /build/held 2>/dev/null || :; chmod 666 $out/file 2>/dev/null || :";
    let outputs = world.build(&world.script("linking", script).needs("input", &input, "out"))?;
    for name in ["file", "twin"] {
        let metadata = std::fs::symlink_metadata(world.store.real_path(&outputs["out"]).join(name))?;
        expect(metadata.nlink() == 1, format!("`{name}` has {} names", metadata.nlink()))?;
        expect(metadata.mode() & 0o7777 == 0o444, format!("`{name}` has mode {:o}", metadata.mode()))?;
    }
    clean(&world)
}

/// While another build runs, nothing of it, and nothing of the store beside the inputs, can be seen.
fn other_builds_and_the_database() -> Result<(), Failed> {
    let mut world = World::new();
    world.config.max_jobs = 2;
    let hidden = world.store.add_text("hidden", b"hidden", &Default::default())?;
    let (held, mark) = (support::mark(), support::mark());
    let other = format!("echo secret > /build/secret; sleep {held} || :; echo > $out");
    let other = world.write(&world.script("other", &other));
    let root = world.root();
    let script = format!(
        "sleep {mark} || :; ls /nix/store; for f in /nix/var {root} {root}/nix/var/nix/db/db.sqlite {hidden} /build/secret; \
         do [ -e $f ] && echo reached $f; done; for p in /proc/[0-9]*; do cat $p/environ 2>/dev/null; done | \
         (while read -r -d '' v; do case $v in name=other) echo saw the other build;; esac; done); echo done > $out",
        root = root.display(),
    );
    let looking = world.write(&world.script("looking", &script));
    let wanted = [&other, &looking].map(rednix_build::Wanted::all);
    // It looks while the other one is in the middle of its work.
    std::thread::scope(|scope| {
        let both = scope.spawn(|| world.builder().build(&wanted));
        let ordered = support::until("the other build is at work", || !support::sleepers(&held).is_empty())
            .and_then(|()| support::wake(&mark))
            .and_then(|()| support::none_left(&mark))
            .and_then(|()| support::wake(&held));
        let built = both.join().expect("the builds do not panic");
        built.map_err(|errors| Failed::from(errors.to_string()))?;
        ordered.map_err(Failed::from)
    })?;
    let log = world.store.log_path(&looking);
    expect(exists(&log), "there is no log")?;
    let log = String::from_utf8(zstd::decode_all(std::fs::File::open(log)?)?)?;
    expect(!log.contains("reached") && !log.contains("saw"), log.clone())?;
    let seen: Vec<&str> = log.lines().filter(|line| !line.is_empty()).collect();
    expect(seen == [world.layer.basename()], format!("in /nix/store: {seen:?}"))?;
    clean(&world)
}

/// Depths and sizes that cost a builder nothing must not cost anyone else much.
fn too_deep_or_too_large() -> Result<(), Failed> {
    let world = World::new();
    let deep = "mkdir $out; cd $out; for i in {1..300}; do mkdir d; cd d; done";
    let errors = world.build(&world.script("deep", deep)).unwrap_err().to_string();
    expect(errors.contains("deeper"), errors)?;
    let deep = "echo > $out; for i in {1..400}; do mkdir d; cd d; done";
    world.build(&world.script("deep-elsewhere", deep))?;
    let started = std::time::Instant::now();
    // Eight exbibytes of nothing.
    let sparse = "head -c 0 /dev/null > $out; truncate -s 8191P $out 2>/dev/null || truncate -s 15T $out";
    let errors = world.build(&world.script("sparse", sparse)).unwrap_err().to_string();
    expect(errors.contains("space"), errors)?;
    // Whoever reads it all is at it for days.
    expect(started.elapsed() < support::HUNG_AFTER, format!("it took {:?}", started.elapsed()))?;
    clean(&world)
}

/// 255 bytes, of which some are no text, twice linked: nothing that is done to outputs makes them longer.
fn longest_names() -> Result<(), Failed> {
    let world = World::new();
    let script = "mkdir $out; cd $out; n=$(printf 'x%.0s' {1..251}); echo a > \"$n\"$'\\xff\\xfe\\x01\\n'; \
                  ln \"$n\"* \"${n}abcd\"; chmod 000 \"${n}abcd\"; mkdir \"${n}efgh\"; ln -s \"$n\" \"${n}ijkl\"";
    let outputs = world.build(&world.script("long", script))?;
    let names = std::fs::read_dir(world.store.real_path(&outputs["out"]))?;
    let names: Vec<usize> =
        names.map(|entry| entry.map(|entry| entry.file_name().len())).collect::<Result<_, _>>()?;
    expect(names == [255; 4], format!("{names:?}"))?;
    clean(&world)
}

/// Pipes and sockets are no contents: the output is refused, and the store is as it was.
fn special_files() -> Result<(), Failed> {
    let world = World::new();
    for script in ["mkfifo $out", "mkdir -p $out/d; mkfifo $out/d/pipe"] {
        let errors = world.build(&world.script("special", script)).unwrap_err().to_string();
        expect(errors.contains("a device, a socket or a pipe"), errors)?;
    }
    clean(&world)
}

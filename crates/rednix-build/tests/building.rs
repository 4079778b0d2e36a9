//! Whole builds in stores of their own: what is built and what is not, in which order, and what outputs become. Real
//! sandboxes, real stores, no network. Builds that fail or are ended are in `endings.rs`.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Failed;
use rednix_build::Reason;
use rednix_events::Event;
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::nar;
use rednix_store::path::{ContentMethod, StorePath};
use support::world::{FakeFetch, Recipe, World, builtins, clean, exists, failure, fetchurl};
use support::{Folder, Test, expect};

fn main() {
    rednix_build::child_main(&builtins());
    support::run_all(TESTS, |_| None);
}

const TESTS: &[(&str, Test)] = &[
    ("a build runs once", runs_once),
    ("references are found", references),
    ("an unchanged result stops the rebuild", early_cutoff),
    ("outputs that refer to themselves and each other", rewriting),
    ("outputs in a circle are refused", output_cycle),
    ("input-addressed below floating", deferred),
    ("fixed outputs are checked", fixed_outputs),
    ("builtins and structured attributes", builtin_builders),
    ("fetches are checked and not repeated", fetches),
    ("only what is needed is touched", needed_only),
    ("a farm serves where overlays are denied", farm),
    ("any graph is built in order and once", any_graph),
    ("a second build is compared, and replaces nothing", second_build),
    ("what was fetched is hashed again", hashed_again),
    ("phases are told", phases),
    ("a working copy is built incrementally", working_copy),
    ("many builds at a time", wide_graph),
    ("nothing to do takes no work", no_op),
];

fn runs_once() -> Result<(), Failed> {
    let world = World::new();
    let layers = format!("{0} {0}", world.layer);
    let recipe = world.script("hello", "mkdir $out; echo hello $SOURCE_DATE_EPOCH > $out/x; echo built");
    let recipe = recipe.variable("rednixRoot", &layers);
    let first = world.build(&recipe)?;
    expect(world.read(&first["out"], "x") == "hello 1\n", "wrong contents")?;
    expect(first["out"].name() == "hello", "wrong name")?;
    expect(world.build(&recipe)? == first && world.started() == ["hello"], "it was built twice")?;
    let info = world.store.path_info(&first["out"])?.expect("it is valid");
    expect(info.content_address.is_some_and(|text| text.starts_with("fixed:r:sha256:")), "no address")?;
    expect(info.deriver == Some(world.write(&recipe)) && info.ultimate, "wrong deriver")?;
    let log = world.store.log_path(&world.write(&recipe));
    let log = zstd::decode_all(std::fs::File::open(log)?)?;
    expect(log == b"built\n", "the log is not kept")?;
    let lines = world.recorder.events();
    expect(
        lines.iter().any(|event| matches!(event, Event::BuildLog { line, .. } if line == "built")),
        "no event",
    )?;
    clean(&world)
}

fn references() -> Result<(), Failed> {
    let world = World::new();
    let lower = world.write(&world.script("lower", "mkdir $out; echo lower > $out/x"));
    let unused = world.write(&world.script("unused", "echo unused > $out"));
    let upper = world
        .script(
            "upper",
            "read -r text < $lower/x; mkdir $out; echo $text > $out/text; ln -s $lower $out/link",
        )
        .needs("lower", &lower, "out")
        .needs("unused", &unused, "out");
    let upper = world.build(&upper)?["out"].clone();
    let lower = world.build_path(&lower)?["out"].clone();
    expect(world.read(&upper, "text") == "lower\n", "the input was not seen")?;
    let references = world.store.references(&upper)?;
    expect(references == [lower].into(), format!("wrong references: {references:?}"))?;
    clean(&world)
}

fn early_cutoff() -> Result<(), Failed> {
    let world = World::new();
    let graph = |comment: &str, text: &str| {
        let low = world.write(&world.script("low", &format!(": {comment}; echo {text} > $out")));
        let middle = world.script("middle", "cat $low > $out; echo middle >> $out").needs("low", &low, "out");
        let middle = world.write(&middle);
        world.script("top", "cat $middle > $out; echo top >> $out").needs("middle", &middle, "out")
    };
    let first = world.build(&graph("one", "a"))?;
    expect(world.started() == ["low", "middle", "top"], format!("{:?}", world.started()))?;
    let second = world.build(&graph("two", "a"))?;
    expect(first == second, "the same contents have different paths")?;
    expect(world.started().len() == 4, format!("more than `low` was built: {:?}", world.started()))?;
    let third = world.build(&graph("two", "b"))?;
    expect(third != first && world.started().len() == 7, format!("{:?}", world.started()))?;
    // Known from the start now: nothing below the goal is even looked at.
    expect(world.build(&graph("two", "a"))? == first && world.started().len() == 7, "built again")?;
    clean(&world)
}

fn rewriting() -> Result<(), Failed> {
    let world = World::new();
    let script = "mkdir -p $out/bin $dev; echo $out > $out/self; echo $dev > $out/other; echo plain > $doc
                  ln -s $out/bin $out/link; echo $doc > $dev/doc; echo x > $out/bin/$(echo $out | head -c 43 | cat -n >/dev/null; echo n)";
    let recipe = world.script("multi", script).floating(&["dev", "doc", "out"]);
    let outputs = world.build(&recipe)?;
    let (out, dev, doc) = (&outputs["out"], &outputs["dev"], &outputs["doc"]);
    expect(dev.name() == "multi-dev" && out.name() == "multi", "wrong names")?;
    expect(world.read(out, "self") == format!("{out}\n"), "the self-reference is not rewritten")?;
    expect(world.read(out, "other") == format!("{dev}\n"), "the reference to `dev` is not rewritten")?;
    expect(world.read(dev, "doc") == format!("{doc}\n"), "the reference to `doc` is not rewritten")?;
    let link = std::fs::read_link(world.store.real_path(out).join("link"))?;
    expect(link.to_str() == Some(&format!("{out}/bin")), format!("{link:?}"))?;
    expect(world.store.references(out)? == [out.clone(), dev.clone()].into(), "references of out")?;
    expect(world.store.references(dev)? == [doc.clone()].into(), "references of dev")?;
    // Another derivation with the same result must get the same paths, though it was built elsewhere.
    let same = world.script("multi", &format!("{script}; : other")).floating(&["dev", "doc", "out"]);
    expect(world.build(&same)? == outputs, "the paths depend on more than the contents")?;
    clean(&world)
}

fn output_cycle() -> Result<(), Failed> {
    let world = World::new();
    let recipe = world.script("circle", "echo $b > $a; echo $a > $b").floating(&["a", "b"]);
    let error = failure(world.build(&recipe))?;
    expect(matches!(&error.reason, Reason::OutputCycle(names) if names == "a, b"), format!("{error}"))?;
    clean(&world)
}

fn deferred() -> Result<(), Failed> {
    let world = World::new();
    let low = world.write(&world.script("low", "echo low > $out"));
    let recipe = world
        .script("addressed", "mkdir $out; cat $low > $out/x; echo $out > $out/self")
        .needs("low", &low, "out")
        .input_addressed(&["out"]);
    let first = world.build(&recipe)?;
    expect(world.read(&first["out"], "x") == "low\n", "wrong contents")?;
    expect(world.read(&first["out"], "self") == format!("{}\n", first["out"]), "wrong self-reference")?;
    expect(world.build(&recipe)? == first && world.started().len() == 2, "built again")?;
    let plain = world.script("plain", "echo plain > $out").input_addressed(&["out"]);
    let plain = world.build(&plain)?;
    expect(world.read(&plain["out"], "") == "plain\n", "wrong contents")?;
    clean(&world)
}

fn fixed_outputs() -> Result<(), Failed> {
    let world = World::new();
    let flat = world.script("flat", "echo -n abc > $out").fixed(ContentMethod::Flat, Hash::sha256(b"abc"));
    let outputs = world.build(&flat)?;
    expect(world.read(&outputs["out"], "") == "abc", "wrong contents")?;
    let wrong = world.script("wrong", "echo -n abd > $out").fixed(ContentMethod::Flat, Hash::sha256(b"abc"));
    let error = failure(world.build(&wrong))?;
    let told = matches!(&error.reason, Reason::WrongHash { wanted, found }
        if *wanted == Hash::sha256(b"abc").to_sri() && *found == Hash::sha256(b"abd").to_sri());
    expect(told, format!("{error}"))?;
    let tree = nar::Tree::file("abc");
    let (hash, _) = tree.hash(HashAlgorithm::Sha512)?;
    let recursive = world.script("tree", "echo -n abc > $out").fixed(ContentMethod::Recursive, hash);
    world.build(&recursive)?;
    let referring = format!("echo {} > $out", world.layer);
    let hash = Hash::sha256(format!("{}\n", world.layer).as_bytes());
    let error = failure(world.build(&world.script("ref", &referring).fixed(ContentMethod::Flat, hash)))?;
    expect(error.to_string().contains("must not refer to"), format!("{error}"))?;
    clean(&world)
}

fn builtin_builders() -> Result<(), Failed> {
    let world = World::new();
    let text = world.write(&world.builtin("text", "write", serde_json::json!({ "text": "hello" })));
    let placeholder = rednix_store::derivation::upstream_placeholder(&text, "out");
    let copy = world.builtin("copy", "copy", serde_json::json!({ "src": placeholder }));
    let copy = world.build(&copy.needs("src", &text, "out"))?;
    expect(world.read(&copy["out"], "") == "hello", "wrong contents")?;
    let error = failure(world.build(&world.builtin("bad", "fail", serde_json::json!({}))))?;
    expect(error.to_string() == "cannot build `bad`: the file `x` is no archive", format!("{error}"))?;
    let error = failure(world.build(&world.builtin("bad", "absent", serde_json::json!({}))))?;
    expect(error.to_string().contains("no builder `builtin:absent`"), format!("{error}"))?;
    let json = serde_json::json!({
        "rednixRoot": [world.layer.to_string()],
        "list": ["a b", "c"],
        "requiredSystemFeatures": ["rednix"],
    });
    let script = "source .attrs.sh; [ -e .attrs.json ]; /usr/bin/mkdir ${outputs[out]}; echo \"${list[0]}\" > ${outputs[out]}/x";
    let recipe =
        world.script("structured", script).without("rednixRoot").variable("__json", &json.to_string());
    let outputs = world.build(&recipe)?;
    expect(world.read(&outputs["out"], "x") == "a b\n", "wrong contents")?;
    clean(&world)
}

fn fetches() -> Result<(), Failed> {
    let mut world = World::new();
    let urls = [("u:a", b"a".to_vec()), ("u:wrong", b"other".to_vec())];
    world.fetch = Arc::new(FakeFetch(urls.map(|(url, bytes)| (url.to_owned(), bytes)).into()));
    let a = world.write(&fetchurl("a", "u:a", b"a"));
    let path = world.store.read_derivation(&a)?.output_path("out").cloned().expect("it is fixed");
    let user = world.script("user", "cat $a > $out").needs_known("a", &a, &path);
    let outputs = world.build(&user)?;
    expect(world.read(&outputs["out"], "") == "a", "wrong contents")?;
    // From now on the fetcher has nothing, and must not be asked.
    world.fetch = Arc::new(FakeFetch(BTreeMap::from([("u:wrong".to_owned(), b"other".to_vec())])));
    world.config.offline = true;
    world.build(&user)?;
    world.build_path(&a)?;
    let absent = fetchurl("absent", "u:absent", b"absent");
    let error = failure(world.build(&absent))?;
    expect(matches!(error.reason, Reason::Offline), format!("{error}"))?;
    world.config.offline = false;
    let error = failure(world.build(&absent))?;
    expect(error.to_string() == "cannot build `absent`: `u:absent` is nowhere", format!("{error}"))?;
    let error = failure(world.build(&fetchurl("wrong", "u:wrong", b"wanted")))?;
    expect(matches!(error.reason, Reason::WrongHash { .. }), format!("{error}"))?;
    clean(&world)
}

fn needed_only() -> Result<(), Failed> {
    let world = World::new();
    let source = world.write(&fetchurl("gone", "u:gone", b"gone"));
    let path = world.store.read_derivation(&source)?.output_path("out").cloned().expect("it is fixed");
    let user = |comment: &str| {
        let script = format!(": {comment}; echo used > $out");
        world.script("user", &script).needs_known("source", &source, &path)
    };
    let recipe = user("one");
    // Its result is known although its source never was here, as after a collection.
    let derivation = world.write(&recipe);
    let result = world.build(&world.script("stand-in", "echo used > $out"))?["out"].clone();
    let mut hashes = rednix_store::derivation::DerivationHashes::new();
    let store = world.store.clone();
    let mut load = |path: &StorePath| store.read_derivation(path);
    let hash = *hashes.masked(&store.read_derivation(&derivation)?, &mut load)?.hash();
    let id = rednix_store::store::RealisationId { derivation_hash: hash, output: "out".to_owned() };
    let realisation = rednix_store::store::Realisation { id, path: result.clone(), signatures: vec![] };
    world.store.register_realisations(&[realisation])?;
    expect(world.build(&recipe)?["out"] == result, "another result")?;
    expect(world.started() == ["stand-in"], "something was built")?;
    let error = failure(world.build(&user("two")))?;
    expect(error.name() == "gone", format!("{error}"))
}

fn farm() -> Result<(), Failed> {
    let world = World::new();
    let probe = Folder::new();
    let known = rednix_build::sandbox::probe(probe.path())?;
    let known = rednix_build::sandbox::Capabilities { overlay: false, ..known };
    let farms = world.folder.path().join("farms");
    let limits = world.config.limits.clone();
    let backend = rednix_build::Local::with_capabilities(farms.clone(), limits, known);
    let builder = world.builder_with(Arc::new(backend));
    let mut wanted = Vec::new();
    for index in 0..4 {
        let recipe = world.script(&format!("farmed{index}"), &format!("touch /x || echo {index} > $out"));
        wanted.push(rednix_build::Wanted::all(&world.write(&recipe)));
    }
    let built = builder.build(&wanted)?;
    let texts: Vec<String> = built.values().map(|path| world.read(path, "")).collect();
    expect(texts.len() == 4 && texts.contains(&"3\n".to_owned()), format!("{texts:?}"))?;
    expect(std::fs::read_dir(&farms)?.count() == 1, "the farm is not shared")?;
    clean(&world)?;
    Ok(rednix_store::handle::Dir::open(world.folder.path())?.remove_tree("farms").map(drop)?)
}

/// Writes what it was asked to run as its output, and remembers the order.
#[derive(Default)]
struct FakeBackend {
    order: std::sync::Mutex<Vec<String>>,
}

impl rednix_build::Backend for FakeBackend {
    fn run(
        &self,
        request: &rednix_build::BuildRequest,
        _: &rednix_build::sandbox::Control,
        _: &mut dyn FnMut(&[u8]),
    ) -> Result<rednix_build::BuildOutcome, rednix_build::backend::BackendError> {
        std::thread::sleep(Duration::from_millis(request.name.len() as u64 % 5));
        let output_folder = request.work_folder.join("store");
        std::fs::create_dir(&output_folder).expect("the work folder is empty");
        for path in request.outputs.values() {
            std::fs::write(output_folder.join(path.basename()), &request.name).expect("it can be written");
        }
        self.order.lock().expect("no panic").push(request.name.clone());
        let ending = rednix_build::sandbox::Ending::Exited(0);
        Ok(rednix_build::BuildOutcome { ending, output_folder, build_folder: request.work_folder.clone() })
    }
}

fn any_graph() -> Result<(), Failed> {
    for seed in 1..12u64 {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut random = |below: u64| {
            // xorshift: the same graphs every time.
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut world = World::new();
        world.config.max_jobs = 1 + random(5) as usize;
        let mut nodes: Vec<(StorePath, Vec<usize>)> = Vec::new();
        for index in 0..30usize {
            let mut recipe = world.script(&format!("node{index}"), "");
            let mut inputs = Vec::new();
            for _ in 0..random(4).min(index as u64) {
                let input = random(index as u64) as usize;
                recipe = recipe.needs(&format!("input{input}"), &nodes[input].0, "out");
                inputs.push(input);
            }
            nodes.push((world.write(&recipe), inputs));
        }
        let backend = Arc::new(FakeBackend::default());
        let wanted: Vec<_> = nodes.iter().skip(25).map(|(path, _)| rednix_build::Wanted::all(path)).collect();
        let built = world.builder_with(backend.clone()).build(&wanted)?;
        expect(built.len() == 5, "not everything is there")?;
        let order = backend.order.lock().expect("no panic").clone();
        let place = |index: usize| order.iter().position(|name| *name == format!("node{index}"));
        let mut needed: Vec<usize> = (25..30).collect();
        let mut seen = std::collections::BTreeSet::new();
        while let Some(index) = needed.pop() {
            if !seen.insert(index) {
                continue;
            }
            let own = place(index).ok_or_else(|| format!("seed {seed}: node{index} was not built"))?;
            for &input in &nodes[index].1 {
                let before = place(input).is_some_and(|place| place < own);
                expect(before, format!("seed {seed}: node{index} was built before node{input}"))?;
                needed.push(input);
            }
        }
        expect(order.len() == seen.len(), format!("seed {seed}: more was built than needed: {order:?}"))?;
        clean(&world)?;
    }
    Ok(())
}

fn wide_graph() -> Result<(), Failed> {
    let mut world = World::new();
    world.config.max_jobs = 4;
    let mut goal = world.script("goal", "for v in ${!leaf*}; do cat ${!v}; done > $out");
    for index in 0..60 {
        let text = serde_json::json!({ "text": format!("{index}\n") });
        let leaf = world.write(&world.builtin(&format!("leaf{index}"), "write", text));
        goal = goal.needs(&format!("leaf{index:02}"), &leaf, "out");
    }
    let outputs = world.build(&goal)?;
    let wanted: String = (0..60).map(|index| format!("{index}\n")).collect();
    expect(world.read(&outputs["out"], "") == wanted, "wrong contents")?;
    clean(&world)
}

fn no_op() -> Result<(), Failed> {
    let mut world = World::new();
    let mut urls = BTreeMap::new();
    let mut goal = world.script("goal", "echo goal > $out");
    for index in 0..150 {
        let (url, text) = (format!("u:{index}"), format!("{index}"));
        let source = world.write(&fetchurl(&format!("source{index}"), &url, text.as_bytes()));
        let path = world.store.read_derivation(&source)?.output_path("out").cloned().expect("it is fixed");
        urls.insert(url, text.into_bytes());
        let attributes = serde_json::json!({ "src": path.to_string() });
        let unpack =
            world.builtin(&format!("unpack{index}"), "copy", attributes).needs_known("src", &source, &path);
        let unpack = world.write(&unpack);
        goal = goal.needs(&format!("layer{index}"), &unpack, "out");
    }
    world.fetch = Arc::new(FakeFetch(urls));
    world.config.max_jobs = 4;
    let goal = world.write(&goal);
    let first = world.build_path(&goal)?;
    expect(world.started().len() == 151, "not everything was built")?;
    let before = world.recorder.events().len();
    expect(world.build_path(&goal)? == first, "another result")?;
    let told = world.recorder.events().split_off(before);
    // Whatever is done is told. None of the 301 derivations is worth a word.
    expect(told.len() < 3, format!("{told:?}"))?;
    expect(exists(&world.store.real_path(&first["out"])), "it is not there")?;
    clean(&world)
}

/// What the second build of a recipe gave, by output.
fn again(world: &World, recipe: &Recipe) -> Result<BTreeMap<String, rednix_build::RebuiltOutput>, Failed> {
    let path = world.write(recipe);
    let mut rebuilt = world.builder().rebuild(&[path], true)?;
    let outputs = rebuilt.remove(0).outputs;
    Ok(outputs.into_iter().map(|one| (one.output.clone(), one)).collect())
}

fn second_build() -> Result<(), Failed> {
    let world = World::new();
    let steady = world.script("steady", "mkdir -p $out/bin; echo $out >$out/self; echo x >$out/bin/x");
    let outputs = again(&world, &steady)?;
    assert!(outputs["out"].verdict.is_identical(), "{outputs:?}");
    world.check_clean()?;

    let random =
        "mkdir $out $dev; head -c 64 /dev/urandom >$out/noise; echo same >$out/same; echo $out >$dev/link";
    let random = world.script("random", random).floating(&["out", "dev"]);
    let first = world.build(&random)?;
    let outputs = again(&world, &random)?;
    let rednix_build::Verdict::Differs { comparison, kept } = &outputs["out"].verdict else {
        return Err(format!("noise is not told: {outputs:?}").into());
    };
    assert_eq!(comparison.count, 1);
    assert_eq!(comparison.told[0].path, std::path::Path::new("noise"));
    let kept = kept.as_ref().expect("it was to be kept");
    assert_eq!(std::fs::read_to_string(kept.join("same"))?, "same\n");
    assert!(outputs["dev"].verdict.is_identical(), "its only difference is the other output's own");
    // The first result stays in force: whoever was built with it is still right.
    assert_eq!(world.build(&random)?, first);
    assert_eq!(outputs["out"].first, first["out"]);

    let builtin = world.builtin("b", "write", serde_json::json!({ "text": "t" }));
    assert!(again(&world, &builtin)?["out"].verdict.is_identical());
    let needs = world.build(&builtin)?;
    let user = world.script("user", "cat $b >$out").needs("b", &world.write(&builtin), "out");
    assert!(again(&world, &user)?["out"].verdict.is_identical());
    assert!(exists(&world.store.real_path(&needs["out"])));

    let once = world
        .script("addressed", "head -c 4 /dev/urandom >$out")
        .input_addressed(&["out"])
        .variable("out", "");
    assert!(!again(&world, &once)?["out"].verdict.is_identical());
    Ok(())
}

fn hashed_again() -> Result<(), Failed> {
    let mut world = World::new();
    let url = "https://example.org/file".to_owned();
    world.fetch = Arc::new(FakeFetch(BTreeMap::from([(url.clone(), b"bytes".to_vec())])));
    let recipe = fetchurl("file", &url, b"bytes");
    let outputs = again(&world, &recipe)?;
    assert!(matches!(outputs["out"].verdict, rednix_build::Verdict::HashHolds), "{outputs:?}");
    let real = world.store.real_path(&outputs["out"].first);
    let mut permissions = std::fs::metadata(&real)?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o644);
    std::fs::set_permissions(&real, permissions)?;
    std::fs::write(&real, b"rotten")?;
    let outputs = again(&world, &recipe)?;
    assert!(matches!(outputs["out"].verdict, rednix_build::Verdict::HashBroken), "{outputs:?}");
    Ok(())
}

fn phases() -> Result<(), Failed> {
    let world = World::new();
    let announce =
        r#"echo '@nix {"action":"setPhase","phase":"compile"}'; echo '@nix {"action":"other"}'; echo >$out"#;
    world.build(&world.script("phased", announce))?;
    let events = world.recorder.events();
    let phases: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            Event::BuildPhase { phase, .. } => Some(phase.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(phases, ["prepare", "run", "compile", "keep outputs"]);
    let lines = events.iter().filter(|event| matches!(event, Event::BuildLog { .. })).count();
    assert_eq!(lines, 1, "what is not understood is shown");
    Ok(())
}

/// A build like make's: a file is compiled when it is newer than what was made of it, and it is counted how often.
const LIKE_MAKE: &str = "cd /build/build; for f in /build/source/*.c; do n=${f##*/}; o=$n.o; \
    if [ ! -e $o ] || [ $f -nt $o ]; then cat $f >$o; echo $n >>/build/build/compiled; fi; done; \
    mkdir $out; cat *.o >$out/all; cat compiled >$out/compiled";

fn working_copy() -> Result<(), Failed> {
    let mut world = World::new();
    let copy = world.folder.path().join("copy");
    let kept = world.folder.path().join("kept");
    let write = |name: &str, text: &str| std::fs::write(copy.join(name), text);
    std::fs::create_dir_all(&copy)?;
    std::fs::create_dir_all(&kept)?;
    write("a.c", "a")?;
    write("b.c", "b")?;
    let recipe = |world: &World| {
        let content = rednix_build::work::scan(&copy, &kept).unwrap().content.to_sri();
        world
            .script("worked", LIKE_MAKE)
            .variable("rednixWork", "worked#1")
            .variable("rednixWorkContent", &content)
    };
    let reason = world.build(&recipe(&world)).unwrap_err();
    assert!(matches!(reason.failed[0].reason, Reason::NoWork(_)), "{reason}");
    let folder = rednix_build::WorkFolder { folder: copy.clone(), kept: kept.clone() };
    world.config.work.insert("worked#1".to_owned(), folder);

    let first = world.build(&recipe(&world))?;
    assert_eq!(world.read(&first["out"], "compiled"), "a.c\nb.c\n");
    let runs = world.started().len();
    world.build(&recipe(&world))?;
    assert_eq!(world.started().len(), runs, "an unchanged copy is not built again");

    write("b.c", "changed")?;
    let stale = recipe(&world);
    write("b.c", "changed again")?;
    let reason = world.build(&stale).unwrap_err();
    assert!(matches!(reason.failed[0].reason, Reason::WorkChanged(_)), "{reason}");
    let second = world.build(&recipe(&world))?;
    assert_eq!(world.read(&second["out"], "compiled"), "a.c\nb.c\nb.c\n");
    assert_eq!(world.read(&second["out"], "all"), "achanged again");
    let info = world.store.path_info(&second["out"])?.expect("it was built");
    assert!(!info.ultimate && info.content_address.is_some());

    // A failed build keeps what it got done.
    write("a.c", "third")?;
    let failing = recipe(&world);
    let arguments = vec![b"-ec".to_vec(), format!("{LIKE_MAKE}; exit 3").into_bytes()];
    let mut failing = failing.clone();
    failing.derivation.arguments = arguments;
    world.build(&failing).unwrap_err();
    assert_eq!(std::fs::read_to_string(copy.join("a.c"))?, "third", "the copy itself is only read");
    world.check_clean()?;
    Ok(())
}

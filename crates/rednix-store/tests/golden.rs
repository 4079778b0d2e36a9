//! The conformance suite's golden paths: derivations put together by hand must get the names the peer gave them.
//! The suite lies beside the repository; without it these tests say that they were skipped.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use common::skipped;
use rednix_store::Result;
use rednix_store::derivation::{
    Derivation, DerivationHash, DerivationHashes, Output, hash_modulo, hash_modulo_masked, placeholder,
    resolve_inputs, scratch_output_path, upstream_placeholder,
};
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::nar::{self, Tree};
use rednix_store::path::{ContentMethod, StorePath, fixed_output_path, output_name, text_path};
use rednix_store::store::name_by_contents;

const HELLO_SRI: &str = "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=";
const HELLO_HEX: &str = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";

/// The suite's folder, or why there is none.
fn golden_folder() -> std::result::Result<PathBuf, String> {
    let beside = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/conformance");
    let folder = std::env::var_os("REDNIX_CONFORMANCE").map_or(beside, PathBuf::from).join("golden");
    if folder.join("paths.txt").is_file() {
        Ok(folder)
    } else {
        Err(format!("no conformance suite at `{}` (set REDNIX_CONFORMANCE)", folder.display()))
    }
}

fn none() -> BTreeSet<StorePath> {
    BTreeSet::new()
}

fn base(name: &str, outputs: &[&str]) -> Derivation {
    let mut derivation = Derivation::new(name, "x86_64-linux", "/bin/sh");
    derivation.outputs = outputs.iter().map(|output| ((*output).to_owned(), Output::Deferred)).collect();
    for (key, value) in [("name", name), ("system", "x86_64-linux"), ("builder", "/bin/sh")] {
        set(&mut derivation, key, value);
    }
    if outputs != ["out"] {
        set(&mut derivation, "outputs", &outputs.join(" "));
    }
    derivation
}

fn set(derivation: &mut Derivation, key: &str, value: &str) {
    derivation.environment.insert(key.into(), value.into());
}

/// Finishes derivations and collects their lines as the suite's `show.nix` prints them.
#[derive(Default)]
struct World {
    hashes: DerivationHashes,
    lines: BTreeMap<String, String>,
}

impl World {
    fn finish(&mut self, mut derivation: Derivation) -> (StorePath, Derivation) {
        derivation.fill_output_paths(&mut |path| Ok(self.known(path))).unwrap();
        let path = derivation.store_path().unwrap();
        let text = derivation.to_aterm();
        let read = Derivation::parse_at(&path, &text).unwrap();
        assert_eq!(read, derivation);
        assert_eq!(read.to_aterm(), text);
        let hash = hash_modulo(&derivation, &mut |path| Ok(self.known(path))).unwrap();
        self.hashes.insert(path.clone(), hash);
        (path, derivation)
    }

    fn known(&self, path: &StorePath) -> DerivationHash {
        self.hashes.get(path).expect("inputs are finished before what uses them")
    }

    /// `order` is the order the outputs were asked for in.
    fn show(&mut self, label: &str, derivation: Derivation, order: &[&str]) -> (StorePath, Derivation) {
        let (path, derivation) = self.finish(derivation);
        let mut line = path.to_string();
        for output in order {
            line.push(' ');
            line.push_str(&match derivation.output_path(output) {
                Some(path) => path.to_string(),
                None => upstream_placeholder(&path, output),
            });
        }
        self.lines.insert(label.to_owned(), line);
        (path, derivation)
    }

    fn show_path(&mut self, label: &str, path: &StorePath) {
        self.lines.insert(label.to_owned(), path.to_string());
    }

    fn fixed(
        &mut self,
        label: &str,
        method: ContentMethod,
        hash: Hash,
        variables: &[(&str, &str)],
    ) -> (StorePath, Derivation) {
        let mut derivation = base("fod", &["out"]);
        derivation.outputs.insert("out".into(), Output::fixed(method, hash, "fod", "out").unwrap());
        for (key, value) in variables {
            set(&mut derivation, key, value);
        }
        self.show(label, derivation, &["out"])
    }
}

fn needs(derivation: &mut Derivation, path: &StorePath, outputs: &[&str]) {
    let names = derivation.input_derivations.entry(path.clone()).or_default();
    names.extend(outputs.iter().map(|output| (*output).to_owned()));
}

fn source_tree() -> Tree {
    let mut tree = Tree::directory();
    for (path, node) in [
        ("a.txt", Tree::file("hello\n")),
        ("empty", Tree::file("")),
        ("link", Tree::symlink("a.txt")),
        ("run.sh", Tree::executable("#!/bin/sh\n")),
        ("sub/B", Tree::file("b\n")),
        ("sub/a", Tree::file("x\n")),
    ] {
        tree.insert(path, node).unwrap();
    }
    tree
}

fn source(name: &str, tree: &Tree) -> StorePath {
    let (hash, _) = tree.hash(HashAlgorithm::Sha256).unwrap();
    fixed_output_path(ContentMethod::Recursive, &hash, name, &none(), false).unwrap()
}

fn fixed_cases(world: &mut World) {
    let sha256 = Some(HashAlgorithm::Sha256);
    let hello = Hash::parse_any(HELLO_SRI, None).unwrap();
    assert_eq!(Hash::parse_any(HELLO_HEX, sha256).unwrap(), hello);
    let flat = ContentMethod::Flat;
    let (flat_path, flat_drv) = world.fixed("fodflat", flat, hello, &[("outputHash", HELLO_SRI)]);
    let (hex_path, hex_drv) = world.fixed(
        "fodhex",
        flat,
        hello,
        &[("outputHash", HELLO_HEX), ("outputHashAlgo", "sha256"), ("outputHashMode", "flat")],
    );
    let recursive = ContentMethod::Recursive;
    world.fixed("fodrec", recursive, hello, &[("outputHash", HELLO_SRI), ("outputHashMode", "recursive")]);
    world.fixed(
        "fodnar",
        recursive,
        hello,
        &[("outputHash", HELLO_HEX), ("outputHashAlgo", "sha256"), ("outputHashMode", "nar")],
    );
    for (label, algorithm) in [("fodsha1", HashAlgorithm::Sha1), ("fodmd5", HashAlgorithm::Md5)] {
        let hash = Hash::of(algorithm, b"hello");
        let variables = [("outputHash", &*hash.to_hex()), ("outputHashAlgo", algorithm.as_str())];
        world.fixed(label, flat, hash, &variables);
    }
    let sha512 = Hash::of(HashAlgorithm::Sha512, b"hello");
    world.fixed("fodsha512", flat, sha512, &[("outputHash", &sha512.to_sri())]);
    let zero = Hash::zero(HashAlgorithm::Sha256);
    world.fixed("fodempty", flat, zero, &[("outputHash", ""), ("outputHashAlgo", "sha256")]);

    // Two derivations of one fixed output: their hashes merge.
    let mut uses = base("usesfod", &["out"]);
    needs(&mut uses, &flat_path, &["out"]);
    needs(&mut uses, &hex_path, &["out"]);
    set(&mut uses, "a", &flat_drv.output_path("out").unwrap().to_string());
    set(&mut uses, "b", &hex_drv.output_path("out").unwrap().to_string());
    world.show("usesfod", uses, &["out"]);
}

fn input_addressed_cases(world: &mut World, tree: &Tree) {
    let mut plain = base("plain", &["out"]);
    plain.arguments = vec![b"-c".to_vec(), b"echo \"q\\uote\" \t$x\r\n".to_vec()];
    world.show("plain", plain, &["out"]);
    world.show("multi", base("multi", &["out", "dev", "bin", "a"]), &["out", "dev", "bin", "a"]);
    world.show("noout", base("noout", &["lib", "dev"]), &["lib", "dev"]);
    world.show("dash", base("a-b+c.d_e?f=g", &["out"]), &["out"]);
    let mut ph = base("ph", &["out"]);
    set(&mut ph, "a", &placeholder("out"));
    set(&mut ph, "b", &placeholder("dev"));
    world.show("ph", ph, &["out"]);

    let (dep_path, dep) = world.finish(base("dep", &["out", "dev", "bin"]));
    let output = |name: &str| dep.output_path(name).unwrap().to_string();
    let file = source("a.txt", &Tree::file("hello\n"));
    let mut uses = base("uses", &["out"]);
    needs(&mut uses, &dep_path, &["bin", "dev", "out"]);
    uses.input_sources.insert(file.clone());
    set(&mut uses, "x", &format!("{}/{}", output("dev"), output("out")));
    set(&mut uses, "y", &format!("{} s p {file} 1 2.500000  1  nested ", output("bin")));
    world.show("uses", uses, &["out"]);

    let mut context = base("drvctx", &["out"]);
    needs(&mut context, &dep_path, &["bin", "dev", "out"]);
    context.input_sources.insert(dep_path.clone());
    set(&mut context, "p", &dep_path.to_string());
    world.show("drvctx", context, &["out"]);
    let mut only = base("drvonly", &["out"]);
    only.input_sources.insert(dep_path.clone());
    set(&mut only, "p", &dep_path.to_string());
    world.show("drvonly", only, &["out"]);

    let mut system = Derivation::new("sys", "x86_64-redox", format!("{}/bin/b", output("bin")));
    system.outputs.insert("out".into(), Output::Deferred);
    needs(&mut system, &dep_path, &["bin"]);
    for (key, value) in
        [("name", "sys"), ("system", "x86_64-redox"), ("builder", &format!("{}/bin/b", output("bin")))]
    {
        set(&mut system, key, value);
    }
    world.show("system2", system, &["out"]);

    let mut nulls = base("ignorenulls", &["out"]);
    set(&mut nulls, "b", "");
    world.show("ignorenulls", nulls, &["out"]);
    let mut types = base("types", &["out"]);
    for (key, value) in [
        ("i", "1"),
        ("n", "-7"),
        ("t", "1"),
        ("f", ""),
        ("z", ""),
        ("fl", "0.100000"),
        ("fl2", "10000000000.000000"),
        ("fl3", "0.000000"),
        ("set", "/x"),
        ("fn", "str"),
    ] {
        set(&mut types, key, value);
    }
    world.show("types", types, &["out"]);

    let mut env = base("env", &["out"]);
    for (key, value) in
        [("with-dash", "1"), ("sp ace", "2"), ("", "3"), ("PATH", "/bin"), ("out", "shadowed")]
    {
        set(&mut env, key, value);
    }
    world.show("env", env, &["out"]);

    let mut srcdir = base("srcdir", &["out"]);
    let src = source("tree", tree);
    set(&mut srcdir, "src", &src.to_string());
    srcdir.input_sources.insert(src);
    world.show("srcdir", srcdir, &["out"]);
}

fn floating_cases(world: &mut World) {
    let mut floating = base("ca", &["out", "doc"]);
    let kind = Output::Floating { method: ContentMethod::Recursive, algorithm: HashAlgorithm::Sha256 };
    floating.outputs = floating.outputs.into_keys().map(|name| (name, kind.clone())).collect();
    set(&mut floating, "outputHashMode", "recursive");
    set(&mut floating, "outputHashAlgo", "sha256");
    let (ca_path, _) = world.show("floating", floating, &["out", "doc"]);
    let mut uses = base("usesfloating", &["out"]);
    needs(&mut uses, &ca_path, &["doc", "out"]);
    set(&mut uses, "a", &upstream_placeholder(&ca_path, "out"));
    set(&mut uses, "b", &upstream_placeholder(&ca_path, "doc"));
    let (_, uses) = world.show("usesfloating", uses, &["out"]);
    assert!(uses.is_deferred());
}

fn text_cases(world: &mut World, tree: &Tree) -> Result<()> {
    let file = source("a.txt", &Tree::file("hello\n"));
    world.show_path("srcfile", &file);
    world.show_path("srcexec", &source("run.sh", &Tree::executable("#!/bin/sh\n")));
    let part = |keep: fn(&str) -> bool| {
        let Tree::Directory(entries) = tree else { unreachable!("it is a folder") };
        let kept = entries.iter().filter(|(name, _)| keep(std::str::from_utf8(name).unwrap()));
        Tree::Directory(kept.map(|(name, node)| (name.clone(), node.clone())).collect())
    };
    world.show_path("pathfilter", &source("some", &part(|name| name != "sub" && name != "link")));
    world.show_path("filtersrc", &source("tree", &part(|name| name != "sub")));
    world.show_path("pathname", &source("renamed", tree));
    let flat = fixed_output_path(ContentMethod::Flat, &Hash::sha256(b"hello\n"), "flat", &none(), false)?;
    world.show_path("pathflat", &flat);
    let text = text_path("text", &Hash::sha256(b"hello"), &none())?;
    world.show_path("text", &text);
    let contents = format!("see {text} and {file}");
    let references = BTreeSet::from([text, file]);
    let with_references = text_path("textrefs", &Hash::sha256(contents.as_bytes()), &references)?;
    world.show_path("textrefs", &with_references);
    let mut textdrv = base("textdrv", &["out"]);
    set(&mut textdrv, "a", &with_references.to_string());
    textdrv.input_sources.insert(with_references);
    world.show("textdrv", textdrv, &["out"]);
    Ok(())
}

#[test]
fn every_kind_of_path_is_the_peers() {
    let folder = match golden_folder() {
        Ok(folder) => folder,
        Err(reason) => return skipped(&reason),
    };
    let golden = std::fs::read_to_string(folder.join("paths.txt")).unwrap();
    let golden: BTreeMap<&str, &str> = golden.lines().filter_map(|line| line.split_once(' ')).collect();
    let mut world = World::default();
    let tree = source_tree();
    fixed_cases(&mut world);
    input_addressed_cases(&mut world, &tree);
    floating_cases(&mut world);
    text_cases(&mut world, &tree).unwrap();
    assert!(world.lines.len() >= 27, "{}", world.lines.len());
    let wrong: Vec<_> = world
        .lines
        .iter()
        .filter(|(label, line)| golden.get(label.as_str()) != Some(&line.as_str()))
        .map(|(label, line)| format!("{label}\n   ours {line}\n   peer {:?}", golden.get(label.as_str())))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_suites_source_tree_hashes_as_in_memory() {
    let folder = match golden_folder() {
        Ok(folder) => folder,
        Err(reason) => return skipped(&reason),
    };
    // A checkout without symbolic links holds the link's target as a file's text.
    let real_link = folder.join("tree/link").is_symlink();
    let mut tree = source_tree();
    if !real_link {
        let Tree::Directory(entries) = &mut tree else { unreachable!("it is a folder") };
        entries.insert(b"link".to_vec(), Tree::file(std::fs::read(folder.join("tree/link")).unwrap()));
    }
    let (hash, size) = nar::hash_path(folder.join("tree"), HashAlgorithm::Sha256).unwrap();
    assert_eq!((hash, size), tree.hash(HashAlgorithm::Sha256).unwrap());
    assert_eq!(output_name("x", "out"), "x");
}

/// A floating derivation, one that uses it input-addressed and one that uses it floating: paths, resolved
/// derivations and realisations as C++ Nix 2.34.8 gave them when it built these.
#[test]
fn content_addressed_derivations_are_the_peers() {
    let floating = Output::Floating { method: ContentMethod::Recursive, algorithm: HashAlgorithm::Sha256 };
    let mut world = World::default();
    let mut ca = base("ca", &["out"]);
    ca.outputs.insert("out".into(), floating.clone());
    ca.arguments = vec![b"-c".to_vec(), b"echo hello $out > $out".to_vec()];
    set(&mut ca, "outputHashMode", "recursive");
    set(&mut ca, "outputHashAlgo", "sha256");
    let (ca_path, ca) = world.finish(ca);
    assert_eq!(ca_path.basename(), "yf0vkknrrbwj6qn0qv5zzrrmf32njfjl-ca.drv");
    let realisation = |world: &World, derivation: &Derivation| {
        hash_modulo_masked(derivation, &mut |path| Ok(world.known(path))).unwrap().hash().to_hex()
    };
    let expected = "fe3702290ed912772dab2ce34278dc5525d147e8475c256d0fa7ae7091fc04b0";
    assert_eq!(realisation(&world, &ca), expected);

    // The output mentions itself, under whatever name it was built.
    let folder = tempfile::tempdir().unwrap();
    let built = folder.path().join("built");
    let built_as = scratch_output_path(&ca_path, "out").unwrap();
    let name = |text: String, built_as: &StorePath, name: &str, references: &BTreeSet<StorePath>| {
        std::fs::write(&built, text).unwrap();
        let (method, algorithm) = (ContentMethod::Recursive, HashAlgorithm::Sha256);
        name_by_contents(&built, built_as, name, method, algorithm, references).unwrap()
    };
    let ca_out = name(format!("hello {built_as}\n"), &built_as, "ca", &BTreeSet::from([built_as.clone()]));
    assert_eq!(ca_out.path.basename(), "42c3y7m3bpwxw8wj0h5igv8p3sgv4z5p-ca");
    let expected = "fixed:r:sha256:0x4dvqhlcs6kwi2wkfd10aa2g6qksj79jcac7vsbspl72yf8qhd0";
    assert_eq!(ca_out.content_address, expected);

    let script = format!("read x < {}; echo uses $x > $out", upstream_placeholder(&ca_path, "out"));
    let user = |name: &str| {
        let mut user = base(name, &["out"]);
        user.arguments = vec![b"-c".to_vec(), script.clone().into_bytes()];
        needs(&mut user, &ca_path, &["out"]);
        user
    };
    let resolve = |derivation: &Derivation| {
        resolve_inputs(derivation, &mut |_, _| Ok(Some(ca_out.path.clone()))).unwrap().unwrap()
    };
    let (path, uses) = world.finish(user("usesca"));
    assert_eq!(path.basename(), "ix6xyj6kwh7qk1cig07c5fbm5k3skn0a-usesca.drv");
    let resolved = resolve(&uses);
    assert_eq!(resolved.store_path().unwrap().basename(), "nn09j1wvpmcchwgyvpvw9jigb296fwsl-usesca.drv");
    assert_eq!(resolved.output_path("out").unwrap().basename(), "19makadh9280hw4v1gh9xmz034bm40mx-usesca");
    let known = [realisation(&world, &resolved), realisation(&world, &uses)];
    let expected = [
        "a25c1980fb7eda6ba92fae4cc85f872d1aa8a86425db1f5e6be1166038bc1a94",
        "3c5e6fb76b1b8f2b6fd3592f8c47ca9ca8759cff2a5b5ed959888b17a64bf386",
    ];
    assert_eq!(known, expected);

    let mut user = user("usesca-ca");
    user.outputs.insert("out".into(), floating);
    set(&mut user, "outputHashMode", "recursive");
    set(&mut user, "outputHashAlgo", "sha256");
    let (path, uses) = world.finish(user);
    assert_eq!(path.basename(), "bd0dvncm26kg1jgc6x8ilfybjiri0a1j-usesca-ca.drv");
    let resolved = resolve(&uses);
    let resolved_path = resolved.store_path().unwrap();
    assert_eq!(resolved_path.basename(), "8074g53h78ir1w90l7gkfyyx7laidqrd-usesca-ca.drv");
    let built_as = scratch_output_path(&resolved_path, "out").unwrap();
    let references = BTreeSet::from([ca_out.path.clone()]);
    let out = name(format!("uses hello {}\n", ca_out.path), &built_as, "usesca-ca", &references);
    assert_eq!(out.path.basename(), "hpdmbpvd7b1n3cka6nwfaw3zn8f6acsp-usesca-ca");
    let known = [realisation(&world, &resolved), realisation(&world, &uses)];
    let expected = [
        "45097544c7d76cfadafe9783dc5f021fda5c8dde213d89e25e99eedb4f870509",
        "ba8c680b369cb5c47011e5b552b8849be80342ec24dfef772c775913472fbf5e",
    ];
    assert_eq!(known, expected);
}

//! The conformance suite's golden paths: derivations put together by hand must get the names the peer gave them.
//! The suite lies beside the repository; without it these tests say that they were skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use rednix_store::Result;
use rednix_store::derivation::{
    Derivation, DerivationHash, DerivationHashes, Output, hash_modulo, placeholder, upstream_placeholder,
};
use rednix_store::hash::{Hash, HashAlgorithm};
use rednix_store::nar::{self, Tree};
use rednix_store::path::{ContentMethod, StorePath, fixed_output_path, output_name, text_path};

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
        Err(reason) => return println!("skipped: {reason}"),
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
        Err(reason) => return println!("skipped: {reason}"),
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

//! One store, two programs: C++ Nix 2.34 checks, reads, writes and collects what rednix wrote, and the other way
//! round. `REDNIX_PEER` names a folder with `nix` and `nix-store`; without it these tests say that they were
//! skipped.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::*;
use rednix_store::derivation::{Derivation, DerivationHashes, Output, placeholder, scratch_output_path};
use rednix_store::hash::HashAlgorithm;
use rednix_store::path::{ContentMethod, StorePath};
use rednix_store::rewrite::Rewrites;
use rednix_store::scan;
use rednix_store::store::*;

struct Peer {
    folder: PathBuf,
    root: PathBuf,
}

impl Peer {
    fn find(root: &Path) -> Option<Peer> {
        match std::env::var_os("REDNIX_PEER").map(PathBuf::from) {
            Some(folder) if folder.join("nix-store").is_file() => {
                Some(Peer { folder, root: root.to_path_buf() })
            }
            Some(folder) => {
                skipped(&format!("no `nix-store` in `{}`", folder.display()));
                None
            }
            None => {
                skipped("REDNIX_PEER does not name a folder with C++ Nix");
                None
            }
        }
    }

    /// Runs one of the peer's tools on the store: its output, or what it complained of.
    fn try_run(&self, tool: &str, arguments: &[&str]) -> Result<String, String> {
        let output = Command::new(self.folder.join(tool))
            .args(arguments)
            .args(["--store", &format!("local?root={}", self.root.display())])
            .env("HOME", &self.root)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.success() && !errors.contains("error:") {
            true => Ok(String::from_utf8(output.stdout).unwrap()),
            false => Err(errors),
        }
    }

    fn run(&self, tool: &str, arguments: &[&str]) -> String {
        self.try_run(tool, arguments).unwrap_or_else(|errors| panic!("{tool} {arguments:?}: {errors}"))
    }

    fn check(&self) {
        self.run("nix-store", &["--verify", "--check-contents"]);
    }
}

/// A floating derivation, its output with a reference to itself, and its realisation.
fn build_floating(store: &Store, work: &Path) -> (StorePath, StorePath, RealisationId) {
    let mut derivation = Derivation::new("floating", "x86_64-linux", "/bin/sh");
    let (method, algorithm) = (ContentMethod::Recursive, HashAlgorithm::Sha256);
    derivation.outputs.insert("out".into(), Output::Floating { method, algorithm });
    derivation.fill_output_paths(&mut |_| unreachable!()).unwrap();
    assert_eq!(derivation.variable("out"), Some(&*placeholder("out")));
    let drv = store.write_derivation(&derivation).unwrap();
    let built_as = scratch_output_path(&drv, "out").unwrap();
    let source = work.join("built");
    std::fs::create_dir(&source).unwrap();
    std::fs::write(source.join("self"), format!("{built_as}\n")).unwrap();
    let found = scan::scan_path(&source, [&built_as]).unwrap();
    let name =
        name_by_contents(&source, &built_as, "floating", method, algorithm, &found.references).unwrap();
    let mut rewrites = Rewrites::new();
    rewrites.insert(&built_as, &name.path);
    let _lock = store.lock_path(&name.path).unwrap();
    let imported = store.import_tree(&source, &name.path, ImportMode::Move, &rewrites, None).unwrap();
    let mut info = PathInfo::new(name.path.clone(), imported.nar_hash, imported.nar_size);
    info.references = [name.path.clone()].into();
    info.content_address = Some(name.content_address);
    info.deriver = Some(drv.clone());
    info.ultimate = true;
    store.register_valid_paths(&[info]).unwrap();
    let hash = DerivationHashes::new().masked(&derivation, &mut |_| unreachable!()).unwrap();
    let id = RealisationId { derivation_hash: *hash.hash(), output: "out".into() };
    let realisation = Realisation { id: id.clone(), path: name.path.clone(), signatures: Vec::new() };
    store.register_realisations(&[realisation]).unwrap();
    (drv, name.path, id)
}

#[test]
fn the_peer_accepts_what_we_write() {
    let (folder, store) = new_store();
    let Some(peer) = Peer::find(folder.path()) else { return };
    let text = store.add_text("text", b"hello", &BTreeSet::new()).unwrap();
    let next = store.add_text("next", b"next", &[text.clone()].into()).unwrap();
    let tree = store.add_source_tree("tree", &sample_tree()).unwrap().path;
    let run = folder.path().join("run");
    std::fs::write(&run, "x").unwrap();
    for algorithm in HashAlgorithm::ALL {
        // Blake3 is an experiment of the peer's.
        if algorithm != HashAlgorithm::Blake3 {
            let flat = Source { method: ContentMethod::Flat, algorithm, ..Source::tree("flat") };
            store.add_from_path(&run, flat).unwrap();
            store.add_from_path(&run, Source { algorithm, ..Source::tree("nar") }).unwrap();
        }
    }
    let drv = store.write_derivation(&derivation("x", &[("a", "b\"\n")], &[next.clone(), tree])).unwrap();
    let (floating_drv, floating, id) = build_floating(&store, folder.path());
    peer.check();

    let infos: serde_json::Value =
        serde_json::from_str(&peer.run("nix", &["path-info", "--all", "--json", "--json-format", "1"]))
            .unwrap();
    let paths = store.all_valid_paths().unwrap();
    assert_eq!(infos.as_object().unwrap().len(), paths.len());
    for path in &paths {
        let ours = store.path_info(path).unwrap().unwrap();
        let theirs = &infos[path.to_string()];
        assert_eq!(theirs["narHash"], ours.nar_hash.to_sri());
        assert_eq!(theirs["narSize"], ours.nar_size);
        assert_eq!(theirs["ca"], serde_json::json!(ours.content_address));
        assert_eq!(theirs["deriver"], serde_json::json!(ours.deriver.map(|path| path.to_string())));
        let references: BTreeSet<String> = ours.references.iter().map(StorePath::to_string).collect();
        let found =
            theirs["references"].as_array().unwrap().iter().map(|path| path.as_str().unwrap().to_owned());
        assert_eq!(found.collect::<BTreeSet<_>>(), references);
    }
    let closure = peer.run("nix-store", &["--query", "--requisites", &drv.to_string()]);
    assert_eq!(closure.lines().count(), store.closure([&drv]).unwrap().len());
    let output = peer.run("nix-store", &["--query", "--outputs", &drv.to_string()]);
    assert_eq!(output.trim(), store.derivation_outputs(&drv).unwrap()["out"].to_string());
    let realised = peer.run("nix", &["realisation", "info", "--json", &format!("{floating_drv}^out")]);
    let realised: serde_json::Value = serde_json::from_str(&realised).unwrap();
    assert_eq!(realised[0]["id"], id.to_string());
    assert_eq!(realised[0]["outPath"], floating.basename());
}

#[test]
fn we_accept_what_the_peer_writes_and_go_on_from_there() {
    let folder = tempfile::tempdir().unwrap();
    let Some(peer) = Peer::find(folder.path()) else { return };
    let source = folder.path().join("source");
    rednix_store::nar::restore(&mut sample_tree().to_nar().unwrap().as_slice(), &source).unwrap();
    let added = peer.run("nix-store", &["--add", source.to_str().unwrap()]);
    let added = StorePath::parse(added.trim()).unwrap();
    let read_only = Store::open(folder.path(), OpenOptions::read_only()).unwrap();
    assert_clean(&read_only);
    drop(read_only);
    let store = Store::open(folder.path(), OpenOptions::default()).unwrap();
    let ours = store.add_from_path(&source, Source::tree("source")).unwrap();
    assert_eq!((&ours.path, ours.new), (&added, false));
    let info = store.path_info(&added).unwrap().unwrap();
    assert_eq!(info.nar_hash, sample_tree().hash(HashAlgorithm::Sha256).unwrap().0);
    let next = store.add_text("next", b"next", &[added].into()).unwrap();
    peer.check();
    let references = peer.run("nix-store", &["--query", "--references", &next.to_string()]);
    assert_eq!(references.trim(), ours.path.to_string());
}

#[test]
fn each_respects_the_others_roots() {
    let (folder, store) = new_store();
    let Some(peer) = Peer::find(folder.path()) else { return };
    let rooted = store.add_text("rooted", b"rooted", &BTreeSet::new()).unwrap();
    let dropped = store.add_text("dropped", b"dropped", &BTreeSet::new()).unwrap();
    store.add_root("kept", &rooted).unwrap();
    drop(store);
    let store = Store::open(folder.path(), OpenOptions::default()).unwrap();
    let held = store.add_text("held", b"held", &BTreeSet::new()).unwrap();
    let scratch = store.scratch_dir("working").unwrap();
    peer.run("nix-store", &["--gc"]);
    assert_eq!(store.all_valid_paths().unwrap(), [rooted.clone(), held.clone()].into());
    assert!(store.real_path(&held).exists() && !store.real_path(&dropped).exists());
    assert!(scratch.path().exists());
    assert_clean(&store);

    let link = folder.path().join("result");
    peer.run("nix-store", &["--realise", &held.to_string(), "--add-root", link.to_str().unwrap()]);
    drop((scratch, store));
    let store = Store::open(folder.path(), OpenOptions::default()).unwrap();
    let unneeded = store.add_source_tree("unneeded", &sample_tree()).unwrap().path;
    drop(store);
    let store = Store::open(folder.path(), OpenOptions::default()).unwrap();
    assert_eq!(store.gc(&GcOptions::default()).unwrap().removed, [unneeded]);
    assert_eq!(store.all_valid_paths().unwrap(), [rooted, held].into());
    peer.check();
}

#[test]
fn damage_is_seen_by_both() {
    let (folder, store) = new_store();
    let Some(peer) = Peer::find(folder.path()) else { return };
    let path = store.add_text("x", b"x", &BTreeSet::new()).unwrap();
    peer.check();
    std::fs::remove_file(store.real_path(&path)).unwrap();
    std::fs::write(store.real_path(&path), "y").unwrap();
    assert_eq!(store.verify(VerifyOptions::default()).unwrap().problems.len(), 1);
    let complaint = peer.try_run("nix-store", &["--verify", "--check-contents"]).unwrap_err();
    assert!(complaint.contains("was modified") && complaint.contains(path.basename()), "{complaint}");
}

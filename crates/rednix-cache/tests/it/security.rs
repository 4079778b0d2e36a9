//! What a malicious cache may try, by class; each attempt is made, and does no harm.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rednix_cache::caches::Ask;
use rednix_cache::compression::Compression;
use rednix_cache::realisation::Key;
use rednix_cache::{NarInfo, Trust};
use rednix_store::PathInfo;
use rednix_store::hash::Hash;
use rednix_store::nar::Tree;
use rednix_store::path::{
    ContentMethod, StorePath, content_address, fixed_output_path, output_path, text_path,
};
use rednix_store::store::RealisationId;

use crate::support::{caches, key, store, trust, url};

struct Attack {
    folder: tempfile::TempDir,
}

impl Attack {
    fn new() -> Attack {
        Attack { folder: tempfile::tempdir().unwrap() }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn put(&self, place: &str, bytes: &[u8]) {
        let path = self.cache().join(place);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// An entry for an input-addressed path with this archive, signed by the trusted key.
    fn signed(&self, name: &str, nar: &[u8], compression: Compression, packed: &[u8]) -> NarInfo {
        let path = output_path("out", &Hash::sha256(name.as_bytes()), name).unwrap();
        let info = PathInfo::new(path, Hash::sha256(nar), nar.len() as u64);
        let mut entry = NarInfo::of(&info, format!("nar/{name}"), compression);
        entry.signatures = vec![key().sign(&entry.fingerprint())];
        self.put(&entry.url, packed);
        self.entry(&entry);
        entry
    }

    fn entry(&self, entry: &NarInfo) {
        self.put(&format!("{}.narinfo", entry.path.hash_part()), entry.to_text().as_bytes());
    }

    /// Tries to get the path; it must not become valid. Returns what was said.
    fn refused(&self, path: &StorePath, trust: Trust) -> String {
        let to = store(&self.folder.path().join("to"));
        let said = caches(&[url(&self.cache())], trust).bring(&to, path).unwrap_err();
        assert!(to.all_valid_paths().unwrap().is_empty(), "{said}");
        // Not even a name.
        assert!(!to.real_path(path).exists(), "{said}");
        said
    }
}

fn string(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u64).to_le_bytes());
    out.extend_from_slice(text);
    out.resize(out.len().next_multiple_of(8), 0);
}

fn raw_nar(strings: &[&[u8]]) -> Vec<u8> {
    let mut nar = Vec::new();
    for text in strings {
        string(&mut nar, text);
    }
    nar
}

fn plain(text: &str) -> Vec<u8> {
    Tree::file(text.as_bytes()).to_nar().unwrap()
}

#[test]
fn archive_traversal() {
    let attack = Attack::new();
    let outside = attack.folder.path().join("outside");
    let absolute = outside.to_str().unwrap().to_owned();
    for (number, name) in
        ["..", "../../../../outside", &absolute, ".", "", "a/b", "a\0b"].into_iter().enumerate()
    {
        let nar = raw_nar(&[
            b"nix-archive-1",
            b"(",
            b"type",
            b"directory",
            b"entry",
            b"(",
            b"name",
            name.as_bytes(),
            b"node",
            b"(",
            b"type",
            b"regular",
            b"contents",
            b"x",
            b")",
            b")",
            b")",
        ]);
        let entry = attack.signed(&format!("t{number}"), &nar, Compression::None, &nar);
        attack.refused(&entry.path, trust());
    }
    // Through a link that the archive itself brings: the second entry of that name is refused.
    let nar = raw_nar(&[
        b"nix-archive-1",
        b"(",
        b"type",
        b"directory",
        b"entry",
        b"(",
        b"name",
        b"a",
        b"node",
        b"(",
        b"type",
        b"symlink",
        b"target",
        absolute.as_bytes(),
        b")",
        b")",
        b"entry",
        b"(",
        b"name",
        b"a",
        b"node",
        b"(",
        b"type",
        b"directory",
        b"entry",
        b"(",
        b"name",
        b"x",
        b"node",
        b"(",
        b"type",
        b"regular",
        b"contents",
        b"x",
        b")",
        b")",
        b")",
        b")",
        b")",
    ]);
    let entry = attack.signed("link", &nar, Compression::None, &nar);
    attack.refused(&entry.path, trust());
    assert!(!outside.exists());
}

#[test]
fn parser_recursion_and_sizes_cve_2026_44028() {
    let attack = Attack::new();
    let mut strings: Vec<&[u8]> = vec![b"nix-archive-1"];
    for _ in 0..100_000 {
        strings.extend_from_slice(&[b"(", b"type", b"directory", b"entry", b"(", b"name", b"a", b"node"]);
    }
    let nar = raw_nar(&strings);
    let entry = attack.signed("deep", &nar, Compression::None, &nar);
    attack.refused(&entry.path, trust());
    // A string that says it is as long as the address space.
    let mut nar = raw_nar(&[b"nix-archive-1", b"(", b"type", b"regular", b"contents"]);
    nar.extend_from_slice(&u64::MAX.to_le_bytes());
    let entry = attack.signed("long", &nar, Compression::None, &nar);
    attack.refused(&entry.path, trust());
}

#[test]
fn decompression_bomb() {
    let attack = Attack::new();
    let zeros = vec![0u8; 64 << 20];
    let bombs = [
        (Compression::Zstd, zstd::encode_all(zeros.as_slice(), 3).unwrap()),
        (Compression::Gzip, {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            std::io::Write::write_all(&mut encoder, &zeros).unwrap();
            encoder.finish().unwrap()
        }),
    ];
    for (compression, bomb) in bombs {
        let nar = plain("small");
        let entry = attack.signed(&format!("bomb-{compression}"), &nar, compression, &bomb);
        let said = attack.refused(&entry.path, trust());
        assert!(said.contains("hint: "), "{said}");
    }
    // A window of 2 GiB, which the decompressor would have to hold.
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.long_distance_matching(true).unwrap();
    encoder.window_log(28).unwrap();
    std::io::Write::write_all(&mut encoder, &plain("window")).unwrap();
    let packed = encoder.finish().unwrap();
    let nar = plain("window");
    let entry = attack.signed("window", &nar, Compression::Zstd, &packed);
    attack.refused(&entry.path, trust());
}

#[test]
fn trust_mix_up_no_signature() {
    let attack = Attack::new();
    let nar = plain("x");
    let mut entry = attack.signed("x", &nar, Compression::None, &nar);
    for signatures in [vec![], vec!["test-1:AAAA".to_owned()], vec![key().sign("1;other")]] {
        entry.signatures = signatures;
        attack.entry(&entry);
        assert!(attack.refused(&entry.path, trust()).contains("not signed by a key that is trusted"));
    }
    // The right signature, but nobody trusts the key.
    entry.signatures = vec![key().sign(&entry.fingerprint())];
    attack.entry(&entry);
    assert!(attack.refused(&entry.path, Trust::default()).contains("test-1"));
}

#[test]
fn trust_mix_up_signature_of_another_path() {
    let attack = Attack::new();
    let nar = plain("x");
    let one = attack.signed("one", &nar, Compression::None, &nar);
    let mut two = attack.signed("two", &nar, Compression::None, &nar);
    two.signatures.clone_from(&one.signatures);
    attack.entry(&two);
    attack.refused(&two.path, trust());
    // Other references, size or hash than signed.
    for change in [
        |entry: &mut NarInfo, other: &StorePath| entry.references = BTreeSet::from([other.clone()]),
        |entry: &mut NarInfo, _: &StorePath| entry.nar_size += 8,
        |entry: &mut NarInfo, _: &StorePath| entry.nar_hash = Hash::sha256(b"other"),
    ] {
        let mut changed = one.clone();
        change(&mut changed, &two.path);
        attack.entry(&changed);
        assert!(attack.refused(&one.path, trust()).contains("not signed"));
    }
}

#[test]
fn narinfo_hash_confusion() {
    let attack = Attack::new();
    let nar = plain("x");
    let good = attack.signed("good", &nar, Compression::None, &nar);
    let wanted = output_path("out", &Hash::sha256(b"wanted"), "wanted").unwrap();
    // The entry of another path, rightly signed, in this one's place.
    attack.put(&format!("{}.narinfo", wanted.hash_part()), good.to_text().as_bytes());
    assert!(attack.refused(&wanted, trust()).contains("it is about"));
    // A field twice, of which readers may take either.
    let twice = format!("{}NarHash: sha256:{}\n", good.to_text(), Hash::sha256(b"y").to_nix32());
    attack.put(&format!("{}.narinfo", good.path.hash_part()), twice.as_bytes());
    assert!(attack.refused(&good.path, trust()).contains("twice"));
    // Contents that are not the promised ones.
    attack.entry(&good);
    attack.put(&good.url, &plain("y"));
    assert!(attack.refused(&good.path, trust()).contains("other contents"));
}

#[test]
fn narinfo_url_leads_elsewhere() {
    let attack = Attack::new();
    let nar = plain("x");
    let good = attack.signed("good", &nar, Compression::None, &nar);
    let secret = attack.folder.path().join("secret");
    std::fs::write(&secret, &nar).unwrap();
    for place in [
        "../secret",
        "/etc/passwd",
        "nar/../../secret",
        "nar/%2e%2e/secret",
        "http://127.0.0.1:1/x",
        "nar//x",
    ] {
        let text = good.to_text().replace("URL: nar/good", &format!("URL: {place}"));
        attack.put(&format!("{}.narinfo", good.path.hash_part()), text.as_bytes());
        assert!(attack.refused(&good.path, trust()).contains("not a place below the cache"), "{place}");
    }
    // A link in the cache's own folder that leads out of it.
    std::os::unix::fs::symlink(&secret, attack.cache().join("nar/link")).unwrap();
    let mut linked = good.clone();
    linked.url = "nar/link".to_owned();
    attack.entry(&linked);
    attack.refused(&linked.path, trust());
}

/// A content address needs no signature, for the contents prove it; so they must.
#[test]
fn content_address_is_proven_by_contents() {
    let attack = Attack::new();
    let none = BTreeSet::new();
    let (good, bad) = (plain("good"), plain("evil"));
    let flat = Hash::sha256(b"good");
    let tree = Hash::sha256(&good);
    let cases = [
        (
            fixed_output_path(ContentMethod::Flat, &flat, "flat", &none, false).unwrap(),
            ContentMethod::Flat,
            flat,
        ),
        (
            fixed_output_path(ContentMethod::Recursive, &tree, "tree", &none, false).unwrap(),
            ContentMethod::Recursive,
            tree,
        ),
        (text_path("text", &flat, &none).unwrap(), ContentMethod::Text, flat),
    ];
    for (path, method, hash) in cases {
        let mut info = PathInfo::new(path.clone(), Hash::sha256(&bad), bad.len() as u64);
        info.content_address = Some(content_address(method, &hash));
        let mut entry = NarInfo::of(&info, format!("nar/{}", path.name()), Compression::None);
        attack.put(&entry.url, &bad);
        attack.entry(&entry);
        assert!(attack.refused(&path, Trust::default()).contains("other contents"), "{path}");
        // A content address that is right, but not this path's.
        entry.content_address = Some(content_address(method, &Hash::sha256(&bad)));
        attack.entry(&entry);
        assert!(attack.refused(&path, Trust::default()).contains("belongs to another path"), "{path}");
        // And the right contents need nobody's word.
        info.nar_hash = Hash::sha256(&good);
        let entry = NarInfo::of(&info, format!("nar/{}", path.name()), Compression::None);
        attack.put(&entry.url, &good);
        attack.entry(&entry);
        let to = store(&attack.folder.path().join(format!("good-{}", path.name())));
        caches(&[url(&attack.cache())], Trust::default()).bring(&to, &path).unwrap();
    }
}

/// No signature covers a content address, so nobody's word is for it: not that of a trusted key, nor of a trusted cache.
#[test]
fn content_address_is_proven_whoever_vouches() {
    let attack = Attack::new();
    let none = BTreeSet::new();
    let (good, bad) = (plain("good"), plain("evil"));
    let (flat, tree) = (Hash::sha256(b"good"), Hash::sha256(&good));
    let trusted = format!("{}?trusted=1", url(&attack.cache()));
    for (number, (method, hash)) in
        [(ContentMethod::Flat, flat), (ContentMethod::Recursive, tree), (ContentMethod::Text, flat)]
            .into_iter()
            .enumerate()
    {
        let path = fixed_output_path(method, &hash, "fixed", &none, false).unwrap();
        let mut info = PathInfo::new(path.clone(), Hash::sha256(&bad), bad.len() as u64);
        info.content_address = Some(content_address(method, &hash));
        let mut entry = NarInfo::of(&info, "nar/evil".to_owned(), Compression::None);
        entry.signatures = vec![key().sign(&entry.fingerprint())];
        attack.put(&entry.url, &bad);
        attack.entry(&entry);
        assert!(attack.refused(&path, trust()).contains("other contents"), "{path}");
        let to = store(&attack.folder.path().join(format!("to-{number}")));
        let told = caches(std::slice::from_ref(&trusted), Trust::default()).bring(&to, &path).unwrap_err();
        assert!(told.contains("other contents") && to.all_valid_paths().unwrap().is_empty(), "{told}");
        // A store that took it in earlier times puts no signature to it.
        info.references.clear();
        to.add_nar(&mut bad.as_slice(), &info).unwrap();
        let team = attack.folder.path().join(format!("team-{number}"));
        crate::support::push(&to, &url(&team), Some(&key()), &[&path]).unwrap();
        let text = std::fs::read(team.join(format!("{}.narinfo", path.hash_part()))).unwrap();
        assert_eq!(NarInfo::parse("x", &text).unwrap().signatures, Vec::<String>::new());
        let last = store(&attack.folder.path().join(format!("last-{number}")));
        caches(&[url(&team)], trust()).bring(&last, &path).unwrap_err();
    }
    // An address that cannot be checked is left out: the path is what was signed, and nothing more.
    let mut entry = attack.signed("git", &good, Compression::None, &good);
    entry.content_address = Some(content_address(ContentMethod::Git, &tree));
    attack.entry(&entry);
    let to = store(&attack.folder.path().join("git"));
    caches(&[url(&attack.cache())], trust()).bring(&to, &entry.path).unwrap();
    assert_eq!(to.path_info(&entry.path).unwrap().unwrap().content_address, None);
}

/// Contents that mention their own path are hashed without it; that is checked too, and somebody has to vouch beside it.
#[test]
fn content_address_of_what_refers_to_itself() {
    let attack = Attack::new();
    let scratch = output_path("out", &Hash::sha256(b"scratch"), "own").unwrap();
    let file = attack.folder.path().join("source");
    std::fs::write(&file, format!("I am {scratch}")).unwrap();
    let references = BTreeSet::from([scratch.clone()]);
    let (method, algorithm) = (ContentMethod::Recursive, rednix_store::hash::HashAlgorithm::Sha256);
    let named = rednix_store::store::name_by_contents(&file, &scratch, "own", method, algorithm, &references);
    let named = named.unwrap();
    let entry_of = |contents: &str| {
        let nar = plain(contents);
        let mut info = PathInfo::new(named.path.clone(), Hash::sha256(&nar), nar.len() as u64);
        info.references = BTreeSet::from([named.path.clone()]);
        info.content_address = Some(named.content_address.clone());
        let mut entry = NarInfo::of(&info, "nar/own".to_owned(), Compression::None);
        entry.signatures = vec![key().sign(&entry.fingerprint())];
        attack.put(&entry.url, &nar);
        attack.entry(&entry);
        entry
    };
    entry_of(&format!("I am evil, {}", named.path));
    assert!(attack.refused(&named.path, trust()).contains("other contents"));
    // A made-up address, which belongs to no path of this name.
    let mut entry = entry_of(&format!("I am {}", named.path));
    entry.content_address = Some(content_address(method, &Hash::sha256(b"made up")));
    attack.entry(&entry);
    assert!(attack.refused(&named.path, trust()).contains("belongs to another path"));
    entry.content_address = Some(named.content_address.clone());
    attack.entry(&entry);
    assert!(attack.refused(&named.path, Trust::default()).contains("not signed"));
    let to = store(&attack.folder.path().join("good"));
    caches(&[url(&attack.cache())], trust()).bring(&to, &named.path).unwrap();
    let info = to.path_info(&named.path).unwrap().unwrap();
    assert_eq!(info.content_address, Some(named.content_address));
}

#[test]
fn realisation_nobody_vouches_for() {
    let attack = Attack::new();
    let tree = plain("evil");
    let hash = Hash::sha256(&tree);
    // The path proves itself; that it is what the derivation makes does not.
    let path = fixed_output_path(ContentMethod::Recursive, &hash, "evil", &BTreeSet::new(), false).unwrap();
    let mut info = PathInfo::new(path.clone(), hash, tree.len() as u64);
    info.content_address = Some(content_address(ContentMethod::Recursive, &hash));
    let entry = NarInfo::of(&info, "nar/evil".to_owned(), Compression::None);
    attack.put(&entry.url, &tree);
    attack.entry(&entry);
    let id = RealisationId { derivation_hash: Hash::sha256(b"victim"), output: "out".to_owned() };
    let other = RealisationId { derivation_hash: Hash::sha256(b"other"), output: "out".to_owned() };
    let key_of = |id: &RealisationId| Key::Hash(id.clone());
    let derivation = text_path("victim.drv", &Hash::sha256(b"d"), &BTreeSet::new()).unwrap();
    let newer = Key::Derivation(derivation.clone(), "out".to_owned());
    let stolen = key_of(&other).sign(&path, &key());
    let texts = [
        (key_of(&id), key_of(&id).to_text(&path, &[])),
        (key_of(&id), key_of(&id).to_text(&path, std::slice::from_ref(&stolen))),
        (key_of(&id), key_of(&other).to_text(&path, std::slice::from_ref(&stolen))),
        (newer.clone(), newer.to_text(&path, std::slice::from_ref(&stolen))),
    ];
    for (number, (place, text)) in texts.into_iter().enumerate() {
        let _ = std::fs::remove_dir_all(attack.cache().join("realisations"));
        attack.put(&place.place(), text.as_bytes());
        let to = store(&attack.folder.path().join(format!("to-{number}")));
        let ask = Ask {
            derivation: derivation.clone(),
            output: "out".to_owned(),
            path: None,
            realisation: Some(id.clone()),
        };
        caches(&[url(&attack.cache())], trust()).ask(&to, ask.clone()).unwrap_err();
        assert!(to.query_realisation(&id).unwrap().is_none());
        // Signed for this very output it is taken, in either layout.
        attack.put(&place.place(), place.to_text(&path, &[place.sign(&path, &key())]).as_bytes());
        caches(&[url(&attack.cache())], trust()).ask(&to, ask).unwrap();
        assert_eq!(to.query_realisation(&id).unwrap().unwrap().path, path);
    }
}

#[test]
fn references_that_lead_in_a_circle_or_nowhere() {
    let attack = Attack::new();
    let nar = plain("x");
    let mut one = attack.signed("one", &nar, Compression::None, &nar);
    let mut two = attack.signed("two", &nar, Compression::None, &nar);
    one.references.insert(two.path.clone());
    two.references.insert(one.path.clone());
    for entry in [&mut one, &mut two] {
        entry.signatures = vec![key().sign(&entry.fingerprint())];
        attack.entry(entry);
    }
    attack.refused(&one.path, trust());
    let nowhere = output_path("out", &Hash::sha256(b"nowhere"), "nowhere").unwrap();
    two.references = BTreeSet::from([nowhere]);
    two.signatures = vec![key().sign(&two.fingerprint())];
    attack.entry(&two);
    assert!(attack.refused(&one.path, trust()).contains("no cache has"));
}

/// What one cache got wrong leaves nothing behind in the store's folder.
#[test]
fn nothing_half_made_stays() {
    let attack = Attack::new();
    let nar = plain("x");
    let entry = attack.signed("x", &nar, Compression::None, &nar[..nar.len() - 8]);
    attack.refused(&entry.path, trust());
    let left = |folder: &Path| std::fs::read_dir(folder).unwrap().count();
    let to = store(&attack.folder.path().join("to"));
    assert_eq!(left(&to.layout().contents()), 0);
    assert_eq!(left(&to.layout().scratch()), 0);
}

//! References and lock files: what is written comes back, and what is wrong is refused.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rednix_store::path::StorePath;

use crate::{
    Declaration, DeclaredInput, Fetched, FlakeError, FlakeRef, Input, LockFile, LockOptions, Registries,
    Registry, Sources, compact_date, date, difference, lock_flake, resolve, split_outputs,
};

/// Reference → its attributes as JSON, and its address where that differs.
const REFERENCES: &[(&str, &str, Option<&str>)] = &[
    ("nixpkgs", r#"{"id":"nixpkgs","type":"indirect"}"#, Some("flake:nixpkgs")),
    ("flake:a/main", r#"{"id":"a","ref":"main","type":"indirect"}"#, None),
    ("github:o/r/v1?dir=sub", r#"{"dir":"sub","owner":"o","ref":"v1","repo":"r","type":"github"}"#, None),
    ("github:o/r/a/b", r#"{"owner":"o","ref":"a/b","repo":"r","type":"github"}"#, Some("github:o/r/a%2Fb")),
    ("gitlab:o/r?host=git.example", r#"{"host":"git.example","owner":"o","repo":"r","type":"gitlab"}"#, None),
    ("sourcehut:~o/r", r#"{"owner":"~o","repo":"r","type":"sourcehut"}"#, None),
    (
        "git+https://h/r?ref=main&submodules=1&x=y",
        r#"{"ref":"main","submodules":true,"type":"git","url":"https://h/r?x=y"}"#,
        Some("git+https://h/r?ref=main&submodules=1&x=y"),
    ),
    (
        "git+file:///a/b?dir=c",
        r#"{"dir":"c","type":"git","url":"file:///a/b"}"#,
        Some("git+file:///a/b?dir=c"),
    ),
    ("https://h/a.tar.gz", r#"{"type":"tarball","url":"https://h/a.tar.gz"}"#, None),
    ("file+https://h/a", r#"{"type":"file","url":"https://h/a"}"#, Some("https://h/a")),
    ("path:./a", r#"{"path":"./a","type":"path"}"#, None),
    ("/a/b?dir=c", r#"{"dir":"c","path":"/a/b","type":"path"}"#, Some("path:/a/b?dir=c")),
];

#[test]
fn references_are_read_and_written() {
    for (text, attributes, url) in REFERENCES {
        let reference = FlakeRef::parse(text, true, true).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(reference.to_attributes().to_string(), *attributes, "{text}");
        assert_eq!(reference.to_url().unwrap(), url.unwrap_or(text), "{text}");
        assert_eq!(FlakeRef::from_attributes(reference.to_attributes()).unwrap(), reference, "{text}");
    }
}

#[test]
fn wrong_references_are_refused() {
    let cases = [
        // What is no address may be a path, so that is what the error is about.
        ("github:o", "is not an absolute path"),
        ("github:o/r/v1?rev=0123456789012345678901234567890123456789", "is not an absolute path"),
        ("git+https://h/r?ref=a..b", "is not an absolute path"),
        ("nixpkgs#x", "unexpected fragment 'x'"),
        ("path://host/a", "should not have an authority"),
        ("path:/a?x=y", "unsupported parameter 'x'"),
        ("svn+https://h/r", "is unsupported"),
        ("file+git://h/r", "did you mean 'git+file'"),
        ("a b", "is not an absolute path"),
        // Found by fuzzing: what is left of `git+` has to be a scheme too.
        ("git+://h/r", ""),
        ("git+6fi://h/r", ""),
        ("git+git+file:///r", "is unsupported"),
        ("https://h/a?narHash=md5-x", ""),
    ];
    for (text, expected) in cases {
        let error = FlakeRef::parse(text, true, false).expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn outputs_are_split_off() {
    assert_eq!(split_outputs(".#a^out,dev"), (".#a", vec!["out".to_owned(), "dev".to_owned()]));
    assert_eq!(split_outputs(".#a^*"), (".#a", vec!["*".to_owned()]));
    assert_eq!(split_outputs(".#a"), (".#a", vec![]));
    assert_eq!(split_outputs(".#a^"), (".#a^", vec![]));
}

#[test]
fn dates() {
    assert_eq!(date(0), "1970-01-01");
    assert_eq!(compact_date(951_827_696), "20000229123456");
    assert_eq!(compact_date(1_709_251_199), "20240229235959");
    assert_eq!(compact_date(4_102_444_800), "21000101000000");
}

#[test]
fn wrong_lock_files_are_refused() {
    let cases = [
        ("{", "Could not parse 'flake.lock'"),
        (r#"{"version":8,"root":"root","nodes":{"root":{}}}"#, "unsupported version 8"),
        (r#"{"version":7,"root":"root","nodes":{"root":{"inputs":{"a":"b"}}}}"#, "missing node 'b'"),
        (r#"{"version":7,"root":"root","nodes":{"root":{"inputs":{"a":"root"}}}}"#, "cycle to root"),
        (
            r#"{"version":7,"root":"r","nodes":{"r":{"inputs":{"a":"a"}},"a":{"original":{"type":"path","path":"/a"}}}}"#,
            "attribute 'locked' missing",
        ),
        (
            r#"{"version":7,"root":"r","nodes":{"r":{"inputs":{"a":"a"}},"a":{"locked":{"type":"path","path":"/a"},"original":{"type":"path","path":"/a"}}}}"#,
            "unlocked input",
        ),
    ];
    for (text, expected) in cases {
        let error = LockFile::parse(text, "flake.lock").expect_err(text).to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn follows_that_go_in_circles_are_found() {
    let text = r#"{"version":7,"root":"root","nodes":{"root":{"inputs":{"a":["b"],"b":["a"]}}}}"#;
    let error = LockFile::parse(text, "flake.lock").unwrap().check().unwrap_err().to_string();
    assert!(error.contains("follow cycle detected: ["), "{error}");
    let text = r#"{"version":7,"root":"root","nodes":{"root":{"inputs":{"a":["b"]}}}}"#;
    let error = LockFile::parse(text, "flake.lock").unwrap().check().unwrap_err().to_string();
    assert!(error.contains("input 'a' follows a non-existent input 'b'"), "{error}");
}

#[test]
fn registries_resolve_names() {
    let text = r#"{"version":2,"flakes":[
        {"from":{"type":"indirect","id":"a"},"to":{"type":"indirect","id":"b"}},
        {"from":{"type":"indirect","id":"b"},"to":{"type":"github","owner":"o","repo":"r","dir":"d"}},
        {"from":{"type":"indirect","id":"c"},"to":{"type":"indirect","id":"c"}}]}"#;
    let registry = [Registry::parse(text, "registry.json").unwrap()];
    let resolved = |text: &str| {
        let input = FlakeRef::parse(text, true, false).unwrap().input;
        resolve(&input, &registry).map(|(input, folder)| (input.show(), folder))
    };
    assert_eq!(resolved("a/main").unwrap(), ("github:o/r/main".to_owned(), Some("d".to_owned())));
    assert!(resolved("c").unwrap_err().to_string().contains("cycle detected"));
    assert!(resolved("d").unwrap_err().to_string().contains("cannot find flake 'flake:d'"));
}

/// Flakes that exist only here: by address, what they declare and their lock file.
#[derive(Default)]
struct Fake {
    flakes: BTreeMap<String, (Vec<(&'static str, DeclaredInput)>, Option<String>)>,
    fetched: Vec<String>,
    warnings: Vec<String>,
    /// The commit every source is at.
    rev: char,
}

fn at(url: &str) -> DeclaredInput {
    DeclaredInput { reference: Some(FlakeRef::parse(url, true, true).unwrap()), ..DeclaredInput::default() }
}

fn follows(path: &str) -> DeclaredInput {
    DeclaredInput { follows: Some(crate::parse_input_path(path).unwrap()), ..DeclaredInput::default() }
}

impl Fake {
    fn name(input: &Input) -> String {
        input.text("repo").unwrap().to_owned()
    }

    fn at(path: &StorePath) -> &str {
        path.name()
    }
}

impl Sources for Fake {
    fn fetch(&mut self, input: &Input, _: Registries) -> Result<Fetched, FlakeError> {
        let (resolved, _) = resolve(input, &[])?;
        let name = Fake::name(&resolved);
        self.fetched.push(name.clone());
        let mut locked = resolved.clone();
        if !locked.attributes.has("rev") {
            locked.attributes.set("rev", String::from(self.rev).repeat(40));
        }
        let hash = rednix_store::hash::Hash::sha256(locked.show().as_bytes());
        locked.attributes.set("narHash", hash.to_sri());
        locked.attributes.remove("ref");
        let path = StorePath::parse(&format!("/nix/store/{}-{name}", "a".repeat(32))).unwrap();
        Ok(Fetched { resolved, locked, path, subdir: None })
    }

    fn declaration(
        &mut self,
        path: &StorePath,
        folder: &str,
        _: &FlakeRef,
    ) -> Result<Declaration, FlakeError> {
        let key = if folder.is_empty() {
            Fake::at(path).to_owned()
        } else {
            format!("{}/{folder}", Fake::at(path))
        };
        let (inputs, _) =
            self.flakes.get(&key).ok_or_else(|| FlakeError::Outside(format!("no flake {key}")))?;
        let inputs = inputs.iter().map(|(name, input)| ((*name).to_owned(), input.clone())).collect();
        Ok(Declaration { inputs, ..Declaration::default() })
    }

    fn read(&mut self, path: &StorePath, file: &str) -> Result<Option<String>, FlakeError> {
        let folder = file.strip_suffix("flake.lock").unwrap().trim_end_matches('/');
        let key = if folder.is_empty() {
            Fake::at(path).to_owned()
        } else {
            format!("{}/{folder}", Fake::at(path))
        };
        Ok(self.flakes.get(&key).and_then(|(_, lock)| lock.clone()))
    }

    fn warn(&mut self, message: &str) {
        self.warnings.push(message.to_owned());
    }
}

fn fake() -> Fake {
    let mut fake = Fake { rev: '1', ..Fake::default() };
    let mut nested = at("github:o/b");
    nested.overrides.insert("c".to_owned(), follows("c"));
    fake.flakes.insert("top".to_owned(), (vec![("b", nested), ("c", at("github:o/c"))], None));
    fake.flakes.insert("b".to_owned(), (vec![("c", at("github:other/c")), ("d", at("github:o/d"))], None));
    fake.flakes.insert("c".to_owned(), (vec![], None));
    fake.flakes.insert("d".to_owned(), (vec![("e", at("path:./inner"))], None));
    fake.flakes.insert("d/inner".to_owned(), (vec![], None));
    fake
}

fn lock(fake: &mut Fake, options: &LockOptions) -> crate::LockedFlake {
    let top = FlakeRef::parse("github:o/top", true, false).unwrap();
    lock_flake(&top, options, fake).unwrap()
}

#[test]
fn inputs_are_locked_once_and_kept() {
    let mut fake = fake();
    let first = lock(&mut fake, &LockOptions::default());
    let text = first.lock.to_text();
    assert!(text.contains("\"c\": [\n          \"c\"\n        ]"), "{text}");
    assert!(text.contains("\"parent\": [\n        \"b\",\n        \"d\"\n      ]"), "{text}");
    assert!(!fake.fetched.contains(&"other".to_owned()));
    assert!(first.is_changed());
    // The next time nothing but the top is fetched, whatever the branches are at by then.
    fake.flakes.get_mut("top").unwrap().1 = Some(text.clone());
    (fake.rev, fake.fetched) = ('2', Vec::new());
    let second = lock(&mut fake, &LockOptions::default());
    assert_eq!(fake.fetched, ["top"]);
    assert_eq!(second.lock.to_text(), text);
    assert!(!second.is_changed());
    // One input is renewed, the others stay.
    let mut options = LockOptions::default();
    options.updates.insert(vec!["c".to_owned()]);
    let third = lock(&mut fake, &options);
    let change = difference(&third.old, &third.lock);
    assert!(change.starts_with("• Updated input 'c':") && change.matches('•').count() == 1, "{change}");
    // One below another is reached through its flake.
    let mut options = LockOptions::default();
    options.updates.insert(vec!["b".to_owned(), "d".to_owned()]);
    let fourth = lock(&mut fake, &options);
    let change = difference(&fourth.old, &fourth.lock);
    assert!(change.starts_with("• Updated input 'b/d':") && change.matches('•').count() == 1, "{change}");
}

#[test]
fn overrides_hold_and_are_sticky() {
    let mut fake = fake();
    fake.flakes.insert("other".to_owned(), (vec![], None));
    let mut options = LockOptions::default();
    options.overrides.insert(vec!["c".to_owned()], FlakeRef::parse("github:x/other", true, false).unwrap());
    options.overrides.insert(vec!["z".to_owned()], FlakeRef::parse("github:x/other", true, false).unwrap());
    let locked = lock(&mut fake, &options);
    assert_eq!(
        fake.warnings,
        [
            "input '' has an override for a non-existent input 'z'",
            "the flag '--override-input z github:x/other' does not match any input"
        ]
    );
    fake.flakes.get_mut("top").unwrap().1 = Some(locked.lock.to_text());
    assert!(!lock(&mut fake, &LockOptions::default()).is_changed());
}

#[test]
fn a_flake_that_imports_itself_is_found() {
    let mut fake = fake();
    fake.flakes.insert("c".to_owned(), (vec![("b", at("github:o/c"))], None));
    let top = FlakeRef::parse("github:o/top", true, false).unwrap();
    let error = lock_flake(&top, &LockOptions::default(), &mut fake).err().unwrap().to_string();
    assert!(error.contains("found circular import of flake 'github:o/c'"), "{error}");
}

proptest! {
    #[test]
    fn printing_and_parsing_a_reference_agree(text in "(github:|git\\+https://|path:|https://|flake:|git\\+file:///|/)?[a-z0-9/.~%?&=#:@+-]{0,30}") {
        if let Ok(reference) = FlakeRef::parse(&text, true, true)
            && let Ok(url) = reference.to_url()
            // A file's address does not say that it is one.
            && reference.input.kind() != crate::Kind::File
            && let Ok(again) = FlakeRef::parse(&url, true, true)
        {
            prop_assert_eq!(again.to_url().unwrap(), url);
        }
    }

    #[test]
    fn nothing_panics(text in "\\PC{0,60}") {
        let _ = FlakeRef::parse(&text, true, false);
        let _ = LockFile::parse(&text, "flake.lock");
        let _ = Registry::parse(&text, "registry.json");
    }

    #[test]
    fn writing_and_reading_a_lock_file_agree(names in prop::collection::btree_map("[a-z]{1,4}", prop::collection::vec("[a-z]{1,4}", 0..3), 0..6)) {
        let mut fake = Fake { rev: '3', ..Fake::default() };
        let mut top = Vec::new();
        for (name, inner) in &names {
            let name: &'static str = Box::leak(format!("i{name}").into_boxed_str());
            let inputs = inner.iter().map(|id| {
                let id: &'static str = Box::leak(format!("l{id}").into_boxed_str());
                (id, at(&format!("github:o/{id}")))
            });
            fake.flakes.insert(name.to_owned(), (inputs.collect(), None));
            for id in inner {
                fake.flakes.insert(format!("l{id}"), (vec![], None));
            }
            top.push((name, at(&format!("github:o/{name}"))));
        }
        fake.flakes.insert("top".to_owned(), (top, None));
        let text = lock(&mut fake, &LockOptions::default()).lock.to_text();
        prop_assert_eq!(LockFile::parse(&text, "flake.lock").unwrap().to_text(), text);
    }
}

//! Reading, writing and hashing derivations.

use proptest::prelude::*;

use super::*;

const INPUT: &str = "0dzsnvb6wnk8fc2gwhllh91jlhbhkmcn-in.drv";
const SOURCE: &str = "1dzsnvb6wnk8fc2gwhllh91jlhbhkmcn-src";

fn basename(text: &str) -> StorePath {
    StorePath::from_basename(text).unwrap()
}

fn sample() -> Derivation {
    let mut derivation = Derivation::new("sample", "x86_64-linux", "/bin/sh");
    derivation.outputs.insert("out".into(), Output::Deferred);
    derivation.outputs.insert("dev".into(), Output::Deferred);
    derivation.input_derivations.insert(basename(INPUT), ["out".to_owned()].into());
    derivation.input_sources.insert(basename(SOURCE));
    derivation.arguments = vec![b"-c".to_vec(), b"\"\\\n\r\t\xff\0".to_vec()];
    derivation.environment.insert(b"x".to_vec(), b"y\"".to_vec());
    derivation
}

#[test]
fn text_of_a_derivation() {
    let expected = br#"Derive([("dev","","",""),("out","","","")],[("/nix/store/0dzsnvb6wnk8fc2gwhllh91jlhbhkmcn-in.drv",["out"])],["/nix/store/1dzsnvb6wnk8fc2gwhllh91jlhbhkmcn-src"],"x86_64-linux","/bin/sh",["-c","\"\\\n\r\t"#;
    let text = sample().to_aterm();
    assert!(text.starts_with(expected), "{}", text.escape_ascii());
    assert!(text.ends_with(b"\xff\0\"],[(\"x\",\"y\\\"\")])"), "{}", text.escape_ascii());
    assert_eq!(Derivation::parse("sample", &text).unwrap(), sample());
}

#[test]
fn refused_texts() {
    let good = String::from_utf8(Derivation::new("x", "s", "b").to_aterm()).unwrap();
    assert!(Derivation::parse("x", good.as_bytes()).is_ok());
    let output = |fields: &str| good.replacen("[]", &format!("[({fields})]"), 1);
    let path = format!("/nix/store/{SOURCE}");
    let hex = Hash::sha256(b"").to_hex();
    for (text, reason) in [
        (String::new(), "expected `Derive(`"),
        ("Derive(".into(), "expected `[`"),
        (good.replace("Derive", "derive"), "expected `Derive(`"),
        (format!("{good} "), "after its end"),
        (good[..good.len() - 1].into(), "expected `)`"),
        (good.replace("\"b\"", "\"b"), "no end"),
        (good.replace("\"b\"", "b"), "expected"),
        (good.replacen("[]", "[,]", 1), "expected"),
        (output(r#""out","/x","","""#), "not a store path"),
        (output(r#""out","","","00""#), "no algorithm"),
        (output(&format!(r#""out","{path}","r:sha256","""#)), "cannot have a path"),
        (output(&format!(r#""out","{path}","r:sha3","{hex}""#)), "unknown hash algorithm"),
        (output(&format!(r#""out","{path}","sha256","{}""#, &hex[1..])), "lower-case hex"),
        (output(&format!(r#""out","{path}","sha256","{}""#, hex.to_uppercase())), "lower-case hex"),
        (output(r#""out","","r:sha256","impure""#), "impure"),
        (output(r#""o/t","","","""#), "cannot be the name"),
        (output(r#""out","","",""),("out","","","""#), "twice"),
        ("DrvWithVersion(\"xp-dyn-drv\",[]".into(), "dynamic"),
        (
            good.replace(
                "[],[],\"s\"",
                "[(\"/nix/store/1dzsnvb6wnk8fc2gwhllh91jlhbhkmcn-src\",[])],[],\"s\"",
            ),
            "not a derivation",
        ),
    ] {
        let message = Derivation::parse("x", text.as_bytes()).unwrap_err().to_string();
        assert!(message.contains(reason), "{text}\n{message}");
    }
    assert!(Derivation::parse("a/b", good.as_bytes()).is_err());
}

#[test]
fn kinds_of_outputs_do_not_mix() {
    let fixed = || Output::fixed(ContentMethod::Flat, Hash::sha256(b""), "x", "out").unwrap();
    let floating = || Output::Floating { method: ContentMethod::Recursive, algorithm: HashAlgorithm::Sha256 };
    for (outputs, fine) in [
        (vec![("out", Output::Deferred), ("dev", Output::Deferred)], true),
        (vec![("out", fixed())], true),
        (vec![("out", floating()), ("dev", floating())], true),
        (vec![], false),
        (vec![("dev", fixed())], false),
        (vec![("out", fixed()), ("dev", fixed())], false),
        (vec![("out", floating()), ("dev", Output::Deferred)], false),
    ] {
        let mut derivation = Derivation::new("x", "s", "b");
        derivation.outputs = outputs.into_iter().map(|(name, output)| (name.to_owned(), output)).collect();
        assert_eq!(derivation.check_outputs().is_ok(), fine, "{:?}", derivation.outputs);
    }
}

/// A chain of derivations, each using the one before; the first has a fixed output if `hash` is given.
fn chain(len: usize, note: &str, hash: Option<Hash>) -> (Vec<(StorePath, Derivation)>, DerivationHashes) {
    let mut hashes = DerivationHashes::new();
    let mut made: Vec<(StorePath, Derivation)> = Vec::new();
    for index in 0..len {
        let mut derivation = Derivation::new(&format!("step{index}"), "s", "b");
        derivation.outputs.insert("out".into(), Output::Deferred);
        match made.last() {
            Some((path, _)) => {
                derivation.input_derivations.insert(path.clone(), ["out".to_owned()].into());
            }
            None => {
                derivation.environment.insert(b"note".to_vec(), note.into());
                if let Some(hash) = hash {
                    let output = Output::fixed(ContentMethod::Flat, hash, "step0", "out").unwrap();
                    derivation.outputs.insert("out".into(), output);
                }
            }
        }
        derivation.fill_output_paths(&mut |path| Ok(hashes.get(path).unwrap())).unwrap();
        let hash = hash_modulo(&derivation, &mut |path| Ok(hashes.get(path).unwrap())).unwrap();
        let path = derivation.store_path().unwrap();
        hashes.insert(path.clone(), hash);
        made.push((path, derivation));
    }
    (made, hashes)
}

#[test]
fn how_a_fixed_output_is_fetched_does_not_matter() {
    let hash = Some(Hash::sha256(b"x"));
    let (one, _) = chain(3, "one", hash);
    let (two, _) = chain(3, "two", hash);
    assert_ne!(one[2].0, two[2].0);
    assert_eq!(one[2].1.output_path("out"), two[2].1.output_path("out"));
    let (three, _) = chain(3, "one", None);
    let (four, _) = chain(3, "two", None);
    assert_ne!(three[2].1.output_path("out"), four[2].1.output_path("out"));
}

#[test]
fn hashes_of_long_chains_need_no_recursion() {
    let (made, known) = chain(20_000, "deep", None);
    let (last, _) = made.last().unwrap();
    let mut hashes = DerivationHashes::new();
    let mut loads = 0;
    let index: std::collections::HashMap<_, _> = made.iter().cloned().collect();
    let hash = hashes
        .resolve(last, &mut |path| {
            loads += 1;
            Ok(index[path].clone())
        })
        .unwrap();
    assert_eq!(Some(hash), known.get(last));
    assert_eq!(loads, made.len());
}

#[test]
fn circles_are_refused() {
    let mut one = Derivation::new("one", "s", "b");
    one.outputs.insert("out".into(), Output::Deferred);
    one.input_derivations.insert(basename(INPUT), ["out".to_owned()].into());
    let message =
        DerivationHashes::new().resolve(&basename(INPUT), &mut |_| Ok(one.clone())).unwrap_err().to_string();
    assert!(message.contains("needs itself"), "{message}");
}

#[test]
fn resolving_puts_real_paths_in() {
    let mut derivation = sample();
    let stand_in = upstream_placeholder(&basename(INPUT), "out");
    derivation.arguments = vec![format!("a{stand_in}/b{stand_in}").into_bytes()];
    derivation.environment.insert(stand_in.clone().into_bytes(), format!("/{stand_in}").into_bytes());
    derivation.builder = stand_in.into_bytes();
    let actual = basename("2dzsnvb6wnk8fc2gwhllh91jlhbhkmcn-in");
    assert_eq!(resolve_inputs(&derivation, &mut |_, _| Ok(None)).unwrap(), None);
    let resolved = resolve_inputs(&derivation, &mut |path, output| {
        assert_eq!((path.basename(), output), (INPUT, "out"));
        Ok(Some(actual.clone()))
    })
    .unwrap()
    .unwrap();
    assert!(resolved.input_derivations.is_empty());
    assert_eq!(resolved.input_sources, [basename(SOURCE), actual.clone()].into());
    assert_eq!(resolved.builder, actual.to_string().into_bytes());
    assert_eq!(resolved.arguments, [format!("a{actual}/b{actual}").into_bytes()]);
    assert_eq!(resolved.environment[actual.to_string().as_bytes()], format!("/{actual}").into_bytes());
    for name in ["out", "dev"] {
        let path = resolved.output_path(name).unwrap().to_string();
        assert_eq!(resolved.variable(name), Some(&*path));
    }
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'"'), Just(b'\\'), Just(b'\n')], 0..20)
}

fn any_path(suffix: &'static str) -> impl Strategy<Value = StorePath> {
    (any::<[u8; 20]>(), "[a-z][a-z0-9+._?=-]{0,10}")
        .prop_map(move |(part, name)| StorePath::from_parts(&part, &format!("{name}{suffix}")).unwrap())
}

fn any_output() -> impl Strategy<Value = Output> {
    prop_oneof![
        Just(Output::Deferred),
        any_path("").prop_map(Output::InputAddressed),
        (0usize..5, any::<bool>()).prop_map(|(index, recursive)| Output::Floating {
            method: if recursive { ContentMethod::Recursive } else { ContentMethod::Flat },
            algorithm: HashAlgorithm::ALL[index],
        }),
        (0usize..5, any::<[u8; 4]>(), any_path("")).prop_map(|(index, seed, path)| Output::Fixed {
            method: ContentMethod::Git,
            hash: Hash::of(HashAlgorithm::ALL[index], &seed),
            path,
        }),
    ]
}

prop_compose! {
    fn any_derivation()(
        outputs in proptest::collection::btree_map("[a-z]{1,4}", any_output(), 0..4),
        input_derivations in proptest::collection::btree_map(
            any_path(".drv"), proptest::collection::btree_set("[a-z]{1,4}", 0..3), 0..3),
        input_sources in proptest::collection::btree_set(any_path(""), 0..3),
        (system, builder) in (text(), text()),
        arguments in proptest::collection::vec(text(), 0..3),
        environment in proptest::collection::btree_map(text(), text(), 0..4),
    ) -> Derivation {
        Derivation {
            outputs, input_derivations, input_sources, system, builder, arguments, environment, name: "any".into(),
        }
    }
}

proptest! {
    #[test]
    fn every_derivation_reads_back(derivation in any_derivation()) {
        let text = derivation.to_aterm();
        let read = Derivation::parse("any", &text).unwrap();
        prop_assert_eq!(&read, &derivation);
        prop_assert_eq!(read.to_aterm(), text);
    }

    #[test]
    fn damaged_texts_are_read_or_refused(
        derivation in any_derivation(), at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let mut text = derivation.to_aterm();
        let at = at.index(text.len());
        if cut { text.truncate(at) } else { text[at] = byte }
        if let Ok(read) = Derivation::parse("any", &text) {
            prop_assert_eq!(Derivation::parse("any", &read.to_aterm()).unwrap(), read);
        }
    }
}

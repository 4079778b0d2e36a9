use proptest::prelude::*;

use super::*;
use crate::pkgar::Archive;

#[test]
fn versions_are_guessed_as_upstream_does() {
    let cases = [
        ("https://example.org/zlib-1.3.1.tar.xz", Some("1.3.1")),
        ("crate:redoxfs/0.9.1", Some("0.9.1")),
        ("v0.3.3", Some("0.3.3")),
        ("curl-8_20_0", None),
        ("release-5.3", Some("5.3")),
        ("1.2.3.4", Some("1.2.3")),
        ("x264-12 and 3.", None),
        ("12.x 7.8", Some("7.8")),
        ("", None),
        ("1f7c81f5d2", None),
        ("…9.…8.1", Some("8.1")),
    ];
    for (text, expected) in cases {
        assert_eq!(version_in(text).as_deref(), expected, "{text}");
    }
    let source = tempfile::tempdir().unwrap();
    fs::write(source.path().join("Cargo.toml"), "[workspace.package]\nversion = \"4.5.6\"\n").unwrap();
    assert_eq!(version(Some("7"), &["1.2"], Some(source.path())), "7");
    assert_eq!(version(None, &["master", "v1.2"], Some(source.path())), "1.2");
    assert_eq!(version(None, &["master"], Some(source.path())), "4.5.6");
    fs::write(source.path().join("Cargo.toml"), "[package]\nversion.workspace = true\n").unwrap();
    assert_eq!(version(None, &[], Some(source.path())), "TODO");
    assert_eq!(version(None, &[], None), "TODO");
}

fn package(folder: &Path, files: &[(&str, &str)]) -> Contents {
    for (path, text) in files {
        let file = folder.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    Contents::read(folder).unwrap()
}

fn publication<'a>(name: &'a str, contents: Option<&'a Contents>) -> Publication<'a> {
    let version = if contents.is_some() { "1.0".to_owned() } else { String::new() };
    Publication { name, version, source: "abc".into(), depends: vec!["other".into()], contents }
}

#[test]
fn a_repository_grows_and_repeats() {
    let scene = tempfile::tempdir().unwrap();
    let key = SecretKey::from_seed([9; 32]);
    let one = package(&scene.path().join("one"), &[("usr/bin/one", "1"), ("usr/share/x", "y")]);
    let two = package(&scene.path().join("two"), &[("usr/bin/two", "2")]);
    let publish_all = |folder: &Path| {
        publish(folder, "t", &key, &[publication("one", Some(&one))]).unwrap();
        publish(folder, "t", &key, &[publication("two", Some(&two)), publication("meta", None)]).unwrap();
    };
    let (left, right) = (scene.path().join("left"), scene.path().join("right"));
    publish_all(&left);
    publish_all(&right);
    for name in
        ["id_ed25519.pub.toml", "t/repo.toml", "t/one.toml", "t/one.pkgar", "t/two.pkgar", "t/meta.toml"]
    {
        assert_eq!(fs::read(left.join(name)).unwrap(), fs::read(right.join(name)).unwrap(), "{name}");
    }
    let mut names: Vec<_> =
        fs::read_dir(left.join("t")).unwrap().map(|item| item.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["meta.toml", "one.pkgar", "one.toml", "repo.toml", "two.pkgar", "two.toml"]);

    let index: toml::Table = fs::read_to_string(left.join("t/repo.toml")).unwrap().parse().unwrap();
    assert_eq!(index["packages"]["one"].as_str(), Some(one.head.hash_hex().as_str()));
    assert_eq!(index["packages"]["meta"].as_str(), Some(""));
    let described: toml::Table = fs::read_to_string(left.join("t/one.toml")).unwrap().parse().unwrap();
    let size = fs::metadata(left.join("t/one.pkgar")).unwrap().len() as i64;
    assert_eq!(described["network_size"].as_integer(), Some(size));
    assert_eq!(described["depends"].as_array().unwrap().len(), 1);
    let archive = Archive::open(&left.join("t/one.pkgar"), key.public()).unwrap();
    assert_eq!(archive.head, one.head);
}

#[test]
fn another_key_is_refused() {
    let scene = tempfile::tempdir().unwrap();
    let one = package(&scene.path().join("one"), &[("a", "1")]);
    let folder = scene.path().join("repo");
    publish(&folder, "t", &SecretKey::from_seed([1; 32]), &[publication("one", Some(&one))]).unwrap();
    let other = publish(&folder, "t", &SecretKey::from_seed([2; 32]), &[publication("one", Some(&one))]);
    assert!(other.unwrap_err().to_string().contains("--key"));
}

proptest! {
    #[test]
    fn a_version_is_part_of_its_text(text in "[a-z0-9.é_-]{0,40}") {
        if let Some(version) = version_in(&text) {
            prop_assert!(text.contains(&version));
            prop_assert!(version.starts_with(|c: char| c.is_ascii_digit()) && version.ends_with(|c: char| c.is_ascii_digit()));
            prop_assert!((1..=2).contains(&version.matches('.').count()));
        }
    }
}

//! Tables of documents and what they hold, and properties.

use proptest::prelude::*;

use super::*;

/// A tree in a short notation.
fn show(tree: &Tree) -> String {
    match tree {
        Tree::Null => "null".to_owned(),
        Tree::Bool(value) => value.to_string(),
        Tree::Int(value) => value.to_string(),
        Tree::Float(value) => format!("{value:?}"),
        Tree::String(text) => format!("{:?}", String::from_utf8_lossy(text)),
        Tree::Timestamp(text) => format!("@{text}"),
        Tree::List(elements) => {
            format!("[{}]", elements.iter().map(show).collect::<Vec<_>>().join(" "))
        }
        Tree::Table(members) => {
            let member =
                |(key, value): &(Vec<u8>, Tree)| format!("{}={}", String::from_utf8_lossy(key), show(value));
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(" "))
        }
    }
}

#[test]
fn documents_are_read() {
    for (text, expected) in [
        ("", "{}"),
        ("b = 1\na = 'x'", "{a=\"x\" b=1}"),
        ("a.b.c = true", "{a={b={c=true}}}"),
        ("[t]\nx = 1\n[t.u]\ny = 2", "{t={u={y=2} x=1}}"),
        ("[[p]]\nn = 1\n[[p]]\nn = 2", "{p=[{n=1} {n=2}]}"),
        ("a = [1, [2.5, 'x'], {k = 1}]", "{a=[1 [2.5 \"x\"] {k=1}]}"),
        ("a = 0xff\nb = 0o17\nc = 0b11\nd = 1_000", "{a=255 b=15 c=3 d=1000}"),
        ("a = inf\nb = -inf\nc = nan", "{a=inf b=-inf c=NaN}"),
        ("a = \"\"\"\nx\\\n   y\"\"\"\nb = '''\n\\n'''", "{a=\"xy\" b=\"\\\\n\"}"),
        ("a = 1979-05-27T07:32:00Z", "{a=@1979-05-27T07:32:00Z}"),
        ("a = 1979-05-27\nb = 07:32:00", "{a=@1979-05-27 b=@07:32:00}"),
        ("\"key with space\" = 1\n'' = 2", "{=2 key with space=1}"),
        ("a = 9223372036854775807", "{a=9223372036854775807}"),
    ] {
        let tree = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(show(&tree), expected, "{text}");
    }
}

#[test]
fn wrong_documents_are_refused_with_their_place() {
    for (text, place) in [
        ("a = 1\na = 2", (2, 1)),
        ("[t]\n[t]", (2, 2)),
        ("a = 9223372036854775808", (1, 5)),
        ("a = {}\na.b = 1", (2, 1)),
        ("a = [", (1, 6)),
        ("a", (1, 2)),
        ("\n\n  = 1", (3, 3)),
        ("a = 1e400", (1, 5)),
        ("a = -1_0.0e4_00", (1, 5)),
        // What TOML 1.1 brought.
        ("a = {b = 1,}", (1, 11)),
        ("a = {\nb = 1}", (1, 6)),
        ("a = {b = 1, # c\n c = 2}", (1, 13)),
        ("a = [{b = [\n1\n]}, {\n}]", (3, 6)),
        ("x = 1\na = 07:32", (2, 5)),
        ("a = 1979-05-27T07:32Z", (1, 5)),
        ("a = \"\\e\"", (1, 5)),
        ("a = [\"\"\"\\x41\"\"\"]", (1, 6)),
        ("\"\\x41\" = 1", (1, 1)),
        ("\"a\\e\".b = 1", (1, 1)),
    ] {
        match parse(text) {
            Err(TomlError::Syntax { line, column, .. }) => assert_eq!((line, column), place, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
}

#[test]
fn depth_is_bounded() {
    assert!(parse(&format!("a = {}", "[".repeat(100_000))).is_err());
    let dotted = vec!["a"; TREE_DEPTH_MAX + 10].join(".");
    assert!(parse(&format!("{dotted} = 1")).is_err());
    assert!(parse(&format!("[{dotted}]")).is_err());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[a-c\\[\\]{}=.,\"'\n0-9 #_-]{0,40}") {
        let _ = parse(&text);
    }

    #[test]
    fn strings_and_integers_come_back(text in "[ -~]{0,20}", number: i64) {
        let document = format!("s = {}\nn = {number}", toml::Value::String(text.clone()));
        let expected = Tree::Table(vec![
            (b"n".to_vec(), Tree::Int(number)),
            (b"s".to_vec(), Tree::String(text.into_bytes())),
        ]);
        prop_assert_eq!(parse(&document), Ok(expected));
    }
}

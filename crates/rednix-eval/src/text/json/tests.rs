//! Tables of texts and what they hold, and properties.

use proptest::prelude::*;

use super::super::tree::Tree;
use super::*;

/// A tree as compact JSON, to compare with what was read.
fn show(tree: &Tree) -> String {
    match tree {
        Tree::Null => "null".to_owned(),
        Tree::Bool(value) => value.to_string(),
        Tree::Int(value) => value.to_string(),
        Tree::Float(value) => super::super::number::format_json(*value),
        Tree::Timestamp(_) => unreachable!("JSON has no timestamps"),
        Tree::String(text) => {
            let mut output = Vec::new();
            write_string(&mut output, text).unwrap();
            String::from_utf8(output).unwrap()
        }
        Tree::List(elements) => {
            format!("[{}]", elements.iter().map(show).collect::<Vec<_>>().join(","))
        }
        Tree::Table(members) => {
            let member = |(key, value): &(Vec<u8>, Tree)| {
                format!("{}:{}", show(&Tree::String(key.clone())), show(value))
            };
            format!("{{{}}}", members.iter().map(member).collect::<Vec<_>>().join(","))
        }
    }
}

#[test]
fn texts_are_read() {
    for (text, expected) in [
        ("null", "null"),
        (" [ true , false ] \r\n\t", "[true,false]"),
        ("\u{feff}1", "1"),
        ("-0", "0"),
        ("-0.0", "-0.0"),
        ("9223372036854775807", "9223372036854775807"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("-9223372036854775809", "-9.223372036854776e+18"),
        ("18446744073709551616", "1.8446744073709552e+19"),
        ("1e2", "100.0"),
        ("1E+2", "100.0"),
        ("1.5e-7", "1.5e-07"),
        ("1e-400", "0.0"),
        ("\"\"", "\"\""),
        (r#""\"\\\/\b\f\n\r\t""#, r#""\"\\/\b\f\n\r\t""#),
        (r#""\u00e9\u20AC\ud83d\ude00""#, "\"é€😀\""),
        (r#""\u0001\u001F\u007f""#, "\"\\u0001\\u001f\u{7f}\""),
        ("[]", "[]"),
        ("{}", "{}"),
        ("[[],{},[{}]]", "[[],{},[{}]]"),
        (r#"{"b":1,"a":{"c":[1,2]}}"#, r#"{"b":1,"a":{"c":[1,2]}}"#),
        (r#"{"a":1,"b":2,"a":3}"#, r#"{"a":3,"b":2}"#),
    ] {
        let tree = parse_tree(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(show(&tree), expected, "{text}");
    }
}

#[test]
fn wrong_texts_are_refused_with_their_place() {
    for (text, place, reason) in [
        (&b""[..], (1, 1), "contains the expected JSON"),
        (b" ", (1, 2), "unexpected end of input; expected '[', '{', or a literal"),
        (b"[1,]", (1, 4), "unexpected ']'; expected '[', '{', or a literal"),
        (b"[1 2]", (1, 4), "unexpected number literal; expected ']'"),
        (b"[1", (1, 3), "unexpected end of input; expected ']'"),
        (b"{1:2}", (1, 2), "unexpected number literal; expected string literal"),
        (b"{\"a\" 1}", (1, 6), "unexpected number literal; expected ':'"),
        (b"{\"a\":1,}", (1, 8), "unexpected '}'; expected string literal"),
        (b"{\"a\":1", (1, 7), "unexpected end of input; expected '}'"),
        (b"1 1", (1, 3), "unexpected number literal; expected end of input"),
        (b"01", (1, 2), "unexpected number literal; expected end of input"),
        (b"\n\n  nul!", (3, 6), "invalid literal; last read: '<U+000A><U+000A>  nul!'"),
        (b"[1, \"a\", x]", (1, 10), "invalid literal; last read: '\"a\", x'"),
        (b"NaN", (1, 1), "invalid literal; last read: 'N'"),
        (b"// x\n1", (1, 1), "invalid literal; last read: '/'"),
        (b"-x", (1, 2), "expected digit after '-'; last read: '-x'"),
        (b"1.", (1, 3), "expected digit after '.'; last read: '1.'"),
        (b"1ex", (1, 3), "expected '+', '-', or digit after exponent; last read: '1ex'"),
        (b"1e+", (1, 4), "expected digit after exponent sign; last read: '1e+'"),
        (b"\"a", (1, 3), "missing closing quote; last read: '\"a'"),
        (b"\"a\x01\"", (1, 3), "U+0001 (SOH) must be escaped to \\u0001; last read: '\"a<U+0001>'"),
        (b"\"a\n\"", (2, 0), "U+000A (LF) must be escaped to \\u000A or \\n; last read: '\"a<U+000A>'"),
        (b"\"\\q\"", (1, 3), "forbidden character after backslash; last read: '\"\\q'"),
        (b"\"\\u12g4\"", (1, 6), "'\\u' must be followed by 4 hex digits; last read: '\"\\u12g'"),
        (b"\"\\ud800x\"", (1, 8), "must be followed by U+DC00..U+DFFF; last read: '\"\\ud800x'"),
        (b"\"\\udc00\"", (1, 7), "must follow U+D800..U+DBFF; last read: '\"\\udc00'"),
        (b"\"\xff\"", (1, 2), "ill-formed UTF-8 byte; last read: '\"\u{fffd}'"),
        (b"\"\xed\xa0\x80\"", (1, 3), "ill-formed UTF-8 byte; last read: '\"\u{fffd}\u{fffd}'"),
        (b"\"\xe2\x82\"", (1, 4), "ill-formed UTF-8 byte; last read: '\"\u{fffd}\"'"),
    ] {
        match parse_tree(text) {
            Err(JsonError::Syntax { line, column, reason: found }) => {
                assert_eq!((line, column), place, "{}", text.escape_ascii());
                assert!(found.ends_with(reason), "{}: {found}", text.escape_ascii());
            }
            other => panic!("{}: {other:?}", text.escape_ascii()),
        }
    }
}

#[test]
fn numbers_out_of_range_are_refused() {
    let error = parse_tree(b"[1e400]").unwrap_err();
    assert_eq!(error, JsonError::FloatRange { number: "1e400".to_owned() });
    let error = parse_tree(b"9223372036854775808").unwrap_err();
    assert_eq!(error, JsonError::IntegerRange { number: 1 << 63 });
}

#[test]
fn depth_is_bounded() {
    let limit = super::super::limits::TREE_DEPTH_MAX;
    let nested = |depth: usize| [vec![b'['; depth], vec![b']'; depth]].concat();
    assert!(parse_tree(&nested(limit)).is_ok());
    assert_eq!(parse_tree(&nested(limit + 1)), Err(JsonError::Depth { limit }));
}

#[test]
fn strings_that_are_not_utf8_are_not_written() {
    for (text, expected) in [
        (&b"ab\xff"[..], JsonError::NotUtf8 { index: 2, byte: 0xff }),
        (b"ab\xa9cd", JsonError::NotUtf8 { index: 2, byte: 0xa9 }),
        (b"\xc3a", JsonError::NotUtf8 { index: 1, byte: b'a' }),
        (b"ab\xe2\x82cd", JsonError::NotUtf8 { index: 4, byte: b'c' }),
        (b"ab\xe2\x82", JsonError::IncompleteUtf8 { byte: 0x82 }),
    ] {
        assert_eq!(write_string(&mut Vec::new(), text), Err(expected));
    }
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        Just(Tree::Null),
        any::<bool>().prop_map(Tree::Bool),
        any::<i64>().prop_map(Tree::Int),
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(Tree::Float),
        any::<String>().prop_map(|text| Tree::String(text.into_bytes())),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let members = prop::collection::btree_map(any::<String>(), inner.clone(), 0..5);
        prop_oneof![
            prop::collection::vec(inner, 0..5).prop_map(Tree::List),
            members.prop_map(|members| {
                Tree::Table(members.into_iter().map(|(key, value)| (key.into_bytes(), value)).collect())
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_reads_back(tree in trees()) {
        prop_assert_eq!(parse_tree(show(&tree).as_bytes()), Ok(tree));
    }

    #[test]
    fn any_bytes_are_read_or_refused(text in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = parse_tree(&text);
    }

    #[test]
    fn another_reader_agrees(text in r#"[\[\]{}:,"\\u0-9a-ftrueE.+ -]{0,20}"#) {
        let ours = parse_tree(text.as_bytes());
        let theirs = serde_json::from_str::<serde_json::Value>(&text);
        let ranges = matches!(ours, Err(JsonError::IntegerRange { .. } | JsonError::FloatRange { .. }));
        prop_assert!(ranges || ours.is_ok() == theirs.is_ok(), "{:?} and {:?}", ours, theirs);
    }
}

//! Properties of the parser: it never panics, and takes what is well formed.

use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use rednix_syntax::format::format;
use rednix_syntax::{Interner, Options, parse, printer};

fn printed(source: &[u8]) -> Option<Vec<u8>> {
    let mut interner = Interner::new();
    let parsed = parse(source, &mut interner, Options { pipe_operators: true });
    if !parsed.errors.is_empty() {
        return None;
    }
    let places = printer::Places { base: b"/base", home: b"/home" };
    Some(printer::print(&parsed.ast, &interner, parsed.root, places))
}

/// Well-formed expressions out of nested pieces.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "[a-f]",
        "[0-9]{1,6}",
        Just("1.5".to_string()),
        Just("\"text\"".to_string()),
        Just("''\n    one\n      two\n  ''".to_string()),
        Just("./some/path".to_string()),
        Just("<nixpkgs>".to_string()),
        Just("(https://example.org/x)".to_string()),
        Just("[ ]".to_string()),
        Just("{ }".to_string()),
    ];
    leaf.prop_recursive(5, 40, 3, |inner| {
        let i = || inner.clone();
        prop_oneof![
            (
                i(),
                i(),
                prop::sample::select(vec!["+", "-", "*", "/", "++", "//", "&&", "||", "->", "==", "<="])
            )
                .prop_map(|(a, b, operator)| format!("({a}) {operator} ({b})")),
            (i(), i()).prop_map(|(a, b)| format!("({a}) ({b})")),
            (i(), i()).prop_map(|(a, b)| format!("[ ({a}) ({b}) ]")),
            (i(), i()).prop_map(|(a, b)| format!("{{ x = {a}; y.z = {b}; inherit (q) w; }}")),
            (i(), i()).prop_map(|(a, b)| format!("rec {{ x = {a}; ${{({b})}} = 1; }}")),
            (i(), i()).prop_map(|(a, b)| format!("let v = {a}; inherit u; in {b}")),
            (i(), i()).prop_map(|(a, b)| format!("with {a}; {b}")),
            (i(), i()).prop_map(|(a, b)| format!("assert {a}; {b}")),
            (i(), i(), i()).prop_map(|(a, b, c)| format!("if {a} then {b} else {c}")),
            (i(), i()).prop_map(|(a, b)| format!("({{ p, q ? {a}, ... }}@all: {b})")),
            i().prop_map(|a| format!("(arg: {a})")),
            (i(), i()).prop_map(|(a, b)| format!("({a}).attr.\"b c\" or ({b})")),
            i().prop_map(|a| format!("(({a}) ? x.y)")),
            i().prop_map(|a| format!("\"before ${{{a}}} after\"")),
            i().prop_map(|a| format!("(!({a}))")),
            i().prop_map(|a| format!("(-({a}))")),
        ]
    })
}

/// The same source with comments at some of its spaces, each of a text that occurs nowhere else.
fn with_comments(source: &str, choices: &[u8]) -> String {
    let mut out = String::new();
    for (index, part) in source.split(' ').enumerate() {
        let marker = format!("mark{index}z");
        match (index, choices.get(index).copied().unwrap_or(0)) {
            (0, _) => {}
            (_, 1) => out.push_str(&format!(" /* {marker} */ ")),
            (_, 2) => out.push_str(&format!(" # {marker}\n ")),
            (_, 3) => out.push_str(&format!("\n\n  # {marker}\n\n ")),
            (_, 4) => out.push_str(&format!("\n  /* {marker}\n   * two\n   */\n ")),
            (_, 5) => out.push_str("\n\n\n"),
            _ => out.push(' '),
        }
        out.push_str(part);
    }
    out
}

/// Laying out keeps the tree and every comment, and does nothing the second time.
fn check_format(source: &str) -> Result<(), TestCaseError> {
    let Some(tree) = printed(source.as_bytes()) else { return Ok(()) };
    let once = format(source.as_bytes()).expect("it parses");
    prop_assert_eq!(printed(once.as_bytes()), Some(tree), "{}\n---\n{}", source, once);
    for marker in source.split("mark").skip(1).filter_map(|rest| rest.split('z').next()) {
        let marker = format!("mark{marker}z");
        prop_assert_eq!(once.matches(&marker).count(), 1, "{} in\n{}\n---\n{}", marker, source, once);
    }
    let twice = format(once.as_bytes()).expect("it parses");
    prop_assert_eq!(&twice, &once, "{}", source);
    Ok(())
}

proptest! {
    #[test]
    fn laying_out_keeps_the_tree(source in expression()) {
        check_format(&source)?;
    }

    #[test]
    fn laying_out_keeps_comments(
        source in expression(),
        choices in prop::collection::vec(prop_oneof![4 => Just(0u8), 1 => 1u8..6], 0..40),
    ) {
        check_format(&with_comments(&source, &choices))?;
    }

    #[test]
    fn any_bytes_give_a_tree_and_errors(source in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = printed(&source);
    }

    #[test]
    fn any_tokens_give_a_tree_and_errors(
        pieces in prop::collection::vec(
            prop::sample::select(vec![
                "a", "1", "1.5", "\"", "''", "${", "}", "{", "(", ")", "[", "]", ";", ":", "@", ",", ".", "...",
                "=", "==", "let", "in", "rec", "with", "inherit", "if", "then", "else", "or", "assert", "/", "./a/",
                "<a>", "~/", "\\", "$", "'", "//", "->", "?", "!", "-", "|>", "/*", "*/", "#", "\n", " ",
            ]),
            0..60,
        )
    ) {
        let _ = printed(pieces.concat().as_bytes());
        let _ = printed(pieces.join(" ").as_bytes());
    }

    /// A tree as `--parse` prints it reads back as the same tree. What that notation cannot say: interpolations and some
    /// operators are printed as the sums and calls they stand for, and `assert` has no parentheses. [`format`] keeps
    /// all of that, see `laying_out_keeps_the_tree`.
    #[test]
    fn printed_trees_read_back(source in expression()) {
        let first = printed(source.as_bytes()).expect("it is well formed");
        let text = String::from_utf8_lossy(&first);
        if !["${", "before", "assert", "__"].iter().any(|part| text.contains(part)) {
            let second = printed(&first).expect("what is printed parses");
            prop_assert_eq!(String::from_utf8_lossy(&second), text, "{}", source);
        }
    }

    /// What is built from well-formed pieces parses without errors.
    #[test]
    fn well_formed_text_parses(source in expression()) {
        prop_assert!(printed(source.as_bytes()).is_some(), "{source}");
    }
}

#[test]
fn printing_is_stable() {
    for (source, expected) in [
        ("{ a, ... }@b: a b", "({ a, ... } @ b: (a b))"),
        ("a.b.c or d", "(a).b.c or (d)"),
        ("-a + b", "((__sub 0 a) + b)"),
        ("!a + b", "(! (a + b))"),
        ("a <= b", "(! (__lessThan b a))"),
        ("1 |> f |> g", "(g (f 1))"),
        ("[ (a b) c.d ]", "[ ((a b)) ((c).d) ]"),
        ("{ a.b = 1; a.c = 2; }", "{ a = { b = 1; c = 2; }; }"),
        ("{ inherit (x) a b; inherit c; }", "{ inherit c; inherit (x) a b; }"),
        ("./a/${b}/c", "(/base/a/ + b + \"/c\")"),
        ("map or [ ]", "(map or [ ])"),
    ] {
        let found = printed(source.as_bytes()).map(|out| String::from_utf8(out).unwrap());
        assert_eq!(found.as_deref(), Some(expected), "{source}");
    }
}

/// One error for each broken binding, in order, each with its place.
#[test]
fn several_errors_of_one_source() {
    let source = b"{\n  a = 1 +;\n  b = 2;\n  c = [ 1 ;\n  d = ) ;\n  e = 3;\n}";
    let mut interner = Interner::new();
    let parsed = parse(source, &mut interner, Options::default());
    let lines: Vec<_> = parsed
        .errors
        .iter()
        .map(|error| source[..error.span.start as usize].iter().filter(|&&byte| byte == b'\n').count() + 1)
        .collect();
    assert_eq!(lines, [2, 4, 5]);
    assert_eq!(parsed.errors[0].message, "syntax error, unexpected ';'");
}

/// Characters of paths and URLs in a long row are looked at a few times each, not once for every token.
#[test]
fn long_rows_take_linear_time() {
    let started = std::time::Instant::now();
    for source in ["a.".repeat(1_600_000) + "b", "-".repeat(3_200_000) + "1", "1.5-".repeat(800_000) + "1"] {
        let _ = parse(source.as_bytes(), &mut Interner::new(), Options::default());
    }
    // A second for what is linear; what looks at the rest of the row for every token is at it for many minutes.
    assert!(started.elapsed() < std::time::Duration::from_secs(120), "{:?}", started.elapsed());
}

/// Found by fuzzing: a minus before a path, or before another minus that has one; a dot after one.
#[test]
fn spaces_around_paths() {
    for source in [
        "- -/OA",
        "- /a",
        "- ./a",
        "- -x",
        "-x",
        "-1",
        "- (./a)",
        "- ~/a",
        "- a/${b}",
        "./a .b",
        "~/a .b",
        "a:b .c",
        "1 .a",
        "1.0 .a",
        "a/${b} .c",
    ] {
        check_format(source).unwrap_or_else(|error| panic!("{source}: {error}"));
    }
}

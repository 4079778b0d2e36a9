//! Comparison with C++ Nix: the same calls, evaluated there. `REDNIX_PEER` names its `nix-instantiate`, or the folder
//! that holds it; without it each test says that it is skipped.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use super::json::{parse_tree, write_string};
use super::number::{format_f, format_json};
use super::regex::Regex;
use super::tree::Tree;
use super::version;

fn peer(test: &str) -> Option<PathBuf> {
    let Some(place) = std::env::var_os("REDNIX_PEER") else {
        // Not `eprintln!`, which the test runner keeps to itself.
        let line = format!("\nskipped: {test}: REDNIX_PEER names no C++ Nix to compare with\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
        return None;
    };
    let place = PathBuf::from(place);
    Some(if place.is_dir() { place.join("nix-instantiate") } else { place })
}

/// What the peer makes of an expression that gives a list of data.
fn evaluate(program: &PathBuf, expression: &str) -> Vec<Tree> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cases.nix");
    std::fs::write(&file, expression).unwrap();
    let arguments = ["--eval", "--strict", "--json", "--store", "dummy://"].map(OsStr::new);
    let output =
        Command::new(program).args(arguments).arg(&file).env("HOME", folder.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    match parse_tree(output.stdout.trim_ascii_end()).unwrap() {
        Tree::List(elements) => elements,
        other => panic!("not a list: {other:?}"),
    }
}

/// A string literal of the language.
fn quoted(text: &str) -> String {
    let mut literal = "\"".to_owned();
    for character in text.chars() {
        match character {
            '\\' | '"' | '$' => literal.extend(['\\', character]),
            '\n' => literal.push_str("\\n"),
            '\r' => literal.push_str("\\r"),
            _ => literal.push(character),
        }
    }
    literal + "\""
}

fn string(text: &str) -> Tree {
    Tree::String(text.as_bytes().to_vec())
}

/// A small generator, so that the cases are the same on every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }

    fn one_of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn text(&mut self, choices: &[&str], length: usize) -> String {
        (0..self.below(length + 1)).map(|_| self.one_of(choices)).collect()
    }

    /// A pattern that repeats nothing within a repetition: that can take the peer exponential time.
    fn pattern(&mut self, depth: usize, may_repeat: bool) -> String {
        let mut pattern = String::new();
        for _ in 0..=self.below(3) {
            let quantifier = if may_repeat {
                self.one_of(&["", "", "", "*", "+", "?", "{2}", "{0,2}", "{1,}"])
            } else {
                self.one_of(&["", "", "^", "$"])
            };
            if depth > 0 && self.below(2) == 0 {
                let inner = may_repeat && quantifier.is_empty();
                let (left, right) = (self.pattern(depth - 1, inner), self.pattern(depth - 1, inner));
                let group =
                    if self.below(2) == 0 { format!("({left})") } else { format!("({left}|{right})") };
                pattern.push_str(&group);
            } else {
                pattern.push_str(self.one_of(&["a", "b", "c", ".", "[ab]", "[^a]", "()", "[[:alpha:]]"]));
            }
            pattern.push_str(quantifier);
        }
        pattern
    }
}

fn group_trees(subject: &str, groups: &[Option<std::ops::Range<usize>>]) -> Tree {
    let tree = |group: &Option<std::ops::Range<usize>>| match group {
        Some(range) => string(&subject[range.clone()]),
        None => Tree::Null,
    };
    Tree::List(groups[1..].iter().map(tree).collect())
}

#[test]
fn regular_expressions_match_alike() {
    let Some(program) = peer("regular_expressions_match_alike") else { return };
    let mut random = Random(1);
    let mut expression = "[".to_owned();
    let mut expected = Vec::new();
    while expected.len() < 6000 {
        let pattern = random.pattern(2, true);
        let subject = random.text(&["a", "b", "c", "a", "b", "\n"], 6);
        let Ok(regex) = Regex::new(pattern.as_bytes()) else { continue };
        let whole = regex.full_match(subject.as_bytes());
        let mut parts = Vec::new();
        let mut end = 0;
        for groups in regex.find_iter_groups(subject.as_bytes()) {
            let found = groups[0].clone().unwrap();
            parts.push(string(&subject[end..found.start]));
            parts.push(group_trees(&subject, &groups));
            end = found.end;
        }
        parts.push(string(&subject[end..]));
        let whole = whole.map_or(Tree::Null, |groups| group_trees(&subject, &groups));
        let (pattern, subject) = (quoted(&pattern), quoted(&subject));
        let case = format!("[(builtins.match {pattern} {subject}) (builtins.split {pattern} {subject})]");
        writeln!(expression, "{case}").unwrap();
        expected.push((case, Tree::List(vec![whole, Tree::List(parts)])));
    }
    expression.push(']');
    for ((case, ours), theirs) in expected.iter().zip(evaluate(&program, &expression)) {
        assert_eq!(*ours, theirs, "{case}");
    }
}

#[test]
fn the_same_patterns_are_refused() {
    let Some(program) = peer("the_same_patterns_are_refused") else { return };
    let pieces = [
        "[",
        "]",
        "-",
        "a",
        "b",
        "z",
        "^",
        "[:alpha:]",
        "[.a.]",
        "[=A=]",
        "(",
        ")",
        "{",
        "}",
        "1",
        ",",
        "2",
        "*",
        "\\",
        "\\.",
        "\\d",
        "|",
        "[:foo:]",
        "é",
        "[.hyphen.]",
        "+",
        "?",
        "$",
        ".",
    ];
    let mut random = Random(2);
    for _ in 0..150 {
        let pattern = random.text(&pieces, 8);
        let expression = format!("builtins.match {} \"\"", quoted(&pattern));
        let arguments = ["--eval", "--store", "dummy://", "-E", &expression];
        let output = Command::new(&program).args(arguments).output().unwrap();
        let theirs = output.status.success();
        assert_eq!(Regex::new(pattern.as_bytes()).is_ok(), theirs, "{pattern}");
    }
}

#[test]
fn floats_are_written_alike() {
    let Some(program) = peer("floats_are_written_alike") else { return };
    let mut random = Random(3);
    let mut expression = "map (x: [(builtins.toJSON x) (toString x)]) [".to_owned();
    let mut expected = Vec::new();
    while expected.len() < 10_000 {
        let value = match random.below(3) {
            0 => f64::from_bits((random.below(1 << 31) as u64) << 32 | random.below(1 << 31) as u64),
            1 => random.below(1 << 31) as f64 / 1e5,
            _ => random.below(1 << 31) as f64 / random.below(1 << 31).max(1) as f64,
        };
        if !value.is_normal() {
            continue;
        }
        // Digits, a point, digits and an exponent: the only form that holds every value as a literal.
        let literal = format!("{value:.17e}");
        let literal = if literal.starts_with('0') { value.to_string() } else { literal };
        writeln!(expression, "{literal}").unwrap();
        let trees = [format_json(value), format_f(value)].map(|text| string(&text));
        expected.push((value, Tree::List(trees.into())));
    }
    expression.push(']');
    for ((value, ours), theirs) in expected.iter().zip(evaluate(&program, &expression)) {
        assert_eq!(*ours, theirs, "{value:e}");
    }
}

#[test]
fn versions_and_names_are_taken_apart_alike() {
    let Some(program) = peer("versions_and_names_are_taken_apart_alike") else { return };
    let pieces = ["0", "1", "2", "10", "9999999999", "a", "pre", "rc", ".", "-", ".", "-", "_", "+", "é"];
    let mut random = Random(4);
    let mut expression = "let f = a: b: [(builtins.compareVersions a b) (builtins.splitVersion a) \
        (let n = builtins.parseDrvName a; in [n.name n.version])]; in ["
        .to_owned();
    let mut expected = Vec::new();
    let text = |bytes: &[u8]| Tree::String(bytes.to_vec());
    for _ in 0..3000 {
        let (left, right) = (random.text(&pieces, 6), random.text(&pieces, 6));
        writeln!(expression, "(f {} {})", quoted(&left), quoted(&right)).unwrap();
        let order = version::compare(left.as_bytes(), right.as_bytes()) as i64;
        let parts = version::split(left.as_bytes()).into_iter().map(text).collect();
        let (name, rest) = version::parse_drv_name(left.as_bytes());
        let trees = vec![Tree::Int(order), Tree::List(parts), Tree::List(vec![text(name), text(rest)])];
        expected.push((left, right, Tree::List(trees)));
    }
    expression.push(']');
    for ((left, right, ours), theirs) in expected.iter().zip(evaluate(&program, &expression)) {
        assert_eq!(*ours, theirs, "{left} and {right}");
    }
}

/// Documents that both read, compared as data; the peer reads each in its own way and writes it as JSON.
#[test]
fn documents_are_read_alike() {
    let Some(program) = peer("documents_are_read_alike") else { return };
    let mut expression = "[".to_owned();
    let mut expected = Vec::new();
    for text in [
        "[1, -0, 1.5, 1e2, -9223372036854775808, -9223372036854775809, 18446744073709551616]",
        "{\"b\": [true, false, null], \"a\": {\"c\": \"\\u00e9\\ud83d\\ude00\\/\"}, \"b\": 2}",
        "\u{feff} [ ] ",
        "\"\\u007f\u{7f}\\u0001\"",
    ] {
        writeln!(expression, "(builtins.fromJSON {})", quoted(text)).unwrap();
        expected.push((text, parse_tree(text.as_bytes()).unwrap()));
    }
    for text in [
        "b = 1\na.c = 'x'\na.d = [1, [2.5], {e = true}]",
        "[t]\nx = 0xff\n[t.u]\ny = 1_000\n[[p]]\nn = 1\n[[p]]\nn = 2\n[p.q]\n",
        "a = \"\"\"\n x\\\n   y\\u00e9\"\"\"\nb = '''\n'\\n'''\n\"k e\" = 1e2\n'' = -0.0\n1.2 = 3",
        "",
    ] {
        writeln!(expression, "(builtins.fromTOML {})", quoted(text)).unwrap();
        expected.push((text, super::toml::parse(text).unwrap()));
    }
    expression.push(']');
    for ((text, ours), theirs) in expected.into_iter().zip(evaluate(&program, &expression)) {
        assert_eq!(sorted(ours), theirs, "{text}");
    }
}

/// Keys in order, as the peer writes them.
fn sorted(tree: Tree) -> Tree {
    match tree {
        Tree::List(elements) => Tree::List(elements.into_iter().map(sorted).collect()),
        Tree::Table(members) => {
            let mut members: Vec<_> = members.into_iter().map(|(key, tree)| (key, sorted(tree))).collect();
            members.sort_by(|left, right| left.0.cmp(&right.0));
            Tree::Table(members)
        }
        tree => tree,
    }
}

#[test]
fn json_strings_are_written_alike() {
    let Some(program) = peer("json_strings_are_written_alike") else { return };
    let texts = ["", "a\"b\\c", "\t\r\n", "é€😀", "</script>", "\u{7f}"];
    let expression = texts.map(|text| format!("(builtins.toJSON {})", quoted(text))).join("\n");
    for (text, theirs) in texts.iter().zip(evaluate(&program, &format!("[{expression}]"))) {
        let mut ours = Vec::new();
        write_string(&mut ours, text.as_bytes()).unwrap();
        assert_eq!(Tree::String(ours), theirs, "{text}");
    }
}

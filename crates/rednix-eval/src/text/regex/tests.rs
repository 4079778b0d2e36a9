//! Tables of patterns and what they match, and properties that hold for every pattern. What the tables expect is
//! what libstdc++ gives.

use proptest::prelude::*;

use super::*;

fn text(subject: &str, groups: &Groups, from: usize) -> String {
    let show = |group: &Option<std::ops::Range<usize>>| match group {
        Some(range) => subject[range.clone()].to_owned(),
        None => "-".to_owned(),
    };
    groups[from..].iter().map(show).collect::<Vec<_>>().join(",")
}

/// The groups of a match of the whole subject, separated by `,`, an unset one as `-`.
fn matched(pattern: &str, subject: &str) -> Option<String> {
    let regex = Regex::new(pattern.as_bytes()).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let groups = regex.full_match(subject.as_bytes())?;
    assert_eq!(groups[0], Some(0..subject.len()), "{pattern}");
    assert_eq!(groups.len(), regex.group_count() + 1);
    Some(text(subject, &groups, 1))
}

/// What `builtins.split` would give: texts between matches, and the groups of matches in brackets.
fn split(pattern: &str, subject: &str) -> String {
    let regex = Regex::new(pattern.as_bytes()).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let mut shown = String::new();
    let mut end = 0;
    for groups in regex.find_iter_groups(subject.as_bytes()) {
        let whole = groups[0].clone().unwrap();
        shown.push_str(&format!("{}[{}]", &subject[end..whole.start], text(subject, &groups, 1)));
        end = whole.end;
    }
    shown + &subject[end..]
}

#[test]
fn whole_subjects_match() {
    for (pattern, subject, expected) in [
        ("", "", Some("")),
        ("", "a", None),
        ("abc", "abc", Some("")),
        ("abc", "abcd", None),
        ("a.c", "a\nc", Some("")),
        (".", "é", None),
        ("..", "é", Some("")),
        ("(a)(b)?", "a", Some("a,-")),
        ("((a)|(b))*", "ab", Some("b,a,b")),
        ("(a|ab)(c|bcd)(d*)", "abcd", Some("a,bcd,")),
        ("(a*)*", "aa", Some("")),
        ("(a*)+", "b", None),
        ("(a*)+", "", Some("")),
        ("(a|b)*c|(a|ab)*c", "abc", Some("b,-")),
        ("([a-z]+)-([0-9.]+)", "hello-1.2", Some("hello,1.2")),
        ("(.*)-(.*)", "a-b-c", Some("a-b,c")),
        ("a{2}", "aa", Some("")),
        ("a{2,}", "a", None),
        ("a{2,3}", "aaaa", None),
        ("(a{0,2})(a*)", "aaa", Some("aa,a")),
        ("(x){0}y", "y", Some("-")),
        ("a**", "aaa", Some("")),
        ("a+?", "aaa", Some("")),
        ("(a?)(a?)(a?)", "aa", Some("a,a,")),
        ("^a$", "a", Some("")),
        ("a^b", "ab", None),
        ("(^|x)a", "a", Some("")),
        ("()", "", Some("")),
        ("(|a)b", "ab", Some("a")),
        ("]}", "]}", Some("")),
        ("\\.\\[\\\\\\(\\)\\*\\+\\?\\{\\|\\^\\$", ".[\\()*+?{|^$", Some("")),
        ("[]a]*", "]a", Some("")),
        ("[^]a]", "b", Some("")),
        ("[a-]", "-", Some("")),
        ("[-a]", "-", Some("")),
        ("[-]", "-", Some("")),
        ("[--/]", ".", Some("")),
        ("[\\]", "\\", Some("")),
        ("[[]", "[", Some("")),
        ("[[:alpha:][:digit:]_]+", "aZ9_", Some("")),
        ("[[:SPACE:]]+", " \t\n\x0b\x0c\r", Some("")),
        ("[[:w:]]+", "a_9", Some("")),
        ("[[.hyphen.][.a.]]+", "a-", Some("")),
        ("[[.a.]-c]+", "abc", Some("")),
        ("[[=A=]]+", "aA", Some("")),
        ("[^[:upper:]]+", "aé1", Some("")),
        ("(((((((((((a)))))))))))", "a", Some("a,a,a,a,a,a,a,a,a,a,a")),
    ] {
        assert_eq!(matched(pattern, subject).as_deref(), expected, "{pattern} on {subject}");
    }
}

#[test]
fn subjects_are_split() {
    for (pattern, subject, expected) in [
        ("", "ab", "[]a[]b[]"),
        ("", "", "[]"),
        ("x", "ab", "ab"),
        ("(a)b", "abc", "[a]c"),
        ("([ac])", "abc", "[a]b[c]"),
        ("(a)|(c)", "abc", "[a,-]b[-,c]"),
        ("([[:upper:]]+)", " FOO ", " [FOO] "),
        (",", "a,b,,c", "a[]b[][]c"),
        ("ab", "aabb", "a[]b"),
        ("a*", "baac", "[]b[][]c[]"),
        ("(a*)", "baac", "[]b[aa][]c[]"),
        ("^a", "aaa", "[]aa"),
        ("^", "ab", "[]ab"),
        ("$", "ab", "ab[]"),
        ("a$", "aa", "a[]"),
        // The longer of two alternatives, but not the longer of two ways through a repetition.
        ("a|ab|abc", "abcd", "[]d"),
        ("(a|ab)(c|bcd)", "abcd", "[a,bcd]"),
        ("a*(ab)?", "aab", "[-][-]b[-]"),
        ("(b|)(a|)", "ba", "[b,a][,]"),
    ] {
        assert_eq!(split(pattern, subject), expected, "{pattern} on {subject}");
    }
}

#[test]
fn wrong_patterns_are_refused() {
    for pattern in [
        "(",
        ")",
        "a)",
        "(a",
        "*",
        "a|*",
        "(*a)",
        "^*",
        "{1}",
        "a{",
        "a{1",
        "a{1,2",
        "a{,2}",
        "a{2,1}",
        "a{x}",
        "a{1,2,3}",
        "a{ 1}",
        "[",
        "[a",
        "[]",
        "[^]",
        "[z-a]",
        "[a-b-c]",
        "[[:alpha:]-z]",
        "[a-[:alpha:]]",
        "[[:foo:]]",
        "[[:alpha:]",
        "[[.nope.]]",
        "[[.-.]]",
        "[[=nope=]]",
        "[[.a]",
        "[a[",
        "\\",
        "\\w",
        "\\d",
        "\\n",
        "\\]",
        "\\}",
        "\\-",
        "a\\1",
        "a\0",
        "\\\0",
    ] {
        let error = Regex::new(pattern.as_bytes()).err();
        assert!(matches!(error, Some(RegexError::Invalid { .. })), "{pattern}: {error:?}");
    }
}

#[test]
fn size_is_bounded() {
    for pattern in ["a{100001}", "((a{100}){100}){100}", "a{99999999999999999999}", "(a{1000}){1000,}"] {
        assert!(matches!(Regex::new(pattern.as_bytes()), Err(RegexError::TooLarge)), "{pattern}");
    }
    assert!(Regex::new(b"a{50000}").is_ok());
    let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), "*)*".repeat(depth));
    assert!(Regex::new(nested(5).as_bytes()).is_ok());
    assert!(matches!(Regex::new(nested(40).as_bytes()), Err(RegexError::TooComplex)));
    let deep = format!("{}a{}", "(".repeat(20_000), ")".repeat(20_000));
    assert!(Regex::new(deep.as_bytes()).is_ok());
}

/// Many blocks: checkpoints and an emptied cache must not show.
#[test]
fn long_subjects_match() {
    let subject = "key=value;".repeat(30_000) + "end";
    let regex = Regex::new(b"((([a-z]+)=([a-z]+);)*)(end)").unwrap();
    let groups = regex.full_match(subject.as_bytes()).unwrap();
    assert_eq!(groups[3], Some(299_990..299_993));
    assert_eq!(groups[5], Some(300_000..300_003));
    let regex = Regex::new(b"([a-z])=").unwrap();
    assert_eq!(regex.find_iter_groups(subject.as_bytes()).count(), 30_000);

    // Far more columns than the cache holds: which of the last 14 bytes are `a` must be told apart.
    let mut state = 1u32;
    let mut random = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if state >> 31 == 0 { b'a' } else { b'b' }
    };
    let subject: Vec<u8> = (0..200_000).map(|_| random()).collect();
    let regex = Regex::new(b"(b*)([ab]{14}a.*|.*)").unwrap();
    let groups = regex.full_match(&subject).unwrap();
    assert_eq!(groups[2].clone().unwrap().end, subject.len());
    let regex = Regex::new(b"b.{14}b").unwrap();
    let found: Vec<_> =
        regex.find_iter_groups(&subject).map(|groups| groups[0].clone().unwrap().start).collect();
    let mut expected = Vec::new();
    let mut from = 0;
    while let Some(offset) =
        (from..subject.len() - 15).find(|&at| subject[at] == b'b' && subject[at + 15] == b'b')
    {
        expected.push(offset);
        from = offset + 16;
    }
    assert_eq!(found, expected);
}

/// A pattern is used again while its matches are still being taken.
#[test]
fn matches_may_interleave() {
    let regex = Regex::new(b"(a)|(b)").unwrap();
    let outer = regex.find_iter_groups(b"abab");
    let counts: Vec<_> = outer.map(|_| regex.find_iter_groups(b"bb").count()).collect();
    assert_eq!(counts, [2, 2, 2, 2]);
}

/// Patterns over a small alphabet, with every operator.
fn patterns() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        4 => "[abc]",
        1 => prop::sample::select(vec![".", "[ab]", "[^a]", "[[:alpha:]]", "()", "^", "$"]).prop_map(str::to_owned),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let quantifier = prop::sample::select(vec!["*", "+", "?", "{2}", "{0,2}", "{1,}"]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            (inner.clone(), inner.clone()).prop_map(|(left, right)| format!("({left}|{right})")),
            (inner, quantifier).prop_map(|(inner, quantifier)| format!("({inner}){quantifier}")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_pattern_is_compiled_or_refused(
        pattern in prop::collection::vec(any::<u8>(), 0..24),
        subject in prop::collection::vec(any::<u8>(), 0..24),
    ) {
        if let Ok(regex) = Regex::new(&pattern) {
            let _ = regex.full_match(&subject);
            let _ = regex.find_iter_groups(&subject).count();
        }
    }

    #[test]
    fn matches_stand_in_order(pattern in patterns(), subject in "[abc]{0,12}") {
        let Ok(regex) = Regex::new(pattern.as_bytes()) else { return Ok(()) };
        let mut end = 0;
        for groups in regex.find_iter_groups(subject.as_bytes()) {
            let whole = groups[0].clone().unwrap();
            prop_assert!(whole.start >= end && whole.end >= whole.start);
            prop_assert_eq!(groups.len(), regex.group_count() + 1);
            for group in groups.iter().flatten() {
                prop_assert!(group.start <= group.end);
                prop_assert!(whole.start <= group.start && group.end <= whole.end);
            }
            end = whole.end;
        }
    }

    /// The first match begins where some match of a prefix of the rest exists, and nowhere earlier.
    #[test]
    fn the_leftmost_match_is_found(pattern in patterns(), subject in "[abc]{0,7}") {
        prop_assume!(!pattern.contains(['^', '$']));
        let Ok(regex) = Regex::new(pattern.as_bytes()) else { return Ok(()) };
        let bytes = subject.as_bytes();
        let exists = |start: usize| (start..=bytes.len()).any(|end| regex.full_match(&bytes[start..end]).is_some());
        let expected = (0..=bytes.len()).find(|&start| exists(start));
        let found = regex.find_iter_groups(bytes).next();
        prop_assert_eq!(found.map(|groups| groups[0].clone().unwrap().start), expected);
    }

    #[test]
    fn what_is_learnt_changes_nothing(pattern in patterns(), subjects in prop::collection::vec("[abc]{0,8}", 1..6)) {
        let Ok(regex) = Regex::new(pattern.as_bytes()) else { return Ok(()) };
        for subject in &subjects {
            let fresh = Regex::new(pattern.as_bytes()).unwrap();
            prop_assert_eq!(regex.full_match(subject.as_bytes()), fresh.full_match(subject.as_bytes()));
            let left: Vec<_> = regex.find_iter_groups(subject.as_bytes()).collect();
            let right: Vec<_> = fresh.find_iter_groups(subject.as_bytes()).collect();
            prop_assert_eq!(left, right);
        }
    }
}

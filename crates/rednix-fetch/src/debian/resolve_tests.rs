//! Resolution cases as data: two suites in a short notation, roots, and the expected closure or error.

use proptest::prelude::*;

use super::super::index::IndexText;
use super::*;

/// `name version; Field: value; …` per line, made into a `Packages` text.
fn packages(lines: &str) -> String {
    let mut text = String::new();
    for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let mut parts = line.split(';').map(str::trim);
        let (name, version) = parts.next().unwrap().split_once(' ').unwrap();
        let hash = "0".repeat(64);
        text.push_str(&format!(
            "Package: {name}\nVersion: {version}\nArchitecture: amd64\nFilename: pool/{name}.deb\nSize: 1\nSHA256: {hash}\n"
        ));
        for field in parts {
            text.push_str(field);
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

fn run(
    main: &str,
    security: &str,
    roots: &[(&str, &[&str])],
    excluded: &[&str],
) -> Result<(BTreeMap<String, Vec<String>>, Vec<String>), ResolveError> {
    let indexes = [
        IndexText { file: "main".into(), suite: 0, text: packages(main) },
        IndexText { file: "security".into(), suite: 1, text: packages(security) },
    ];
    let universe = Universe::read(&indexes, "amd64").unwrap();
    let roots = roots
        .iter()
        .map(|(name, items)| (name.to_string(), items.iter().map(ToString::to_string).collect()))
        .collect();
    let excluded = excluded.iter().map(ToString::to_string).collect();
    let suites = ["main".to_owned(), "security".to_owned()];
    let resolution = resolve(&universe, &Request { roots: &roots, excluded: &excluded, suites: &suites })?;
    let names = |set: &BTreeSet<usize>| {
        let mut names: Vec<String> = set
            .iter()
            .map(|position| {
                format!("{}={}", universe.packages[*position].name, universe.packages[*position].version)
            })
            .collect();
        names.sort();
        names
    };
    let closures = resolution.roots.iter().map(|(root, set)| (root.clone(), names(set))).collect();
    Ok((closures, resolution.conflicts))
}

fn closure(main: &str, security: &str, items: &[&str], excluded: &[&str]) -> String {
    run(main, security, &[("r", items)], excluded).unwrap().0["r"].join(" ")
}

#[test]
fn closures() {
    let cases: &[(&str, &str, &str, &[&str], &[&str], &str)] = &[
        (
            "plain",
            "a 1; Depends: b (>= 1), c\nb 1\nc 1; Pre-Depends: d\nd 1\ne 1",
            "",
            &["a"],
            &[],
            "a=1 b=1 c=1 d=1",
        ),
        ("recommends are not followed", "a 1; Recommends: b\nb 1", "", &["a"], &[], "a=1"),
        ("a cycle ends", "a 1; Depends: b\nb 1; Depends: a", "", &["a"], &[], "a=1 b=1"),
        ("first alternative", "a 1; Depends: b | c\nb 1\nc 1", "", &["a"], &[], "a=1 b=1"),
        ("second when the first is absent", "a 1; Depends: x | c\nc 1", "", &["a"], &[], "a=1 c=1"),
        (
            "second when the first has a hole below",
            "a 1; Depends: b | c\nb 1; Depends: x\nc 1",
            "",
            &["a"],
            &[],
            "a=1 c=1",
        ),
        ("what is chosen already", "a 1; Depends: b | c\nb 1\nc 1", "", &["a", "c"], &[], "a=1 c=1"),
        (
            "what is needed elsewhere",
            "a 1; Depends: b | c, d\nb 1\nc 1\nd 1; Depends: c",
            "",
            &["a"],
            &[],
            "a=1 c=1 d=1",
        ),
        (
            "virtual",
            "a 1; Depends: awk\ngawk 1; Provides: awk\nmawk 1; Provides: awk; Priority: required",
            "",
            &["a"],
            &[],
            "a=1 mawk=1",
        ),
        (
            "virtual prefers the chosen",
            "a 1; Depends: awk\ngawk 1; Provides: awk\nmawk 1; Provides: awk",
            "",
            &["a", "mawk"],
            &[],
            "a=1 mawk=1",
        ),
        (
            "versioned provides",
            "a 1; Depends: x (>= 2)\np 1; Provides: x\nq 1; Provides: x (= 2)",
            "",
            &["a"],
            &[],
            "a=1 q=1",
        ),
        (
            "real before virtual",
            "a 1; Depends: x\nx 1\np 1; Provides: x; Priority: required",
            "",
            &["a"],
            &[],
            "a=1 x=1",
        ),
        ("main is preferred", "a 1", "a 2", &["a"], &[], "a=1"),
        ("security where needed", "a 1; Depends: b (>= 2)\nb 1", "b 2", &["a"], &[], "a=1 b=2"),
        ("security where asked", "a 1\nb 1; Depends: a", "a 2", &["b", "a/security"], &[], "a=2 b=1"),
        (
            "a later need changes an earlier choice",
            "a 1; Depends: b, c\nb 1\nc 1; Depends: b (>= 2)",
            "b 2",
            &["a"],
            &[],
            "a=1 b=2 c=1",
        ),
        ("only security has it", "a 1", "w 3; Depends: a, v (= 3)\nv 3", &["w"], &[], "a=1 v=3 w=3"),
        ("excluded counts as there", "a 1; Depends: b\nb 1; Depends: c\nc 1", "", &["a"], &["b"], "a=1"),
        (
            "excluded alternative is passed over",
            "a 1; Depends: b | c\nb 1\nc 1",
            "",
            &["a"],
            &["b"],
            "a=1 c=1",
        ),
        ("item with a version", "a 1", "a 2", &["a (>= 2)"], &[], "a=2"),
        ("a qualifier", "a 1; Depends: b:any\nb 1; Multi-Arch: allowed", "", &["a"], &[], "a=1 b=1"),
        ("a peaceful alternative", "a 1; Depends: b | c\nb 1; Conflicts: a\nc 1", "", &["a"], &[], "a=1 c=1"),
    ];
    for (name, main, security, items, excluded, expected) in cases {
        assert_eq!(closure(main, security, items, excluded), *expected, "{name}");
    }
}

#[test]
fn roots_share_versions() {
    let (closures, _) =
        run("a 1; Depends: b\nb 1\nc 1; Depends: b (>= 2)", "b 2", &[("one", &["a"]), ("two", &["c"])], &[])
            .unwrap();
    assert_eq!(closures["one"], ["a=1", "b=2"]);
    assert_eq!(closures["two"], ["b=2", "c=1"]);
}

#[test]
fn conflicts_are_reported() {
    let (_, conflicts) = run("a 1; Conflicts: b (<< 2)\nb 1", "", &[("r", &["a", "b"])], &[]).unwrap();
    assert_eq!(conflicts, ["root `r`: a 1 conflicts with b 1"]);
    let (_, conflicts) =
        run("a 1; Conflicts: mta; Provides: mta\nb 1", "", &[("r", &["a", "b"])], &[]).unwrap();
    assert_eq!(conflicts, Vec::<String>::new());
}

#[test]
fn failures_show_the_chain() {
    let error =
        run("a 1; Depends: b\nb 1; Depends: c (>= 2) | x\nc 1", "", &[("r", &["a"])], &[]).unwrap_err();
    let ResolveError::Unsatisfiable { root, package, chain } = error else { panic!("{error}") };
    assert_eq!((root.as_str(), package.as_str()), ("r", "a"));
    let expected = "  a 1 (main) depends on b\n    b 1 (main) depends on c (>= 2) | x\n      c (>= 2): c 1 (main) does not fit\n      x: in none of the suites main, security\n";
    assert_eq!(chain, expected);
    for (item, expected) in
        [("zzz", "in none of the suites"), ("a b", "is no package"), ("a/other", "is no package")]
    {
        let error = run("a 1", "", &[("r", &[item])], &[]).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

proptest! {
    /// Random small universes: resolution ends, and its answer is closed under dependencies.
    #[test]
    fn answers_are_closed(
        depends in proptest::collection::vec(proptest::collection::vec((0..6usize, 0..6usize), 0..3), 6),
        wanted in 0..6usize,
    ) {
        let lines: Vec<String> = depends.iter().enumerate().map(|(number, groups)| {
            let groups: Vec<String> = groups.iter().map(|(a, b)| format!("p{a} (>= {b}) | p{b}")).collect();
            format!("p{number} {number}; Depends: {}", groups.join(", "))
        }).collect();
        let item = format!("p{wanted}");
        if let Ok((closures, _)) = run(&lines.join("\n"), "", &[("r", &[item.as_str()])], &[]) {
            let members: BTreeSet<usize> =
                closures["r"].iter().map(|name| name.split_once('=').unwrap().1.parse().unwrap()).collect();
            prop_assert!(members.contains(&wanted));
            for member in &members {
                for (a, b) in &depends[*member] {
                    prop_assert!((a >= b && members.contains(a)) || members.contains(b));
                }
            }
        }
    }
}

//! Patterns of optional packages against globset itself, on many random ones in one evaluation.

use globset::Glob;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use crate::Outcome;
use crate::support::{call, checkout, run, scratch, write};

pub const TESTS: [(&str, fn() -> Outcome); 2] =
    [("glob_means_what_globset_means", as_globset), ("glob_that_is_none_is_named", bad_patterns)];

const PATTERNS: usize = 1500;

/// Few characters, so that patterns and paths meet often.
fn pattern() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        8 => "[ab/.+^-]",
        3 => Just("*".to_owned()),
        3 => Just("**".to_owned()),
        2 => Just("/**/".to_owned()),
        1 => Just("?".to_owned()),
        1 => "\\\\[ab*?\\[]",
        2 => r"\[[!^]?[ab^!.\[-]{1,4}\]",
        1 => r"\[!?\][ab-]{0,2}\]",
    ];
    let part = leaf.prop_recursive(2, 16, 4, |inner| {
        let branch = proptest::collection::vec(inner, 0..3).prop_map(|parts| parts.concat());
        proptest::collection::vec(branch, 1..4).prop_map(|branches| format!("{{{}}}", branches.join(",")))
    });
    proptest::collection::vec(part, 1..6).prop_map(|parts| parts.concat())
}

fn nix_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$"))
}

fn as_globset() -> Outcome {
    let mut runner = TestRunner::deterministic();
    let mut sample = |strategy: &BoxedStrategy<String>| {
        strategy.new_tree(&mut runner).expect("strategies make values").current()
    };
    let (patterns, paths) = (pattern().boxed(), "[ab/.+^-]{0,6}".boxed());
    let mut cases = vec![
        ("usr/include/**".to_owned(), "usr/include/a/b.h".to_owned()),
        ("usr/share/icons/Pop/cursors**".to_owned(), "usr/share/icons/Pop/cursors/x".to_owned()),
        ("usr/libexec/gcc/**/cc1plus".to_owned(), "usr/libexec/gcc/x/13/cc1plus".to_owned()),
        ("usr/bin/*c++".to_owned(), "usr/bin/x86_64-unknown-redox-c++".to_owned()),
    ];
    while cases.len() < PATTERNS {
        let pattern = sample(&patterns);
        // What globset refuses is for the other test.
        if Glob::new(&pattern).is_ok() {
            cases.extend((0..4).map(|_| (pattern.clone(), sample(&paths))));
        }
    }
    let folder = scratch();
    let list: String =
        cases.iter().map(|(g, p)| format!("[ {} {} ]\n", nix_string(g), nix_string(p))).collect();
    let file = folder.path().join("globs.nix");
    write(
        &file,
        &format!(
            "let lib = import {nix}/lib.nix; globs = import {nix}/globs.nix {{ inherit lib; }};\n\
             in map (c: builtins.match (globs.toRegex (builtins.elemAt c 0)) (builtins.elemAt c 1) != null) [\n{list}]\n",
            nix = checkout().join("nix").display()
        ),
    );
    let result = run(call(&["eval", "--json"]).arg(&file));
    result.expect(0, &[])?;
    let answers: Vec<bool> = serde_json::from_str(&result.stdout).map_err(|e| format!("the answer: {e}"))?;
    let mut matching = 0;
    for ((pattern, path), got) in cases.iter().zip(answers) {
        let wanted = Glob::new(pattern).expect("it was taken before").compile_matcher().is_match(path);
        matching += usize::from(wanted);
        if got != wanted {
            return Err(format!("`{pattern}` on `{path}`: {got}, globset says {wanted}"));
        }
    }
    if matching < PATTERNS / 20 { Err(format!("only {matching} paths match at all")) } else { Ok(None) }
}

fn bad_patterns() -> Outcome {
    for (pattern, message) in [
        ("usr/[ab", "opens a `[` that nothing closes"),
        ("usr/{a,b", "opens a `{` that nothing closes"),
        ("usr/a}", "closes a `}` that nothing opened"),
        ("usr/[b-a]", "has the range `b-a`, which runs backwards"),
        ("usr/\\", "ends in `\\`"),
    ] {
        if Glob::new(pattern).is_ok() {
            return Err(format!("globset takes `{pattern}`"));
        }
        let tree = crate::recipes::tree(&[(
            "recipes/o/recipe.toml",
            &format!(
                "[build]\ntemplate = \"custom\"\nscript = \"\"\n[[optional-packages]]\nname = \"x\"\nfiles = ['{pattern}']\n"
            ),
        )]);
        run(call(&["build", "o", "--no-link", "--tree"]).arg(tree.path())).expect(2, &[message])?;
    }
    Ok(None)
}

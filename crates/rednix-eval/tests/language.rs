//! The language, as tables of expressions and what they print, or the message they fail with.

use rednix_eval::{Evaluator, MemoryWorld, Settings};

/// With a collection of garbage at every opportunity, nothing may come out differently.
fn evaluate_in(world: impl Fn() -> MemoryWorld, settings: Settings, source: &str) -> Result<String, String> {
    let always = Settings { collect_always: true, ..settings.clone() };
    let found = evaluate_once(world(), settings, source);
    assert_eq!(evaluate_once(world(), always, source), found, "{source}, collecting always");
    found
}

fn evaluate_once(world: MemoryWorld, settings: Settings, source: &str) -> Result<String, String> {
    let mut evaluator = Evaluator::new(Box::new(world), settings);
    let result = evaluator.text(source.as_bytes(), b"/base").and_then(|value| evaluator.force_deep(value));
    match result {
        Ok(value) => Ok(String::from_utf8_lossy(&evaluator.show(value)).into_owned()),
        Err(error) => Err(error.message),
    }
}

fn evaluate(source: &str) -> Result<String, String> {
    evaluate_in(MemoryWorld::new, Settings::default(), source)
}

fn check(cases: &[(&str, &str)]) {
    for (source, expected) in cases {
        assert_eq!(evaluate(source).as_deref(), Ok(*expected), "{source}");
    }
}

fn check_fails(cases: &[(&str, &str)]) {
    for (source, expected) in cases {
        assert_eq!(evaluate(source), Err((*expected).to_string()), "{source}");
    }
}

#[test]
fn numbers() {
    check(&[
        ("1 + 2 * 3", "7"),
        ("7 / 2", "3"),
        ("-7 / 2", "-3"),
        ("7.0 / 2", "3.5"),
        ("1 - 2 - 3", "-4"),
        ("- 3", "-3"),
        ("1.0", "1"),
        ("0.1 + 0.2", "0.3"),
        ("builtins.bitAnd 12 10", "8"),
        ("builtins.bitOr 12 10", "14"),
        ("builtins.bitXor 12 10", "6"),
        ("[ (builtins.ceil 1.5) (builtins.floor (-1.5)) (builtins.floor 3) ]", "[ 2 -2 3 ]"),
        ("[ (1 < 2) (2 <= 2) (1 > 2) (1.5 >= 2) ]", "[ true true false false ]"),
        ("[ ([ 1 2 ] < [ 1 3 ]) ([ 1 ] < [ 1 ]) ([ ] <= [ 1 ]) ]", "[ true false true ]"),
        ("toString 0.1", "\"0.100000\""),
        ("let __sub = a: b: \"mine\"; in 5 - 3", "\"mine\""),
    ]);
    check_fails(&[
        ("1 / 0", "division by zero"),
        ("9223372036854775807 + 1", "integer overflow in adding 9223372036854775807 + 1"),
        ("1 + \"a\"", "cannot add a string to an integer"),
        ("1 - \"a\"", "expected an integer but found a string: \"a\""),
        (
            "{ } < { }",
            "cannot compare a set with a set; values of that type are incomparable (values are { } and { })",
        ),
        ("1 2", "attempt to call something which is not a function but an integer: 1"),
    ]);
}

#[test]
fn strings() {
    check(&[
        (r#""a${"b"}c""#, "\"abc\""),
        ("''\n  a\n    b\n  ''", "\"a\\n  b\\n\""),
        ("''''${x}''", "\"\\${x}\""),
        (r#""a" + "b""#, "\"ab\""),
        ("toString [ 1 [ ] 2 [ [ ] ] \"x\" [ ] ]", "\"1 2  x \""),
        ("builtins.stringLength \"é\"", "2"),
        ("builtins.substring 1 2 \"hello\"", "\"el\""),
        ("builtins.substring 3 (-1) \"hello\"", "\"lo\""),
        ("builtins.replaceStrings [ \"o\" \"\" ] [ \"0\" \"-\" ] \"foo\"", "\"-f00-\""),
        ("builtins.concatStringsSep \", \" [ \"a\" \"b\" ]", "\"a, b\""),
        ("builtins.split \"(a)b\" \"xaby\"", "[ \"x\" [ \"a\" ] \"y\" ]"),
        ("builtins.match \"a(b*)(c)?\" \"abb\"", "[ \"bb\" null ]"),
        ("builtins.compareVersions \"1.2pre\" \"1.2\"", "-1"),
        ("(builtins.parseDrvName \"nix-2.34\").version", "\"2.34\""),
        ("builtins.hashString \"md5\" \"\"", "\"d41d8cd98f00b204e9800998ecf8427e\""),
        ("\"${{ __toString = self: self.x; x = \"y\"; }}\"", "\"y\""),
        ("toString { outPath = \"/p\"; }", "\"/p\""),
    ]);
    check_fails(&[
        ("\"${1}\"", "cannot coerce an integer to a string: 1"),
        ("\"${x: x}\"", "cannot coerce a function to a string: «lambda @ «string»:1:4»"),
        ("builtins.match \"[\" \"\"", "invalid regular expression '['"),
    ]);
}

#[test]
fn attribute_sets() {
    check(&[
        ("{ a.b = 1; a.c = 2; }", "{ a = { b = 1; c = 2; }; }"),
        ("{ ${\"x\" + \"y\"} = 1; ${null} = 2; }", "{ xy = 1; }"),
        ("rec { a = b; b = 1; }", "{ a = 1; b = 1; }"),
        ("let { x = 1; body = x; }", "1"),
        ("let s = { a = 1; }; in with s; a", "1"),
        ("with { a = 1; }; with { b = a; }; a + b", "2"),
        ("let a = 1; in with { a = 2; }; a", "1"),
        ("{ a = 1; b = 2; } // { b = 3; c = 4; }", "{ a = 1; b = 3; c = 4; }"),
        ("{ a.b = 1; } ? a.b", "true"),
        ("{ a = 1; }.b or 2", "2"),
        ("{ a.b = 1; }.a.c.d or 3", "3"),
        (
            "let s = { a = 1; b = 2; }; in { inherit (s) a b; inherit s; }",
            "{ a = 1; b = 2; s = { a = 1; b = 2; }; }",
        ),
        ("rec { a = 1; b = a; __overrides = { a = 5; }; }.b", "5"),
        ("builtins.listToAttrs [ { name = \"a\"; value = 1; } { name = \"a\"; value = 2; } ]", "{ a = 1; }"),
        ("builtins.mapAttrs (n: v: n + toString v) { a = 1; }", "{ a = \"a1\"; }"),
        ("builtins.zipAttrsWith (n: vs: vs) [ { a = 1; } { a = 2; b = 3; } ]", "{ a = [ 1 2 ]; b = [ 3 ]; }"),
        (
            "builtins.foldl' (s: n: s // { ${toString n} = n; }) { } (builtins.genList (n: n) 12)",
            "{ \"0\" = 0; \"1\" = 1; \"10\" = 10; \"11\" = 11; \"2\" = 2; \"3\" = 3; \"4\" = 4; \"5\" = 5; \"6\" = 6; \"7\" = 7; \"8\" = 8; \"9\" = 9; }",
        ),
        ("builtins.intersectAttrs { a = 1; b = 1; } { b = 2; c = 3; }", "{ b = 2; }"),
        ("removeAttrs { a = 1; b = 2; } [ \"a\" \"x\" ]", "{ b = 2; }"),
        ("let s = { f = x: x; }; in [ (s == s) (s.f == s.f) ]", "[ true false ]"),
        ("{ a = 1; b = [ 2 ]; } == { b = [ 2 ]; a = 1.0; }", "true"),
    ]);
    check_fails(&[
        ("{ a = 1; }.b", "attribute 'b' missing"),
        ("let x = { } // x; in x.a", "infinite recursion encountered"),
        ("a", "undefined variable 'a'"),
        ("with { }; a", "undefined variable 'a'"),
        ("1 // { }", "expected a set but found an integer: 1"),
    ]);
}

#[test]
fn functions() {
    check(&[
        ("(a: b: c: a + b + c) 1 2 3", "6"),
        ("let f = a: b: a - b; g = f 5; in [ (g 1) (g 2) ]", "[ 4 3 ]"),
        ("({ a, b ? a + 1, ... }@all: [ a b (all ? c) ]) { a = 1; c = 3; }", "[ 1 2 true ]"),
        ("builtins.functionArgs ({ a, b ? 1 }: a)", "{ a = false; b = true; }"),
        ("({ __functor = self: x: self.y + x; y = 2; }) 3", "5"),
        ("let f = n: if n == 0 then 0 else f (n - 1); in f 9000", "0"),
        ("(x: y: x) 1 (throw \"not wanted\")", "1"),
        ("builtins.foldl' (a: b: a + b) 0 (builtins.genList (x: x) 1000)", "499500"),
        ("builtins.sort (a: b: a < b) [ 3 1 2 1 ]", "[ 1 1 2 3 ]"),
        ("builtins.sort builtins.lessThan [ \"b\" \"a\" ]", "[ \"a\" \"b\" ]"),
        ("builtins.filter (x: x > 1) [ 1 2 3 ]", "[ 2 3 ]"),
        ("builtins.partition (x: x > 1) [ 1 2 3 ]", "{ right = [ 2 3 ]; wrong = [ 1 ]; }"),
        (
            "builtins.groupBy (x: if x > 1 then \"big\" else \"small\") [ 1 2 3 ]",
            "{ big = [ 2 3 ]; small = [ 1 ]; }",
        ),
        ("builtins.concatMap (x: [ x x ]) [ 1 2 ]", "[ 1 1 2 2 ]"),
        ("builtins.elem 2 [ 1 2 ]", "true"),
        ("[ (builtins.any (x: x) [ ]) (builtins.all (x: x) [ ]) ]", "[ false true ]"),
        (
            "map (x: x.key) (builtins.genericClosure { startSet = [ { key = 1; } ]; operator = { key }: if key < 5 then [ { key = key + 1; } { key = 1; } ] else [ ]; })",
            "[ 1 2 3 4 5 ]",
        ),
        ("[ (x: x) builtins.map (builtins.map 1) ]", "[ <LAMBDA> <PRIMOP> <PRIMOP-APP> ]"),
    ]);
    check_fails(&[
        ("({ a }: a) { }", "function 'anonymous lambda' called without required argument 'a'"),
        ("let f = { a }: a; in f { a = 1; b = 2; }", "function 'f' called with unexpected argument 'b'"),
        ("(x: x x) (x: x x)", "stack overflow; max-call-depth exceeded"),
        ("builtins.head [ ]", "'builtins.head' called on an empty list"),
    ]);
}

#[test]
fn errors_and_laziness() {
    check(&[
        ("(builtins.tryEval (throw \"x\")).success", "false"),
        ("builtins.tryEval 1", "{ success = true; value = 1; }"),
        ("(builtins.tryEval (assert false; 1)).success", "false"),
        (
            "let x = throw \"x\"; in [ (builtins.tryEval x).success (builtins.tryEval x).success ]",
            "[ false false ]",
        ),
        ("(builtins.tryEval (builtins.deepSeq { a = throw \"x\"; } 1)).success", "false"),
        ("builtins.length [ (throw \"x\") ]", "1"),
        ("builtins.seq 1 2", "2"),
        ("if true then 1 else throw \"x\"", "1"),
        ("[ (false && throw \"x\") (true || throw \"x\") (false -> throw \"x\") ]", "[ false true true ]"),
    ]);
    check_fails(&[
        ("throw \"why\"", "why"),
        ("abort \"why\"", "evaluation aborted with the following error message: 'why'"),
        ("builtins.tryEval (abort \"why\")", "evaluation aborted with the following error message: 'why'"),
        ("builtins.tryEval (1 + \"\")", "cannot add a string to an integer"),
        ("assert 1 == 2; 3", "an integer with value '1' is not equal to an integer with value '2'"),
        ("assert false; 3", "assertion 'false' failed"),
        ("if 1 then 2 else 3", "expected a Boolean but found an integer: 1"),
        ("<nowhere>", "file 'nowhere' was not found in the Nix search path (add it using $NIX_PATH or -I)"),
        ("{ a = 1; a = 2; }", "attribute 'a' already defined at «string»:1:3"),
        ("let x = x; in x", "infinite recursion encountered"),
    ]);
}

#[test]
fn data_formats() {
    check(&[
        (
            "builtins.toJSON { a = [ 1 1.0 true null \"x\\n\" ]; b.c = { }; }",
            r#""{\"a\":[1,1.0,true,null,\"x\\n\"],\"b\":{\"c\":{}}}""#,
        ),
        ("builtins.fromJSON \"{\\\"a\\\": [1, 2.5, null, \\\"x\\\"]}\"", "{ a = [ 1 2.5 null \"x\" ]; }"),
        ("builtins.fromTOML \"a.b = 1\\nc = [ 1.5, true ]\"", "{ a = { b = 1; }; c = [ 1.5 true ]; }"),
        (
            "builtins.toXML 1",
            "\"<?xml version='1.0' encoding='utf-8'?>\\n<expr>\\n  <int value=\\\"1\\\" />\\n</expr>\\n\"",
        ),
    ]);
    check_fails(&[("builtins.toJSON (x: x)", "cannot convert a function to JSON")]);
}

/// Nothing may overflow the host's stack, however deep the values: these end with a value or an error.
#[test]
fn depth_is_no_crash() {
    let deep = "builtins.foldl' (t: h: { inherit t h; }) null (builtins.genList (x: x) 100000)";
    for source in [
        format!("builtins.deepSeq ({deep}) 1"),
        format!("builtins.toJSON ({deep})"),
        format!("builtins.toXML ({deep})"),
        format!("let a = {deep}; b = {deep}; in a == b"),
        "let f = x: f (x + 1); in f 0".into(),
        "let f = n: [ (f n) ]; in builtins.deepSeq (f 0) 1".into(),
    ] {
        assert_eq!(evaluate(&source), Err("stack overflow; max-call-depth exceeded".into()), "{source}");
    }
    let chain = "builtins.foldl' (t: h: x: t) 1 [ ]";
    assert_eq!(evaluate(chain).as_deref(), Ok("1"));
    let parens = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(evaluate(&parens).is_err());
    let sums = format!("1{}", " + 1".repeat(15_000));
    assert_eq!(evaluate(&sums).as_deref(), Ok("15001"));
    let lazy = "builtins.head (builtins.foldl' (l: n: [ (builtins.head l + n) ]) [ 0 ] (builtins.genList (x: x) 200000))";
    assert_eq!(evaluate(lazy).as_deref(), Ok("19999900000"));
}

#[test]
fn growing_strings_and_lists_stay_linear() {
    let world = Box::new(MemoryWorld::new());
    let mut evaluator = Evaluator::new(world, Settings::default());
    let source = "builtins.stringLength (builtins.foldl' (s: n: s + \"0123456789\") \"\" (builtins.genList (x: x) 50000))
        + builtins.length (builtins.foldl' (l: n: l ++ [ n ]) [ ] (builtins.genList (x: x) 50000))";
    let value = evaluator
        .text(source.as_bytes(), b"/")
        .and_then(|value| evaluator.force(value))
        .expect("it evaluates");
    assert_eq!(evaluator.int_of(value), Some(550_000));
    assert!(evaluator.allocated_bytes() < 64 << 20, "{} bytes", evaluator.allocated_bytes());
}

#[test]
fn files() {
    let world = MemoryWorld::new()
        .file("/base/default.nix", "{ x ? 1 }: [ x (import ./sub) ]")
        .file("/base/sub/default.nix", "__curPos.line")
        .file("/base/data.txt", "text")
        .link("/base/link", "data.txt")
        .file("/base/scoped.nix", "a + b")
        .variable("HELLO", "world");
    let cases = [
        ("import ./. { }", "[ 1 1 ]"),
        ("builtins.readFile ./link", "\"text\""),
        ("builtins.readDir ./sub", "{ \"default.nix\" = \"regular\"; }"),
        ("builtins.readFileType ./link", "\"symlink\""),
        ("[ (builtins.pathExists ./data.txt) (builtins.pathExists ./none) ]", "[ true false ]"),
        ("builtins.getEnv \"HELLO\"", "\"world\""),
        ("scopedImport { a = 1; b = 2; } ./scoped.nix", "3"),
        ("./. + \"/x\"", "/base/x"),
        ("./a/${\"b\"}/c", "/base/a/b/c"),
        ("baseNameOf ./a/b", "\"b\""),
        ("dirOf ./a/b", "/base/a"),
    ];
    for (source, expected) in &cases {
        let found = evaluate_in(|| world.clone(), Settings::default(), source);
        assert_eq!(found.as_deref(), Ok(*expected), "{source}");
    }
}

#[test]
fn traces_reach_the_world() {
    let world = MemoryWorld::new();
    let messages = world.messages.clone();
    assert_eq!(evaluate_once(world, Settings::default(), "builtins.trace { a = 1; } 2").as_deref(), Ok("2"));
    assert_eq!(*messages.lock().unwrap(), ["trace: { a = 1; }"]);
}

#[test]
fn errors_know_their_place() {
    let world = MemoryWorld::new().file("/base/lib.nix", "{\n  f = x: x.missing;\n}\n");
    let mut evaluator = Evaluator::new(Box::new(world), Settings::default());
    let value = evaluator.text(b"(import ./lib.nix).f { mising = 1; }", b"/base").expect("it parses");
    let error = evaluator.force(value).expect_err("the attribute is missing");
    let snippet = evaluator.snippet(error.range).expect("the error has a place");
    assert_eq!(snippet.place.to_string(), "/base/lib.nix:2:10");
    assert_eq!(&snippet.text[snippet.start..snippet.end], "x.missing");
    assert_eq!(error.suggestions, ["mising"]);
    let calls: Vec<_> = error.frames.iter().map(|frame| frame.message.as_str()).collect();
    assert_eq!(calls, ["while calling 'f'", "from call site"]);
}

#[test]
fn selecting_calls_functions_with_arguments() {
    let world = MemoryWorld::new();
    let mut evaluator = Evaluator::new(Box::new(world), Settings::default());
    let root = evaluator.text(b"{ n ? 1 }: { a.b = { m }: [ n m ]; }", b"/").expect("it parses");
    let n = evaluator.int(5);
    let m = evaluator.string(b"text");
    let bindings = [("n".to_string(), n), ("m".to_string(), m)];
    let value = evaluator.select(root, "a.b.1", &bindings).expect("the path is there");
    assert_eq!(evaluator.string_of(value).as_deref(), Some(&b"text"[..]));
    let error = evaluator.select(root, "a.c", &bindings).expect_err("no such attribute");
    assert_eq!(error.message, "attribute 'c' in selection path 'a.c' not found");
}

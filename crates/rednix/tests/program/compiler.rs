//! The front of the target's C compiler, with the real clang and lld behind it.

use crate::Outcome;
use crate::support::{call, checkout, run};

pub const TESTS: [(&str, fn() -> Outcome); 1] =
    [("compiler_links_short_jumps_of_a_large_library", short_jumps_of_a_large_library)];

/// Two parts of a library with 2 MiB of others between them, where one jumps to the other with an instruction that
/// reaches 1 MiB: relibc's `sigsetjmp` and `setjmp`.
const SCRIPT: &str = r#"
set -eu
mkdir -p /build/tools/empty
cd /build
sed "s|^# @values@|crossTarget=aarch64-unknown-redox crossDriver=clang crossHeaders=/build/tools/empty|" "$compiler" >cc
part() { printf '.section .text.%s,"ax"\n.global %s\n.type %s,@function\n%s: %s\nret\n' $1 $1 $1 $1 "$2"; }
{ part setjmp nop; part others '.zero 2097152'; part sigsetjmp 'cbz x1, setjmp'; } >parts.s
bash cc -c parts.s -o parts.o
bash cc -nostdlib -shared parts.o -o parts.so
# The jump is bound to the function itself, not to a table behind all code.
llvm-readelf --relocs parts.so | { ! grep setjmp; }
touch "$out"
"#;

fn short_jumps_of_a_large_library() -> Outcome {
    let script = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
    std::fs::write(script.path(), SCRIPT).map_err(|e| e.to_string())?;
    let expression = format!(
        "let l = import {nix} {{ }}; in l.derive.bashBuild {{ name = \"short-jumps\"; root = l.debian.root \"redox\"; \
         script = builtins.toFile \"script\" (builtins.readFile {script}); \
         environment.compiler = \"${{{nix}/builder/cc.sh}}\"; }}",
        nix = checkout().join("nix").display(),
        script = script.path().display(),
    );
    run(&mut call(&["build", "--no-link", "--expr", &expression])).expect(0, &[])?;
    Ok(None)
}

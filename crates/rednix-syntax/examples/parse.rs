//! Prints the tree of standard input the way `nix-instantiate --parse -` does.

use rednix_syntax::{Interner, Options, Span, parse, printer};
use std::io::{Read, Write};

fn main() {
    let mut source = Vec::new();
    std::io::stdin().read_to_end(&mut source).expect("standard input is readable");
    let mut interner = Interner::new();
    let parsed = parse(&source, &mut interner, Options::default());
    if let Some(error) = parsed.errors.first() {
        let place = |span: Span| {
            let before = &source[..span.start as usize];
            let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
            let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
            format!("«stdin»:{line}:{column}")
        };
        let other = error.other.map(place).unwrap_or_default();
        eprintln!("error: {}{other}\n       at {}", error.message, place(error.span));
        std::process::exit(1);
    }
    let base = std::env::current_dir().expect("a working directory");
    let places = printer::Places { base: base.as_os_str().as_encoded_bytes(), home: b"/fake-home" };
    let mut out = printer::print(&parsed.ast, &interner, parsed.root, places);
    out.push(b'\n');
    std::io::stdout().write_all(&out).expect("standard output is writable");
}

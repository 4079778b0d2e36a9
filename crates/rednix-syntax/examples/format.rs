//! Lays standard input out anew on standard output; status 1 where it does not parse.

use std::io::Read;

fn main() -> std::process::ExitCode {
    let mut source = Vec::new();
    std::io::stdin().read_to_end(&mut source).expect("standard input can be read");
    match rednix_syntax::format::format(&source) {
        Ok(text) => print!("{text}"),
        Err(errors) => {
            eprintln!("{}", errors[0]);
            return 1.into();
        }
    }
    0.into()
}

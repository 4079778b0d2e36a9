//! Linker arguments, so that a plain `cargo build` links right wherever it is called from.

use std::env;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=linker.ld");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let folder = env::var("CARGO_MANIFEST_DIR").expect("cargo names the package's folder");
    for argument in
        ["--no-pie", "-zmax-page-size=4096", "--build-id=none", &format!("--script={folder}/linker.ld")]
    {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}

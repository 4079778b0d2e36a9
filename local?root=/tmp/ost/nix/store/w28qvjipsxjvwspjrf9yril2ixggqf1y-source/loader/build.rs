//! Linker arguments, so that a plain `cargo build` links right wherever it is called from.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("uefi") {
        // Without it the linker writes the time of day into the file.
        println!("cargo:rustc-link-arg=/Brepro");
        // A separate file of debug information would be named in the program by a path.
        println!("cargo:rustc-link-arg=/DEBUG:NONE");
    }
}

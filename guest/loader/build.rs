//! Linker arguments, so that a plain `cargo build` links right wherever it is called from.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=pvh.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo names the package's folder");
        for argument in
            ["--no-pie", "-zmax-page-size=4096", "--build-id=none", &format!("--script={folder}/pvh.ld")]
        {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("uefi") {
        // Without it the linker writes the time of day into the file.
        println!("cargo:rustc-link-arg=/Brepro");
        // A separate file of debug information would be named in the program by a path.
        println!("cargo:rustc-link-arg=/DEBUG:NONE");
    }
}

//! Linker arguments, so that a plain `cargo build` links right wherever it is called from.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo names the package's folder");
        let common = ["--no-pie", "-zmax-page-size=4096", "--build-id=none"];
        // A disk's start and a file for Linux's protocol are memory as it is.
        let flat = &["--oformat=binary"][..];
        for (binary, script, others) in [
            ("loader-pvh", "direct.ld", &[][..]),
            ("loader-linux", "linux.ld", flat),
            ("loader-bios", "bios.ld", flat),
        ] {
            println!("cargo:rerun-if-changed={script}");
            for argument in common.iter().chain(others) {
                println!("cargo:rustc-link-arg-bin={binary}={argument}");
            }
            println!("cargo:rustc-link-arg-bin={binary}=--script={folder}/{script}");
        }
    }
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("uefi") {
        // Without it the linker writes the time of day into the file.
        println!("cargo:rustc-link-arg=/Brepro");
        // A separate file of debug information would be named in the program by a path.
        println!("cargo:rustc-link-arg=/DEBUG:NONE");
        // Firmware puts it wherever it likes. Some that is small (Cloud Hypervisor's) takes any other base for an order,
        // and the linker's is at 5 GiB.
        println!("cargo:rustc-link-arg=/BASE:0");
    }
}

# Rust from Debian's packages: rustc, cargo and the standard library's source with its vendored crates.
# The library for a target is built once, as a layer that puts it where rustc looks for it.
{ lib, derive, debian }:

let
  # Which crates a target gets. Targets not named here have no prebuilt library. Programs for Redox share one
  # whole library: where each built its own, its `core` would meet the other one inside the C library.
  bare = { crates = "core,alloc"; features = "compiler-builtins-mem"; };
  hosted = { crates = "std,panic_abort,panic_unwind"; features = ""; };
  libraries = {
    "aarch64-unknown-none" = bare;
    "aarch64-unknown-none-softfloat" = bare;
    "aarch64-unknown-redox" = hosted;
    "aarch64-unknown-uefi" = bare;
    "i586-unknown-redox" = hosted;
    "i686-unknown-uefi" = bare;
    "riscv64gc-unknown-none-elf" = bare;
    "riscv64gc-unknown-redox" = hosted;
    "x86_64-unknown-none" = bare;
    "x86_64-unknown-redox" = hosted;
    "x86_64-unknown-uefi" = bare;
  };

  std = target: derive.bashBuild {
    name = "rust-std-${target}";
    root = debian.root "rust";
    script = "${./builder/std.sh}";
    environment = {
      inherit target;
      inherit (libraries.${target}) crates features;
      RUSTC_BOOTSTRAP = "1";
    };
  };
in
{
  # The standard library's own dependencies, for packages that build it themselves.
  stdVendor =
    let version = builtins.head (lib.splitOn "+" debian.lock.packages.rust-web-src.version);
    in "${debian.layers.rust-web-src}/usr/src/rustc-${version}/library/vendor";

  # The layer with `target`'s library, or null where the toolchain brings it or nobody can prebuild it.
  stdLayer = target: if libraries ? ${target} then std target else null;
}

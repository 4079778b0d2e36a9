# Rust: rustc, cargo and the standard library's source with its crates. From Debian's packages, or where the lock names
# a toolchain of upstream's (`rednix lock --toolchain`), from its archives: a Rust release, or Redox's own Rust and gcc
# (the prefix). The library for a target is built once, as a layer that puts it where rustc looks for it.
{ lib, derive, debian, cargo, target, toolchain ? null }:

let
  # Redox's own compilers are made for one target.
  hasPrefix =
    if !(toolchain ? target) then false
    else if toolchain.target == target then true
    else throw "the lock's toolchain builds for ${toolchain.target}, not for ${target}; lock one that does: `rednix lock --toolchain prefix --target ${target}`";

  # -- upstream's archives --------------------------------------------------------------------------------

  archives = builtins.mapAttrs
    (name: component: derive.fetchurl {
      name = "${lib.storeName name}.tar.${if hasPrefix then "gz" else "xz"}";
      inherit (component) url sha256;
    })
    toolchain.components;

  component = name: archive: derive.bashBuild {
    name = "toolchain-${lib.storeName name}";
    root = debian.root "base";
    script = "${./builder/component.sh}";
    environment = { archive = "${archive}"; } // lib.optionalAttrs hasPrefix { prefixOf = lib.gnuTarget target; };
  };

  # What Debian's source package brings and upstream's archive does not: the library's own dependencies.
  stdLocks = [ { crates = map lib.crateOfTriple toolchain.std.crates; git = [ ]; } ];
  vendor = cargo.vendor { locks = stdLocks; };
  vendorLayer = derive.builtinBuild "tree" {
    name = "toolchain-vendor";
    entries = [ { path = "usr/lib/rustlib/src/rust/library/vendor"; target = "${vendor}"; type = "symlink"; } ];
  };

  # Where two archives have one file, upstream lets the later one win: gcc, then Rust, then clang.
  ranked = builtins.filter (name: archives ? ${name}) [ "clang-install" "rust-install" "gcc-install" "relibc-install" ];
  upstream = [ vendorLayer ]
    ++ map (name: component name archives.${name}) (if hasPrefix then ranked else builtins.attrNames archives);

  # Two compilers in one root would find each other's libraries.
  isRust = package: builtins.match ".*rust.*|cargo.*" package != null;

  root = name: if toolchain == null then debian.root name else upstream ++ debian.rootWithout isRust name;

  # -- the library --------------------------------------------------------------------------------------

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

  stdWith = more: target: derive.bashBuild {
    name = "rust-std-${target}";
    root = root "rust";
    script = "${./builder/std.sh}";
    environment = {
      inherit target;
      inherit (libraries.${target}) features;
      crates = libraries.${target}.crates + more;
      RUSTC_BOOTSTRAP = "1";
    };
  };
in
{
  # Whether Redox's own gcc and its libraries are in the root.
  inherit hasPrefix;

  # A named build root, with the chosen Rust in it.
  inherit root;

  # One component of upstream's toolchain as a layer.
  component = name: component name archives.${name};

  # What the toolchain is made from, as derivations; nothing where Debian's packages are.
  fetches = lib.optionals (toolchain != null) (builtins.attrValues archives ++ cargo.fetches { locks = stdLocks; });

  # The standard library's own dependencies, for packages that build it themselves.
  stdVendor =
    let version = builtins.head (lib.splitOn "+" debian.lock.packages.rust-web-src.version);
    in if toolchain != null then "${vendor}" else "${debian.layers.rust-web-src}/usr/src/rustc-${version}/library/vendor";

  # The layer with `target`'s library, or null where the toolchain brings it or nobody can prebuild it.
  stdLayer = wanted: if libraries ? ${wanted} && !(hasPrefix && wanted == target) then stdWith "" wanted else null;
  # The same with the library that tests are built with, which no package needs.
  stdTestLayer = wanted: if libraries ? ${wanted} && !(hasPrefix && wanted == target) then stdWith ",test" wanted else null;
}

# The C side of building for Redox: clang, lld and LLVM's tools under the names of upstream's compiler, and the
# folders they look into. Nothing here knows recipes.
#
# `/usr/<gnu target>/` in a build's root holds what upstream's prefix holds there: the C library of the tree's own
# relibc, and what a compiler brings itself (libgcc, the unwinder). Where the prefix itself is the toolchain, it is in
# the root already, and only the C library is from here.
{ lib, derive, debian, target }:

let
  gnuTarget = lib.gnuTarget target;
  arch = builtins.head (lib.splitOn "-" target);

  # Where Debian has gcc's own libraries for other machines.
  crossPackages = {
    aarch64 = "libgcc-14-dev-arm64-cross";
    i586 = "libgcc-14-dev-i386-cross";
    riscv64gc = "libgcc-14-dev-riscv64-cross";
  };
in
{
  inherit gnuTarget;

  # libgcc.a and libgcc_eh.a.
  compilerRuntime = derive.bashBuild {
    name = "compiler-runtime-${gnuTarget}";
    root = debian.root "redox";
    script = "${./builder/runtime.sh}";
    environment = {
      inherit gnuTarget;
      unwindHelper = "${./builder/unwind.c}";
      machineFlags = lib.optionalString (arch == "riscv64gc") "-march=rv64gc -mabi=lp64d";
    } // lib.optionalAttrs (arch != "x86_64") {
      crossRuntime = "${debian.layers.${crossPackages.${arch} or (throw "there is no compiler runtime for ${target}")}}";
    };
  };

  # A cooked relibc as a layer of the root.
  libraryLayer = relibc: derive.bashBuild {
    name = "libc-${gnuTarget}";
    root = debian.root "base";
    script = "${./builder/libc.sh}";
    environment = {
      inherit gnuTarget;
      relibc = "${relibc}";
    };
  };
}

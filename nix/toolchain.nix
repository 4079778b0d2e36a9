# The C side of building for Redox: clang, lld and LLVM's tools under the names of upstream's compiler, and the
# folders they look into. Nothing here knows recipes.
#
# `/usr/<gnu target>/` in a build's root holds what upstream's prefix holds there: the C library of the tree's own
# relibc, and what a compiler brings itself (libgcc, the unwinder). Where the prefix itself is the toolchain, it is in
# the root already, and only the C library is from here.
{ lib, derive, debian, target }:

let
  gnuTarget = lib.gnuTarget target;
in
{
  inherit gnuTarget;

  # libgcc.a and libgcc_eh.a. Only for the build machine's own architecture: Debian has their objects for it.
  compilerRuntime =
    if lib.hasPrefix "x86_64-" target then
      derive.bashBuild
        {
          name = "compiler-runtime-${gnuTarget}";
          root = debian.root "redox";
          script = "${./builder/runtime.sh}";
          environment = {
            inherit gnuTarget;
            unwindHelper = "${./builder/unwind.c}";
          };
        }
    else throw "there is no compiler runtime for ${target}: only kernels and loaders can be built for it";

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

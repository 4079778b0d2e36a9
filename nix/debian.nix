# Debian packages as layers of a build's root. Each .deb is one fetch and one unpacked store path, so that
# two roots share what they have in common and a changed package changes nothing else.
{ lib, derive, lock }:

let
  packageOf = name: lock.packages.${name} or (throw
    "the Debian package `${name}` is not in the lock; add it to a root in nix/debian.json and run `rednix lock debian`");

  archive = name:
    let package = packageOf name;
    in derive.fetchurl {
      name = "${lib.storeName name}.deb";
      url = "debian:${package.suite}/${package.path}";
      inherit (package) sha256 size;
    };

  layers = builtins.mapAttrs (name: _: derive.builtinBuild "unpack-deb" {
    name = "deb-${lib.storeName name}";
    src = archive name;
  }) lock.packages;

  # What the packages' maintainer scripts would have set up and a build expects.
  glue = derive.builtinBuild "tree" {
    name = "root-glue";
    entries =
      let link = path: target: { inherit path target; type = "symlink"; };
      in [
        (link "usr/bin/awk" "gawk")
        (link "usr/bin/c++" "g++")
        (link "usr/bin/cc" "gcc")
        (link "usr/bin/sh" "bash")
        (link "usr/bin/rust-lld" "../lib/llvm-22/bin/lld")
        (link "usr/bin/pkg-config" "pkgconf")
        (link "usr/bin/automake" "automake-1.17")
        (link "usr/bin/aclocal" "aclocal-1.17")
        (link "usr/bin/which" "which.debianutils")
        (link "usr/bin/yacc" "bison.yacc")
        # Python's pip wants some certificate before it does anything; there is no network to use it with.
        (link "etc/ssl/certs/ca-certificates.crt" "/usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt")
        # Directories in place of links would hide every package's files below them.
        (link "bin" "usr/bin")
        (link "sbin" "usr/sbin")
        (link "lib" "usr/lib")
        (link "lib64" "usr/lib64")
      ];
  };
  # A named root without the packages a predicate is true for.
  rootWithout = isUnwanted: name: [ glue ] ++ map (package: layers.${package}) (builtins.filter (package: !(isUnwanted package)) (packagesOf name));
  packagesOf = name: lock.roots.${name} or (throw
    "the Debian lock has no root `${name}`; it has: ${builtins.concatStringsSep ", " (builtins.attrNames lock.roots)}");
  roots = builtins.mapAttrs (name: _: rootWithout (_: false) name) lock.roots;
in
{
  inherit archive layers lock;

  # The layers of a named root of the lock, the glue on top. Thousands of recipes share one list.
  root = name: builtins.seq (packagesOf name) roots.${name};
  inherit rootWithout;
}

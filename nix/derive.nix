# The three kinds of derivation rednix knows: a fetch, a builder inside rednix, a bash build in a root of
# packages. Everything that could change from day to day (mirrors, times, commit ids) stays out of them.
{ lib, system, contentAddressed }:

let
  addressing = lib.optionalAttrs contentAddressed {
    __contentAddressed = true;
    outputHashMode = "recursive";
    outputHashAlgo = "sha256";
  };
  common = {
    inherit system;
    requiredSystemFeatures = [ "rednix" ];
  };
in
{
  # A file with a known hash. `url` is canonical (`debian:`, `crate:` or upstream's own); where the bytes
  # really come from is configuration at fetch time. `size` in bytes, where it is known, is for showing progress.
  fetchurl = { name, url, sha256, executable ? false, size ? null }: derivation ({
    inherit name url;
    system = "builtin";
    builder = "builtin:fetchurl";
    outputHash = sha256;
    outputHashAlgo = "sha256";
    outputHashMode = if executable then "recursive" else "flat";
    preferLocalBuild = true;
  } // lib.optionalAttrs executable { executable = true; unpack = false; }
    // lib.optionalAttrs (size != null) { inherit size; });

  # A git tree without its history. The hash is over the NAR of the tree, submodules included.
  # `overrides` says what the lock has in place of submodules.
  fetchgit = { name, url, rev, narHash, submodules ? true, overrides ? { } }: derivation (common // {
    inherit name;
    builder = "builtin:rednix-fetch-git";
    __structuredAttrs = true;
    formatVersion = 1;
    inherit url rev submodules;
    outputHash = narHash;
    outputHashAlgo = "sha256";
    outputHashMode = "recursive";
  } // lib.optionalAttrs (overrides != { }) { inherit overrides; });

  # A builder that is part of rednix. `formatVersion` rises whenever its output would differ.
  builtinBuild = builderName: { name, ... }@attributes: derivation (common // addressing // {
    builder = "builtin:rednix-${builderName}";
    __structuredAttrs = true;
    formatVersion = 1;
  } // attributes);

  # A build in the sandbox: `root` is a list of layers, the first one on top.
  bashBuild = { name, root, script, outputs ? [ "out" ], environment ? { } }: derivation (common // addressing // environment // {
    inherit name outputs;
    builder = "/usr/bin/bash";
    args = [ "-e" script ];
    rednixRoot = root;
    # Debian keeps LLVM's programs under their plain names in a folder per version.
    PATH = "/usr/bin:/usr/sbin:/usr/lib/llvm-22/bin";
    LC_ALL = "C";
  });
}

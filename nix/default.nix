# rednix's library: a recipe tree and its lock in, derivations out. Mechanism (fetching, sandboxing, writing
# images) is in the Rust program; what a package is and what a system contains is here, to be overridden.
#
#   tree        a recipe tree in upstream's format: recipes/, config/
#   lock        the tree's rednix.lock; null reads it beside the tree
#   target      Redox target triple of packages that are not `host:`
#   overrides   recipe name → folder to use in place of its source
#   work        recipe name → { folder; key; content; } of a working copy, built incrementally (`rednix work`)
#   overlays    functions `final: prev: { NAME = …; }` over the recipes; see overlays.nix
{ tree ? ../tree
, lock ? null
, debianLock ? ./debian.lock.json
, target ? "x86_64-unknown-redox"
, system ? "x86_64-linux"
, contentAddressed ? true
, overrides ? { }
, work ? { }
, overlays ? [ ]
}@arguments:

let
  lib = import ./lib.nix;
  derive = import ./derive.nix { inherit lib system contentAddressed; };
  debian = import ./debian.nix {
    inherit lib derive;
    lock = builtins.fromJSON (builtins.readFile debianLock);
  };
  cargo = import ./cargo.nix { inherit lib derive; };
  rust = import ./rust.nix { inherit lib derive debian cargo target; toolchain = parsedLock.toolchain or null; };
  treePath = /. + toString tree;
  lockFile = if lock != null then /. + toString lock else treePath + "/rednix.lock";
  cookbook = import ./cookbook.nix {
    inherit lib derive debian rust cargo target overrides work overlays provided;
    tree = treePath;
    lock = parsedLock;
  };
  # Recipes of this project's own that any tree's systems may ask for.
  provided.virtio-drivers = ../tree/recipes/virtio-drivers;
  parsedLock = lib.jsonOr { sources = { }; } lockFile;
  arch = builtins.head (lib.splitOn "-" target);
  # A system's name stands for everything its image needs, and goes before a recipe of the same name.
  packagesOf = builtins.concatMap (name:
    if builtins.elem name machines.names then (machines.get name).packages
    else lib.optional (cookbook.folders ? ${(cookbook.parseName name).recipe}) name);
  named = names:
    let unknown = builtins.filter (name: packagesOf [ name ] == [ ]) names;
    in if unknown == [ ] then packagesOf names
    else throw "neither a system nor a recipe is named `${builtins.head unknown}`; systems are: ${builtins.concatStringsSep ", " machines.names}";
  toolsOf = builtins.concatMap (name: lib.optionals (builtins.elem name machines.names) (machines.get name).tools);
  moduleSystem = import ./modules.nix { inherit lib; };
  written = import ./modules/system.nix { inherit lib moduleSystem machines cookbook arch; tree = treePath; };
  machines = import ./system.nix { inherit lib derive cookbook arch; tree = treePath; lock = parsedLock; };
  testing = import ./testing.nix {
    inherit lib derive;
    systemOf = wanted:
      if builtins.isString wanted && !(lib.hasSuffix ".nix" wanted) then machines.get wanted
      else if builtins.isAttrs wanted then wanted
      else (import ./default.nix arguments).systemOf wanted;
  };
in
{
  inherit lib derive debian rust cargo cookbook;
  inherit (machines) systems;
  # A system by name, with an error that names the ones there are; or `{ config; modules; … }`, written in Nix, which
  # may have arguments of this file too (`tree`, `overlays`, `target`, …).
  system = wanted:
    let
      own = builtins.intersectAttrs (builtins.functionArgs (import ./default.nix)) wanted;
      # Another tree has another lock.
      other = removeAttrs arguments (lib.optional (own ? tree) "lock") // own;
    in
    if builtins.isString wanted then machines.get wanted
    else if own == { } then written.build wanted
    else (import ./default.nix other).system (removeAttrs wanted (builtins.attrNames own));
  # A file → the system it gives: a system, the arguments of `system`, or a function from `{ rednix, … }` to either.
  systemOf = file:
    let
      rednix = import ./default.nix arguments;
      loaded = import file;
      given = if builtins.isFunction loaded then loaded { inherit rednix; } else loaded;
    in
    if builtins.isAttrs given && given ? image then given
    else if builtins.isAttrs given && (given ? config || given ? modules) then rednix.system given
    else throw ("${toString file} gives no system: it has neither `image` nor `modules`"
      + "\n\nhint: let it be `{ rednix, ... }: rednix.system { config = \"minimal\"; modules = [ … ]; }`");
  # The module system and the options of a system, for those who document or extend them.
  modules = moduleSystem // { inherit (written) options; };
  moduleReference = (import ./modules/reference.nix { inherit lib moduleSystem; }) written.options;
  # What a repository of packages, or of systems' packages, is made of.
  inherit (machines) repository;
  # Starts an image without firmware. It is this project's own, whatever tree the image is from.
  directLoader = (import ./default.nix { inherit debianLock system contentAddressed; }).package "loader.pvh";
  packages = cookbook.derivations;
  hostPackages = cookbook.hostDerivations;
  package = cookbook.package;
  # For `rednix lock`, `update` and `tree`: what is pinned, what is fetched, what a system is built from.
  lockable = names: cookbook.lockable (named names);
  inherit (cookbook) renewable;
  fetches = names: lib.unique (map (drv: builtins.unsafeDiscardStringContext drv.drvPath) rust.fetches ++ cookbook.fetches (named names ++ toolsOf names));
  graph = names: cookbook.graph (named names);
  checks = import ./checks.nix { inherit lib; inherit (machines) systems; };
  # What `rednix test` runs: the checks above, those of a file, or one as a derivation for a flake's `checks`.
  testing = testing // { checks = testing.tests (import ./checks.nix { inherit lib; inherit (machines) systems; }); };
  inherit (testing) machineTest;
}

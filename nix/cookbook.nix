# A recipe tree in upstream's format → one derivation per recipe, lazily: a recipe that cannot be built is an
# error only when something wants it.
{ lib, derive, debian, rust, cargo, tree, lock, target, overrides ? { }, work ? { }, overlays ? [ ], provided ? { } }:

let
  inherit (builtins) concatStringsSep filter map;

  recipeSet = import ./recipes.nix { inherit lib tree provided; overlay = import ./overlays.nix { inherit lib overlays; package = name: derivations.${name}; }; };
  inherit (recipeSet) overlaid;
  pins = lock // { sources = lock.sources or { } // overlaid.pins; };
  folderSources = overlaid.folderSources // overrides;
  pristine = import ./sources.nix { inherit lib derive debian cargo recipeSet; lock = pins; overrides = folderSources; };
  # A working copy is the source, with patches and all, as far as evaluation has to look into it.
  sources = if work == { } then pristine else import ./sources.nix {
    inherit lib derive debian cargo recipeSet;
    lock = pins;
    overrides = folderSources // builtins.mapAttrs (_: copy: /. + copy.folder) work;
  };
  templates = import ./templates.nix { inherit lib; };
  globs = import ./globs.nix { inherit lib; };
  inherit (recipeSet) folders recipes parseName folderOf outputsOf buildClosure;

  hostTarget = "x86_64-unknown-linux-gnu";

  # The packages of a sysroot or toolchain folder, in the order of their names, and the names for its tags.
  composed = variable: parts: lib.optionalAttrs (parts != [ ]) {
    ${variable} = map stageOf parts;
    "${variable}Names" = map (part: part.recipe + lib.optionalString (part.suffix != null) ".${part.suffix}") parts;
  };

  # The cookbook of early 2026 and before put the recipe's name before every package of a workspace.
  packagesPrefixed =
    let own = tree + "/src/cook/script.rs";
    in builtins.pathExists own && builtins.length (builtins.split "cookbook_cargo_packages_prefixed" (builtins.readFile own)) == 1;

  stageOf = part: cook { name = part.recipe; host = part.host; } part.suffix;

  # The build root. A recipe may ask for a smaller one than the cookbook's own (`[rednix] root = "rust"`).
  rootNameOf = recipe: recipe.rednix.root or "redox";

  # LLVM's tools write no UEFI program for riscv64; GNU's do.
  debianRootOf = recipe: host:
    let name = rootNameOf recipe;
    in if name == "redox" && !host && lib.hasPrefix "riscv64gc-" target then "redox-riscv64" else name;

  # What is below the C library, or stands without one: it is built with the bare compiler, so that a changed
  # relibc does not touch it.
  freestanding = [ "relibc" "kernel" "profiling-kernel" "bootloader" ];
  toolchain = import ./toolchain.nix { inherit lib derive debian target; };
  cbindgen = import ./cbindgen.nix { inherit lib derive debian cargo; };
  # One relibc serves all: the package in the image is the library programs are linked with.
  libraryLayer = toolchain.libraryLayer derivations.relibc.out;
  hasLibrary = folders ? relibc;
  compilerRuntime = lib.optional (!rust.hasPrefix) toolchain.compilerRuntime;

  # The layers a target recipe's root has above Debian's packages.
  targetLayers = name:
    if rootNameOf recipes.${name} != "redox" || !hasLibrary || (builtins.elem name freestanding && name != "relibc") then [ ]
    else if name == "relibc" then [ cbindgen ] ++ compilerRuntime
    else filter (layer: layer != null) (lib.optional (usesRust name) (stdOf name target)) ++ [ cbindgen libraryLayer ] ++ compilerRuntime;

  # A recipe that builds tests (`rednix.tests = true`) has the library for those too.
  stdOf = name: if recipes.${name}.rednix.tests or false then rust.stdTestLayer else rust.stdLayer;

  # Packages of C alone are not built again for another Rust, nor wait for its library.
  usesRust = name:
    let build = recipes.${name}.build or { };
    in sources.cargoLocks name != [ ] || (build.template or "none") == "cargo"
      || builtins.length (builtins.split "[Cc]argo|CARGO|RUST|rustc" (build.script or "")) > 1;

  # Packages that only carry the shared libraries of upstream's own gcc. Nothing is linked with those unless that gcc
  # is the toolchain.
  gccCarriers = [ "libgcc" "libstdcxx" ];
  gccNotice = name: "echo 'notice: `${name}` carries a shared library of gcc; everything is linked statically, so it is empty'\n";

  derivationOf = { name, host }:
    let
      recipe = builtins.seq (folderOf name) recipes.${name};
      text = if !host && !rust.hasPrefix && builtins.elem name gccCarriers then gccNotice name else templates.script name recipe;
      copy = work.${recipeSet.sourceOwner name} or null;
      source = if copy == null then sources.sourceOf name else null;
      locks = sources.cargoLocks name;
      # Kernels and loaders build the standard library themselves, from the toolchain's source.
      buildsStd = !host && !(recipe ? source.path);
      vendor = cargo.vendor {
        inherit locks;
        gitSources = lock.cargoGit or { };
        merge = lib.optional buildsStd rust.stdVendor;
      };
      closure = buildClosure host name;
      folder = sources.recipeFolder name;
      std = filter (layer: layer != null) (map rust.stdLayer (sources.wantedTargets name));
      host' = filter (part: part.host) closure;
      target' = filter (part: !part.host) closure;
      claims = globs.claims (recipe.optional-packages or [ ]);
      patched = pristine.patchedFiles name;
      lockConfigs = cargo.lockConfigs { inherit locks; gitSources = lock.cargoGit or { }; };
    in
    derive.bashBuild {
      name = "${if host then "host-" else ""}${lib.storeName name}";
      root = std ++ lib.optionals (!host) (targetLayers name) ++ rust.root (debianRootOf recipe host);
      script = "${./builder/cook.sh}";
      outputs = outputsOf recipe;
      environment = {
        cookbookCommon = "${./builder/common.sh}";
        cookbookPrelude = "${./builder/prelude.sh}";
        cookbookShared = "${./builder/shared.sh}";
        cookbookPostlude = "${./builder/postlude.sh}";
        cookbookTools = "${./builder/tools.sh}";
        cookbookName = name;
        cookbookScript = text;
        TARGET = if host then hostTarget else target;
        COOKBOOK_HOST_TARGET = hostTarget;
        RUSTC_BOOTSTRAP = "1";
      }
      // composed "cookbookSysroot" (if host then host' else target')
      // composed "cookbookToolchain" (lib.optionals (!host) host')
      // lib.optionalAttrs packagesPrefixed { REDNIX_PACKAGES_PREFIXED = "1"; }
      // lib.optionalAttrs (source != null) { cookbookSource = "${source}"; }
      // lib.optionalAttrs (patched != [ ]) { cookbookPatched = concatStringsSep "\n" patched; }
      // lib.optionalAttrs (folder != null) { cookbookRecipeFolder = "${folder}"; }
      // lib.optionalAttrs (claims != "") { cookbookClaims = claims; }
      // lib.optionalAttrs (!host && rootNameOf recipe == "redox")
        (if rust.hasPrefix then { REDNIX_DYNAMIC = "1"; } else { cookbookCompiler = "${./builder/cc.sh}"; })
      # The builder mounts the kept folders of that name; the contents are named so that a change is one.
      // lib.optionalAttrs (copy != null) { rednixWork = copy.key; rednixWorkContent = copy.content; }
      // lib.optionalAttrs (locks != [ ]) {
        cookbookVendor = vendor;
        cookbookCargoConfig = cargo.config { inherit locks; gitSources = lock.cargoGit or { }; directory = "/build/vendor"; };
      }
      // lib.optionalAttrs (lockConfigs != { }) {
        cookbookCargoLocks = concatStringsSep "\n" (builtins.attrNames lockConfigs);
      }
      // lib.numbered "cookbookCargoLockConfig" (builtins.attrValues lockConfigs)
      // lib.optionalAttrs (locks != [ ] && sources.cargoPatchOf name != null) { cookbookCargoLockPatch = sources.cargoPatchOf name; };
    };

  # The recipe whose source working on `name` means.
  workable = text:
    let parts = parseName text;
    in builtins.seq (folderOf parts.recipe) (recipeSet.sourceOwner parts.recipe);

  # A recipe's source as its build would find it, patched and scripted: what a working copy begins with.
  prepared = name:
    let
      owner = workable name;
      base = pristine.prepared owner;
      lockPatch = pristine.cargoPatchOf owner;
    in
    if pristine.sourceOf owner == null then throw "recipe `${name}` has no source to work on"
    else if lockPatch == null then base
    else derive.bashBuild {
      name = "${lib.storeName owner}-prepared";
      root = debian.root "base";
      script = "${./builder/prepare.sh}";
      environment = {
        cookbookCommon = "${./builder/common.sh}";
        cookbookSource = "${base}";
        cookbookPatches = [ "${lockPatch}" ];
      };
    };

  derivations = builtins.mapAttrs (name: _: derivationOf { inherit name; host = false; }) folders // overlaid.derivations;
  hostDerivations = builtins.mapAttrs (name: _: derivationOf { inherit name; host = true; }) folders;

  cook = { name, host }: suffix:
    let drv = builtins.seq (folderOf name) (if host then hostDerivations else derivations).${name};
    in
    if suffix == null then drv.out
    else drv.${suffix} or (throw "recipe `${name}` has no optional package `${suffix}`; it has: ${concatStringsSep ", " (outputsOf recipes.${name})}");

  # A package by its written name, e.g. `host:redoxfs` or `llvm21.dev`.
  package = text:
    let parts = parseName text;
    in cook { name = parts.recipe; host = parts.prefix == "host"; } parts.suffix;
in
{
  inherit (recipeSet) folders written recipes parseName runtimeClosure packageClosure lockable renewable templates summary graph isMeta;
  inherit (sources) fetches;
  inherit derivations hostDerivations package prepared workable recipeSet sources toolchain;
}

# A recipe tree in upstream's format → one derivation per recipe, lazily: a recipe that cannot be built is an
# error only when something wants it.
{ lib, derive, debian, rust, cargo, tree, lock, target, overrides ? { }, work ? { } }:

let
  inherit (builtins) concatMap concatStringsSep filter map;

  recipeSet = import ./recipes.nix { inherit lib tree; };
  pristine = import ./sources.nix { inherit lib derive cargo recipeSet lock overrides; };
  # A working copy is the source, with patches and all, as far as evaluation has to look into it.
  sources = if work == { } then pristine else import ./sources.nix {
    inherit lib derive cargo recipeSet lock;
    overrides = overrides // builtins.mapAttrs (_: copy: /. + copy.folder) work;
  };
  templates = import ./templates.nix { inherit lib; };
  inherit (recipeSet) folders recipes parseName folderOf outputsOf buildClosure;

  hostTarget = "x86_64-unknown-linux-gnu";

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
  # One relibc serves all: the package in the image is the library programs are linked with.
  libraryLayer = toolchain.libraryLayer derivations.relibc.out;
  hasLibrary = folders ? relibc && lib.hasPrefix "x86_64-" target;

  # The layers a target recipe's root has above Debian's packages.
  targetLayers = name:
    if rootNameOf recipes.${name} != "redox" || !hasLibrary || (builtins.elem name freestanding && name != "relibc") then [ ]
    else if name == "relibc" then [ toolchain.compilerRuntime ]
    else [ (rust.stdLayer target) libraryLayer toolchain.compilerRuntime ];

  # Packages that only carry the shared libraries of upstream's own gcc. Nothing here is linked with those.
  gccCarriers = [ "libgcc" "libstdcxx" ];
  gccNotice = name: "echo 'notice: `${name}` carries a shared library of gcc; everything is linked statically, so it is empty'\n";

  derivationOf = { name, host }:
    let
      recipe = builtins.seq (folderOf name) recipes.${name};
      text = if !host && builtins.elem name gccCarriers then gccNotice name else templates.script name recipe;
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
      # The globs that decide which optional package takes a file, one `name glob` a line, in order.
      claims = concatMap (optional: map (glob: "${optional.name} ${glob}") (optional.files or [ ])) (recipe.optional-packages or [ ]);
    in
    derive.bashBuild {
      name = "${if host then "host-" else ""}${lib.storeName name}";
      root = std ++ lib.optionals (!host) (targetLayers name) ++ debian.root (debianRootOf recipe host);
      script = "${./builder/cook.sh}";
      outputs = outputsOf recipe;
      environment = {
        cookbookPrelude = "${./builder/prelude.sh}";
        cookbookTools = "${./builder/tools.sh}";
        recipeName = name;
        recipeScript = text;
        TARGET = if host then hostTarget else target;
        COOKBOOK_HOST_TARGET = hostTarget;
        RUSTC_BOOTSTRAP = "1";
        sysroot = map stageOf (filter (part: part.host == host) closure);
      }
      // lib.optionalAttrs (!host && builtins.any (part: part.host) closure) { toolchain = map stageOf (filter (part: part.host) closure); }
      // lib.optionalAttrs (!host && rootNameOf recipe == "redox") { cookbookCompiler = "${./builder/cc.sh}"; }
      // lib.optionalAttrs (source != null) { source = "${source}"; }
      # The builder mounts the kept folders of that name; the contents are named so that a change is one.
      // lib.optionalAttrs (copy != null) { rednixWork = copy.key; rednixWorkContent = copy.content; }
      // sources.preparationOf name
      // lib.optionalAttrs (folder != null) { recipeFolder = "${folder}"; }
      // lib.optionalAttrs (claims != [ ]) { optionalFiles = concatStringsSep "\n" claims; }
      // lib.optionalAttrs (locks != [ ]) {
        cargoVendor = vendor;
        cargoConfig = cargo.config { inherit locks; directory = "/build/vendor"; };
      };
    };

  # The recipe whose source working on `name` means.
  workable = text:
    let parts = parseName text;
    in builtins.seq (folderOf parts.recipe) (recipeSet.sourceOwner parts.recipe);

  # A recipe's source as its build would find it, patched and scripted: what a working copy begins with.
  prepared = name:
    let
      owner = workable name;
      source = pristine.sourceOf owner;
      preparation = pristine.preparationOf owner;
      folder = pristine.recipeFolder owner;
      isScripted = preparation ? sourceScript;
    in
    if source == null then throw "recipe `${name}` has no source to work on"
    else derive.bashBuild {
      name = "${lib.storeName owner}-prepared";
      root = if isScripted then targetLayers owner ++ debian.root (rootNameOf recipes.${owner}) else debian.root "base";
      script = "${./builder/cook.sh}";
      environment = {
        cookbookPrelude = "${./builder/prelude.sh}";
        cookbookTools = "${./builder/tools.sh}";
        prepareOnly = "1";
        recipeName = owner;
        TARGET = target;
        COOKBOOK_HOST_TARGET = hostTarget;
        source = "${source}";
      }
      // preparation
      // lib.optionalAttrs isScripted { sysroot = map stageOf (filter (part: !part.host) (buildClosure false owner)); }
      // lib.optionalAttrs (isScripted && rootNameOf recipes.${owner} == "redox") { cookbookCompiler = "${./builder/cc.sh}"; }
      // lib.optionalAttrs (folder != null) { recipeFolder = "${folder}"; };
    };

  derivations = builtins.mapAttrs (name: _: derivationOf { inherit name; host = false; }) folders;
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
  inherit (recipeSet) folders recipes runtimeClosure lockable isMeta;
  inherit derivations hostDerivations package prepared workable;
}

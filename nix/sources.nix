# Where a recipe's source comes from: a folder, a git tree, a tar, another recipe's; and what Cargo needs with
# it. What upstream leaves floating comes from the lock. `overrides` maps a recipe to a folder used in its place.
{ lib, derive, debian, cargo, recipeSet, lock, overrides }:

let
  inherit (builtins) attrNames attrValues concatMap elem elemAt filter head map pathExists readDir;
  inherit (recipeSet) recipes folderOf sourceOwner;

  # -- sources ------------------------------------------------------------------------------------------

  ignored = [ ".git" "target" "source" "source.tar" "recipe.toml" ];
  # What git and cargo keep in a folder is no part of a source.
  keepSource = path: type:
    let name = baseNameOf path;
    in name != ".git" && !(name == "target" && type == "directory" && pathExists (path + "/CACHEDIR.TAG"));

  # A cargo package of a folder with several, and the packages it reaches by path: relative folders.
  pathClosure = root: start:
    let
      dependencies = folder:
        let
          manifest = lib.tomlOr { } (root + "/${folder}/Cargo.toml");
          tables = [ manifest ] ++ attrValues (manifest.target or { });
          entries = concatMap (t: attrValues ((t.dependencies or { }) // (t.build-dependencies or { }) // (t.dev-dependencies or { }))) tables;
          paths = concatMap (e: lib.optional (builtins.isAttrs e && e ? path) (lib.joinPath folder e.path)) entries;
        in
        filter (p: p != null) paths;
    in
    map (item: item.key) (builtins.genericClosure {
      startSet = [ { key = lib.joinPath "" start; } ];
      operator = item: map (key: { inherit key; }) (dependencies item.key);
    });

  # A `path` source. Where the recipe names a package of it (`cargopath`), only that package and what it
  # reaches by path, so that an edit next door rebuilds nothing here. Members of a workspace need all of it.
  pathSource = folder: recipe:
    let
      root = folder + "/${recipe.source.path}";
      package = if pathExists (root + "/Cargo.toml") then "." else recipe.build.cargopath or ".";
      whole = package == "." && !(recipe ? rednix.files);
      wanted = recipe.rednix.files or (pathClosure root package);
      prefix = toString root + "/";
      inside = path:
        let relative = lib.removePrefix prefix path;
        in builtins.any (w: relative == w || lib.hasPrefix "${w}/" relative || lib.hasPrefix "${relative}/" w) wanted;
    in
    if !(pathExists root) then throw "recipe `${baseNameOf (toString folder)}`: its source path `${recipe.source.path}` does not exist"
    else builtins.path {
      path = root;
      name = "source";
      filter = path: type: keepSource path type && (whole || inside path);
    };

  lockedSource = name: kind:
    let entry = lock.sources.${name} or (throw "the source of recipe `${name}` is not pinned; run `rednix lock`");
    in if entry.type == kind then entry
    else throw "recipe `${name}` has a ${kind} source, but the lock pins a ${entry.type}; run `rednix lock`";

  tarFile = name:
    let entry = lockedSource name "tar";
    in derive.fetchurl { name = lib.storeName "${name}-source.tar"; inherit (entry) url sha256; };

  unpackedTar = name: derive.builtinBuild "unpack" {
    name = "${lib.storeName name}-source";
    src = tarFile name;
    strip = 1;
  };

  gitTree = name:
    let entry = lockedSource name "git";
    in derive.fetchgit {
      name = "${lib.storeName name}-source";
      inherit (entry) url rev narHash;
      overrides = cargo.replacedSubmodules entry;
    };

  # Something else is locked in place of what the recipe says.
  isReplaced = name: (lock.sources.${name} or { }) ? override;

  # What is in its place is a folder, so somebody's work as it is; a file or another revision is still upstream's.
  isFolder = name: isReplaced name && (lock.overrides.${lock.sources.${name}.override} or { }).by or "" == "folder";

  # A recipe's source as upstream has it before any patch.
  pristine = owner:
    let
      folder = folderOf owner;
      recipe = recipes.${owner};
      source = recipe.source or { };
    in
    if overrides ? ${owner} then builtins.path { path = overrides.${owner}; name = "source"; filter = keepSource; }
    else if isReplaced owner then (if lock.sources.${owner}.type == "tar" then unpackedTar owner else gitTree owner)
    else if source ? path then pathSource folder recipe
    else if source ? git then gitTree owner
    else if source ? tar then unpackedTar owner
    else if pathExists (folder + "/source") then builtins.path { path = folder + "/source"; name = "source"; filter = keepSource; }
    else null;

  # The derivations, by path, of everything that is fetched for these packages and what they are built from: sources,
  # crates, git dependencies. Nothing of the build root.
  fetches = names:
    let
      recipeNames = lib.unique (map (part: part.recipe) (attrValues
        (if names == [ ] then builtins.mapAttrs (name: _: { recipe = name; }) (lib.filterAttrs (name: _: recipeSet.folders ? ${name}) lock.sources)
        else recipeSet.recipeClosure names)));
      owners = lib.unique (map sourceOwner recipeNames);
      sourceFetch = name:
        let source = recipes.${name}.source or { };
        in if overrides ? ${name} then [ ]
        else if isReplaced name then [ (if lock.sources.${name}.type == "tar" then tarFile name else gitTree name) ]
        else if source ? path then [ ]
        else if source ? git then [ (gitTree name) ]
        else lib.optional (source ? tar) (tarFile name);
      derivations = concatMap sourceFetch owners
        ++ cargo.fetches { locks = concatMap cargoLocks recipeNames; gitSources = lock.cargoGit or { }; };
    in
    lib.unique (map (drv: builtins.unsafeDiscardStringContext drv.drvPath) derivations);

  # Patches and the source script belong to the recipe that owns the source. A folder put in its place has them
  # already, or does without.
  preparation = owner:
    let source = recipes.${owner}.source or { };
    in
    if overrides ? ${owner} || isFolder owner then { patches = [ ]; script = null; }
    else {
      patches = map
        (patch:
          if pathExists (patchPath owner patch) then patch
          else throw "recipe `${owner}`: its patch `${patch}` does not exist")
        (source.patches or [ ]);
      script = source.script or null;
    };

  # An overlay may name a patch by its path.
  patchPath = owner: patch: if builtins.isPath patch then patch else folderOf owner + "/${patch}";

  # Each patch alone, so that another file beside it changes nothing here.
  patchFile = owner: patch: builtins.path {
    path = patchPath owner patch;
    name = lib.storeName (baseNameOf patch);
  };

  # Patching and the source script happen once for all who use the source, whatever they are built for: a patch
  # that changes nothing stops there.
  prepared = owner:
    let
      inherit (preparation owner) patches script;
      source = pristine owner;
    in
    derive.bashBuild {
      name = "${lib.storeName owner}-prepared";
      root = debian.root (recipes.${owner}.rednix.root or (if script == null then "base" else "redox"));
      script = "${./builder/prepare.sh}";
      environment = {
        cookbookCommon = "${./builder/common.sh}";
        cookbookPatches = map (patch: "${patchFile owner patch}") patches;
      }
      // lib.optionalAttrs (source != null) { cookbookSource = "${source}"; }
      // lib.optionalAttrs (script != null) {
        cookbookShared = "${./builder/shared.sh}";
        cookbookSourceScript = script;
      };
    };

  sourceOf = name:
    let
      owner = sourceOwner name;
      inherit (preparation owner) patches script;
    in
    if patches == [ ] && script == null then pristine owner else prepared owner;

  # Files that patches change, where no script ran after them: whatever was made from them is older now.
  patchedFiles = name:
    let
      owner = sourceOwner name;
      inherit (preparation owner) patches script;
      headers = patch: builtins.tail (filter builtins.isString
        (builtins.split "(^|\n)[+][+][+] " (builtins.readFile (patchPath owner patch))));
      # `b/path<tab>time` without the first folder.
      path = header: builtins.match "[^/]*/(.*)" (head (builtins.split "[\t\r\n]" header));
    in
    lib.optionals (script == null)
      (lib.unique (concatMap (header: let found = path header; in lib.optionals (found != null) found) (concatMap headers patches)));

  # -- cargo --------------------------------------------------------------------------------------------

  # The Cargo.lock files of a source: read where the source lies here, else as the lock recorded them.
  cargoLocks = name:
    let
      owner = sourceOwner name;
      recipe = recipes.${owner};
      local =
        if overrides ? ${owner} then overrides.${owner}
        else if recipe ? source.path && !(isReplaced owner) then folderOf owner + "/${recipe.source.path}"
        else null;
      package = recipes.${name}.build.cargopath or ".";
      file = p: local + "/${p}/Cargo.lock";
      read = p: cargo.readLock (file p) // { file = lib.joinPath p "Cargo.lock"; };
      # A folder in a source's place may be a whole tree of packages, as the lock would find them.
      found = filter (p: pathExists (file p))
        (if overrides ? ${owner} then foldersBelow 3 local "." else lib.unique [ package "." ]);
      locked = (lock.sources.${owner} or { }).cargo or { };
      # A folder's own files are as they are now, unless an override changed what they ask for.
      isChanged = builtins.any (entry: entry ? patch) (attrValues locked) && !(overrides ? ${owner});
      entries = builtins.mapAttrs (file: entry: { inherit file; crates = map lib.crateOfTriple entry.crates; git = entry.git or [ ]; }) locked;
    in
    if local == null || isChanged then attrValues entries
    else if overrides ? ${owner} then map read found
    else lib.optionals (found != [ ]) [ (read (head found)) ];

  # A folder and those below it down to a depth, as paths relative to `root`.
  foldersBelow = depth: root: folder:
    let
      entries = readDir (root + "/${folder}");
      children = filter (n: entries.${n} == "directory" && !(elem n [ ".git" "target" ])) (attrNames entries);
    in
    [ folder ] ++ lib.optionals (depth > 0) (concatMap (n: foldersBelow (depth - 1) root "${folder}/${n}") children);

  # What changes the source's Cargo.lock files to those the lock was made with; null where nothing does.
  cargoPatchOf = name:
    let
      owner = sourceOwner name;
      patches = concatMap (entry: lib.optional (entry ? patch) entry.patch) (attrValues ((lock.sources.${owner} or { }).cargo or { }));
    in
    if overrides ? ${owner} || patches == [ ] then null
    else builtins.toFile "cargo-lock.patch" (builtins.concatStringsSep "" patches);

  # Targets that the source's own rust-toolchain.toml asks for.
  wantedTargets = name:
    let
      owner = sourceOwner name;
      recipe = recipes.${owner};
      package = recipes.${name}.build.cargopath or ".";
      local = folderOf owner + "/${recipe.source.path}/${package}/rust-toolchain.toml";
    in
    if recipe ? source.path && !(isReplaced owner) then (lib.tomlOr { } local).toolchain.targets or [ ]
    else (lock.sources.${owner} or { }).rustTargets or [ ];

  # The files beside a recipe.toml, which scripts may use; null where there are none. Patches are none of them:
  # they reach a build through its source.
  recipeFolder = name:
    let
      folder = folderOf name;
      patches = map (patch: toString (patchPath name patch)) (recipes.${name}.source.patches or [ ]);
      wanted = path: !(elem (baseNameOf path) ignored) && !(elem (toString path) patches);
      others = filter (entry: wanted (folder + "/${entry}")) (attrNames (readDir folder));
    in
    if others == [ ] || recipes.${name} ? rednix.files then null else builtins.path {
      path = folder;
      name = "recipe";
      filter = path: type: wanted path;
    };

in
{
  inherit sourceOf prepared patchedFiles cargoLocks cargoPatchOf wantedTargets recipeFolder fetches;
}

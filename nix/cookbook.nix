# A recipe tree in upstream's format → one derivation per recipe.
#
# Reads every recipe.toml below `recipes/` as it is: keys nobody knows are ignored, a recipe that cannot be
# built is an error only when something wants it. What upstream leaves floating comes from the lock.
{ lib, derive, debian, rust, cargo, tree, lock, target, overrides ? { } }:

let
  inherit (builtins)
    attrNames attrValues concatLists concatMap concatStringsSep elem elemAt filter fromTOML head length
    listToAttrs map match pathExists readDir readFile toJSON;

  hostTarget = "x86_64-unknown-linux-gnu";

  # Every folder with a recipe.toml, however deep, is a recipe named after its folder.
  walk = folder:
    let entries = readDir folder;
    in
    if entries ? "recipe.toml" then [ (lib.nameValue (baseNameOf (toString folder)) folder) ]
    else concatMap (name: lib.optionals (entries.${name} == "directory") (walk (folder + "/${name}"))) (attrNames entries);
  folders = listToAttrs (walk (tree + "/recipes"));

  # `host:NAME.suffix` → its parts.
  parseName = text:
    let
      parts = match "((host|target):)?([^:/.]+)(\\.([^./]+))?" text;
    in
    if parts == null then throw "`${text}` is no package name; a name is `[host:|target:]RECIPE[.SUFFIX]`"
    else {
      prefix = elemAt parts 1;
      recipe = elemAt parts 2;
      suffix = elemAt parts 4;
    };

  nearest = name: let close = filter (other: lib.hasPrefix (builtins.substring 0 3 name) other) (attrNames folders); in
    if close == [ ] then "" else "; near it are: ${concatStringsSep ", " (lib.unique close)}";

  folderOf = name: folders.${name} or (throw
    "no recipe is named `${name}` in ${toString tree}/recipes${nearest name}");

  recipes = builtins.mapAttrs
    (_: folder: builtins.addErrorContext "while reading ${toString folder}/recipe.toml" (fromTOML (readFile (folder + "/recipe.toml"))))
    folders;

  # -- sources ------------------------------------------------------------------------------------------

  ignored = [ ".git" "target" "source" "source.tar" "recipe.toml" ];
  keepSource = path: type: !(elem (baseNameOf path) [ ".git" "target" ]);

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
  # reaches by path, so that an edit next door rebuilds nothing here.
  pathSource = folder: recipe:
    let
      root = folder + "/${recipe.source.path}";
      package = recipe.build.cargopath or ".";
      wanted = pathClosure root package;
      prefix = toString root + "/";
      inside = path:
        let relative = lib.removePrefix prefix path;
        in builtins.any (w: relative == w || lib.hasPrefix "${w}/" relative || lib.hasPrefix "${relative}/" w) wanted;
    in
    if !(pathExists root) then throw "recipe `${baseNameOf (toString folder)}`: its source path `${recipe.source.path}` does not exist"
    else builtins.path {
      path = root;
      name = "source";
      filter = path: type: keepSource path type && (package == "." || inside path);
    };

  lockedSource = name: kind:
    let entry = lock.sources.${name} or (throw "the source of recipe `${name}` is not pinned; run `rednix lock`");
    in if entry.type == kind then entry
    else throw "recipe `${name}` has a ${kind} source, but the lock pins a ${entry.type}; run `rednix lock`";

  unpackedTar = name:
    let
      entry = lockedSource name "tar";
    in
    derive.builtinBuild "unpack" {
      name = "${lib.storeName name}-source";
      src = derive.fetchurl { name = lib.storeName "${name}-source.tar"; inherit (entry) url sha256; };
      strip = 1;
    };

  gitTree = name:
    let entry = lockedSource name "git";
    in derive.fetchgit {
      name = "${lib.storeName name}-source";
      inherit (entry) url rev narHash;
      submodules = true;
    };

  # The recipe whose source this one uses: itself, or what `same_as` leads to.
  sourceOwner = name:
    let recipe = recipes.${name};
    in if recipe ? source.same_as then sourceOwner (baseNameOf recipe.source.same_as) else name;

  sourceOf = name:
    let
      owner = sourceOwner name;
      folder = folderOf owner;
      recipe = recipes.${owner};
      source = recipe.source or { };
    in
    if overrides ? ${owner} then builtins.path { path = overrides.${owner}; name = "source"; filter = keepSource; }
    else if source ? path then pathSource folder recipe
    else if source ? git then gitTree owner
    else if source ? tar then unpackedTar owner
    else if pathExists (folder + "/source") then builtins.path { path = folder + "/source"; name = "source"; filter = keepSource; }
    else null;

  # Patches and the source script belong to the recipe that owns the source. A folder put in its place has them
  # already, or does without.
  preparationOf = name:
    let
      owner = sourceOwner name;
      source = recipes.${owner}.source or { };
      patches = source.patches or [ ];
      folder = recipeFolder owner;
    in
    lib.optionalAttrs (!(overrides ? ${owner}))
      (lib.optionalAttrs (patches != [ ]) {
        sourcePatches = map
          (patch:
            if pathExists (folderOf owner + "/${patch}") then "${folder}/${patch}"
            else throw "recipe `${owner}`: its patch `${patch}` does not exist")
          patches;
      } // lib.optionalAttrs (source ? script) { sourceScript = source.script; });

  # -- cargo --------------------------------------------------------------------------------------------

  # The Cargo.lock files of a source: read where the source lies here, else as the lock recorded them.
  cargoLocks = name:
    let
      owner = sourceOwner name;
      recipe = recipes.${owner};
      local =
        if overrides ? ${owner} then overrides.${owner}
        else if recipe ? source.path then folderOf owner + "/${recipe.source.path}"
        else null;
      package = recipes.${name}.build.cargopath or ".";
      file = p: local + "/${p}/Cargo.lock";
      found = filter (p: pathExists (file p)) (lib.unique [ package "." ]);
      entries = builtins.mapAttrs (_: entry: { crates = map expand entry.crates; git = entry.git or [ ]; })
        ((lock.sources.${owner} or { }).cargo or { });
      expand = triple: { name = elemAt triple 0; version = elemAt triple 1; checksum = elemAt triple 2; };
    in
    if local != null then lib.optionals (found != [ ]) [ (cargo.readLock (file (head found))) ]
    else attrValues entries;

  # Targets that the source's own rust-toolchain.toml asks for.
  wantedTargets = name:
    let
      owner = sourceOwner name;
      recipe = recipes.${owner};
      package = recipes.${name}.build.cargopath or ".";
      local = folderOf owner + "/${recipe.source.path}/${package}/rust-toolchain.toml";
    in
    if recipe ? source.path then (lib.tomlOr { } local).toolchain.targets or [ ]
    else (lock.sources.${owner} or { }).rustTargets or [ ];

  # -- dependencies -------------------------------------------------------------------------------------

  # What building `name` needs below its first level: `dependencies` only, as upstream follows them.
  buildNames = isHost: name: dev:
    let
      build = recipes.${name}.build or { };
      declared = (build.dependencies or [ ]) ++ lib.optionals dev (build.dev-dependencies or [ ]);
      # A host build turns its dependencies into host ones, drops `target:` ones and itself.
      turn = text:
        let parts = parseName text;
        in
        if !isHost then lib.optional true (parts // { host = parts.prefix == "host"; })
        else if parts.prefix == "target" || (parts.prefix == "host" && parts.recipe == name) then [ ]
        else [ (parts // { host = true; }) ];
    in
    concatMap turn declared;

  keyOf = part: "${if part.host then "host:" else ""}${part.recipe}${if part.suffix == null then "" else ".${part.suffix}"}";

  buildClosure = isHost: name:
    let
      items = parts: map (part: { key = keyOf part; inherit part; }) parts;
    in
    map (item: item.part) (builtins.sort (a: b: a.key < b.key) (builtins.genericClosure {
      startSet = items (buildNames isHost name true);
      operator = item: items (buildNames item.part.host item.part.recipe false);
    }));

  stageOf = part: cook { name = part.recipe; host = part.host; } part.suffix;

  # -- the derivation -----------------------------------------------------------------------------------

  templates = {
    none = recipe: null;
    custom = recipe: recipe.build.script or "";
    cargo = recipe:
      let
        build = recipe.build;
        array = name: values: lib.optionalString (values != [ ]) "${name}+=(${concatStringsSep " " (map (v: "\"${v}\"") values)})";
        packages = build.cargopackages or [ ];
        examples = build.cargoexamples or [ ];
      in
      concatStringsSep "\n" (filter (line: line != "") [
        "DYNAMIC_INIT"
        (lib.optionalString (build.clearlocked or false) "COOKBOOK_CARGO_FLAGS=()")
        (array "COOKBOOK_CARGO_FLAGS" (build.cargoflags or [ ]))
        (lib.optionalString (build ? cargopath) "COOKBOOK_CARGO_PATH=\"${build.cargopath}\"")
        (if packages == [ ] && examples == [ ] then "cookbook_cargo" else "")
        (lib.optionalString (packages != [ ])
          "${if build.cargopackagesprefixed or false then "cookbook_cargo_packages_prefixed" else "cookbook_cargo_packages"} ${concatStringsSep " " packages}")
        (lib.optionalString (examples != [ ]) "cookbook_cargo_examples ${concatStringsSep " " examples}")
        ""
      ]);
  };

  templateText = name: recipe:
    let kind = recipe.build.template or "none";
    in (templates.${kind} or (throw
      "recipe `${name}` has template `${kind}`, which this cookbook cannot build; it knows: ${concatStringsSep ", " (attrNames templates)}")) recipe;

  recipeFolder = name:
    let
      folder = folderOf name;
      others = filter (entry: !(elem entry ignored)) (attrNames (readDir folder));
    in
    if others == [ ] then null else builtins.path {
      path = folder;
      name = "recipe";
      filter = path: type: !(elem (baseNameOf path) ignored);
    };

  # The build root. A recipe may ask for a smaller one than the cookbook's own (`[rednix] root = "rust"`).
  rootNameOf = recipe: recipe.rednix.root or "redox";

  outputsOf = recipe: [ "out" ] ++ map (optional: optional.name) (recipe.optional-packages or [ ]);

  derivationOf = { name, host }:
    let
      recipe = builtins.seq (folderOf name) recipes.${name};
      text = templateText name recipe;
      source = sourceOf name;
      locks = cargoLocks name;
      # Kernels and loaders build the standard library themselves, from the toolchain's source.
      buildsStd = !host && !(recipe ? source.path);
      vendor = cargo.vendor {
        inherit locks;
        gitSources = lock.cargoGit or { };
        merge = lib.optional buildsStd rust.stdVendor;
      };
      closure = buildClosure host name;
      folder = recipeFolder name;
      std = filter (layer: layer != null) (map rust.stdLayer (wantedTargets name));
      # The globs that decide which optional package takes a file, one `name glob` a line, in order.
      claims = concatMap (optional: map (glob: "${optional.name} ${glob}") (optional.files or [ ])) (recipe.optional-packages or [ ]);
    in
    derive.bashBuild {
      name = "${if host then "host-" else ""}${lib.storeName name}";
      root = std ++ debian.root (rootNameOf recipe);
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
      // lib.optionalAttrs (source != null) { source = "${source}"; }
      // preparationOf name
      // lib.optionalAttrs (folder != null) { recipeFolder = "${folder}"; }
      // lib.optionalAttrs (claims != [ ]) { optionalFiles = concatStringsSep "\n" claims; }
      // lib.optionalAttrs (locks != [ ]) {
        cargoVendor = vendor;
        cargoConfig = cargo.config { inherit locks; directory = "/build/vendor"; };
      };
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

  # -- runtime closure ----------------------------------------------------------------------------------

  runtimeDependencies = text:
    let
      parts = parseName text;
      recipe = builtins.seq (folderOf parts.recipe) recipes.${parts.recipe};
      optional = filter (o: o.name == parts.suffix) (recipe.optional-packages or [ ]);
      own = d: if lib.hasPrefix "." d then "${parts.recipe}${d}" else d;
    in
    if parts.suffix == null then recipe.package.dependencies or [ ]
    else [ parts.recipe ] ++ map own (concatMap (o: o.dependencies or [ ]) optional);

  # The listed packages and everything they need at run time, sorted by name.
  runtimeClosure = names: builtins.sort (a: b: a < b) (map (item: item.key) (builtins.genericClosure {
    startSet = map (key: { inherit key; }) names;
    operator = item: map (key: { inherit key; }) (runtimeDependencies item.key);
  }));

  # The parsed recipes whose sources `rednix lock NAMES` pins: the named ones with what they are built from,
  # or all of the tree.
  lockable = names:
    let
      hosts = name: let parts = parseName name; in parts // { host = parts.prefix == "host"; };
      items = parts: map (part: { key = keyOf part; inherit part; }) parts;
      closure = builtins.genericClosure {
        startSet = items (map hosts (runtimeClosure names));
        operator = item: items (buildNames item.part.host item.part.recipe true);
      };
      wanted = if names == [ ] then attrNames folders else lib.unique (map (item: sourceOwner item.part.recipe) closure);
    in
    lib.genAttrs wanted (name: { source = (builtins.seq (folderOf name) recipes.${name}).source or { }; });
in
{
  inherit folders recipes derivations hostDerivations package runtimeClosure lockable;
  # Meta packages have no template and no archive.
  isMeta = name: (recipes.${(parseName name).recipe}.build.template or "none") == "none";
}

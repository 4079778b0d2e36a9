# A system: a configuration in upstream's format, its packages, and the image made of them. What needs to look into
# built packages (the runtime closure, the loaders) is done by the image's builder; here it gets the candidates.
{ lib, derive, cookbook, tree, lock, arch }:

let
  inherit (builtins) attrNames concatMap filter foldl' fromTOML map pathExists readFile;
  inherit (cookbook) recipeSet sources;

  # -- configuration: include and merge rules -------------------------------------------------------------

  # Later files win: `general` by field (`prompt` never), packages, users and groups by key, files append.
  merge = base: over: base // over // {
    general = (base.general or { }) // (removeAttrs (over.general or { }) [ "prompt" ])
      // lib.optionalAttrs (!(base ? general) && over ? general.prompt) { inherit (over.general) prompt; };
    packages = (base.packages or { }) // (over.packages or { });
    users = (base.users or { }) // (over.users or { });
    groups = (base.groups or { }) // (over.groups or { });
    files = (base.files or [ ]) ++ (over.files or [ ]);
  };

  # `chain` holds the files that led here, to name a circle instead of running in it.
  load = chain: file:
    let
      name = toString file;
      own = if pathExists file then fromTOML (readFile file) else throw "the configuration ${name} does not exist${from chain}";
      included = map (relative: load (chain ++ [ name ]) (dirOf file + "/${relative}")) (own.include or [ ]);
      parts = included ++ [ (removeAttrs own [ "include" ]) ];
    in
    if builtins.elem name chain then throw "the configuration ${name} includes itself${from chain}"
    else foldl' merge { } parts;
  from = chain: if chain == [ ] then "" else "; it is included by ${lib.last chain}";

  # `config/<arch>/NAME.toml` goes before `config/NAME.toml`. `BOARD/NAME` is `config/<arch>/BOARD/NAME.toml`.
  file = name:
    let
      boards = builtins.match "[^/]+/[^/]+" name != null;
      candidates = [ (tree + "/config/${arch}/${name}.toml") ] ++ lib.optional (!boards) (tree + "/config/${name}.toml");
      found = filter pathExists candidates;
    in
    if found != [ ] then builtins.head found
    else throw "no system is named `${name}`; the tree has: ${builtins.concatStringsSep ", " names}";

  names =
    let
      entries = folder: if pathExists folder then builtins.readDir folder else { };
      ofKind = kind: folder: filter (n: (entries folder).${n} == kind) (attrNames (entries folder));
      stems = folder: map (n: builtins.substring 0 (builtins.stringLength n - 5) n) (filter (lib.hasSuffix ".toml") (ofKind "regular" folder));
      own = tree + "/config/${arch}";
      boards = concatMap (board: map (n: "${board}/${n}") (stems (own + "/${board}"))) (ofKind "directory" own);
    in
    lib.unique (stems (tree + "/config") ++ stems own ++ boards);

  # -- packages ---------------------------------------------------------------------------------------------

  rules = [ "source" "local" "binary" "ignore" ];
  ruleOf = name: value:
    if !(builtins.isString value) then "source"
    else if builtins.elem value rules then value
    else throw "package `${name}` has the rule `${value}`; a rule is one of ${builtins.concatStringsSep ", " rules}";

  # The names, without those for the build machine, that a recipe declares to be built with.
  builtWith = recipe: key: concatMap
    (text:
      let part = recipeSet.parseName text;
      in lib.optional (part.prefix != "host") "${part.recipe}${if part.suffix == null then "" else ".${part.suffix}"}")
    (recipe.build.${key} or [ ]);

  # Everything that packages of these names may need at run time: what they declare, and what they and their
  # build dependencies are built with, as `builtin:rednix-image` takes it. `ignored` ones have no files.
  candidates = names: ignored:
    let
      entry = name:
        let
          part = recipeSet.parseName name;
          recipe = builtins.seq (recipeSet.folderOf part.recipe) recipeSet.recipes.${part.recipe};
          main = part.suffix == null;
        in
        {
          inherit name;
          dependencies = recipeSet.runtimeDependencies name;
        } // lib.optionalAttrs main {
          buildDependencies = builtWith recipe "dependencies";
          devDependencies = builtWith recipe "dev-dependencies";
        } // lib.optionalAttrs (!(recipeSet.isMeta name) && !(builtins.elem name ignored)) ({
          path = cookbook.package name;
        } // lib.optionalAttrs (main && recipe ? optional-packages) {
          stages = map (output: cookbook.package (if output == "out" then name else "${name}.${output}")) (recipeSet.outputsOf recipe);
        });
      reach = item: map (key: { inherit key; })
        (item.entry.dependencies ++ item.entry.buildDependencies or [ ] ++ item.entry.devDependencies or [ ]
          ++ lib.optional (!(item.entry ? buildDependencies)) (recipeSet.parseName item.key).recipe);
      closure = builtins.genericClosure {
        startSet = map (key: { inherit key; entry = entry key; }) names;
        operator = item: map (next: next // { entry = entry next.key; }) (reach item);
      };
    in
    builtins.sort (a: b: a.name < b.name) (map (item: item.entry) closure);

  configuration = name: load [ ] (file name);
  system = name: assemble name (configuration name);

  # A merged configuration → its packages and image.
  assemble = name: config:
    let
      packages = builtins.mapAttrs ruleOf (config.packages or { });
      listed = filter (p: packages.${p} != "ignore") (attrNames packages);
      ignored = filter (p: packages.${p} == "ignore") (attrNames packages);
      extension = config.rednix or { };
      loader = extension.loader or "bootloader";
      additions = lib.optionals (extension.virtio or false)
        (import ./virtio.nix { drivers = cookbook.package "virtio-drivers"; });
      initfs = if extension ? initfs then derive.builtinBuild "initfs" {
        name = "initfs";
        format = extension.initfs.format or "current";
        entries = map (path: { inherit path; text = extension.initfs.files.${path}; }) (attrNames (extension.initfs.files or { }));
      } else null;
    in
    {
      inherit name config listed ignored;
      packages = cookbook.runtimeClosure listed;
      # What a machine for it has to be, as far as the target says; a configuration may say otherwise.
      machine = lib.optionalAttrs (arch != "x86_64") { architecture = if arch == "riscv64gc" then "riscv64" else arch; }
        // lib.optionalAttrs (arch == "i586") { firmware = "bios"; };
      # What the image is made with and does not install.
      tools = lib.optional (additions != [ ]) "virtio-drivers";
      image = derive.builtinBuild "image" ({
        name = "${lib.storeName name}-image";
        formatVersion = if additions == [ ] then 2 else 3;
        configName = name;
        architecture = arch;
        config = removeAttrs config [ "rednix" ];
        packages = candidates listed ignored;
        inherit listed initfs;
        loader = if recipeSet.folders ? ${loader} then cookbook.package loader else null;
        bios = extension.bios or true;
      } // lib.optionalAttrs (additions != [ ]) { initfsAdditions = additions; });
    };

  # -- repositories -----------------------------------------------------------------------------------------

  # What `rednix repo NAMES` publishes: a system stands for what it lists, and a recipe is published whole.
  # `data` has no paths. The packages with files are `outputs`, in the order of `names`; sources that have to be
  # looked into for a version are `sources`, in the order of `sourceNames`.
  repository = wanted:
    let
      expand = name: if builtins.elem name names then (system name).listed else [ name ];
      listed = lib.unique (concatMap expand wanted);
      partOf = entry: recipeSet.parseName entry.name;
      packagesOf = recipe: map (output: if output == "out" then recipe else "${recipe}.${output}") (recipeSet.outputsOf recipeSet.recipes.${recipe});
      whole = concatMap (entry: packagesOf (partOf entry).recipe) (candidates listed [ ]);
      entries = candidates (lib.unique (listed ++ whole)) [ ];
      hasVersion = text: builtins.match ".*[0-9][.][0-9].*" text != null;
      describe = entry:
        let
          part = partOf entry;
          recipe = recipeSet.recipes.${part.recipe};
          own = recipe.source or { };
          pin = lock.sources.${recipeSet.sourceOwner part.recipe} or { };
          texts = filter builtins.isString [ (own.tar or null) (own.rev or null) (own.branch or null) ];
          source = sources.sourceOf part.recipe;
        in
        removeAttrs entry [ "path" "stages" ] // {
          inherit texts;
          meta = recipeSet.isMeta entry.name;
          packages = lib.optionals (part.suffix == null) (packagesOf part.recipe);
          source = pin.rev or (own.blake3 or (pin.sha256 or ""));
        } // (if recipe ? package.version then { version = toString recipe.package.version; }
          else lib.optionalAttrs (entry ? path && !(builtins.any hasVersion texts) && source != null) { sourceTree = source; });
      described = map describe entries;
      files = filter (entry: entry ? path) entries;
      looked = filter (entry: builtins.isAttrs (entry.sourceTree or null)) described;
    in
    {
      data = {
        inherit listed;
        packages = map
          (entry: removeAttrs entry [ "sourceTree" ]
            // lib.optionalAttrs (builtins.isString (entry.sourceTree or null)) { sourcePath = builtins.unsafeDiscardStringContext entry.sourceTree; })
          described;
        names = map (entry: entry.name) files;
        sourceNames = map (entry: entry.name) looked;
      };
      outputs = map (entry: entry.path) files;
      sources = map (entry: entry.sourceTree) looked;
    };
in
{
  inherit names merge configuration assemble;
  load = load [ ];
  fileOf = file;
  systems = lib.genAttrs names system;
  get = system;
  inherit repository;
}

# The recipe tree as data: every recipe.toml below `recipes/` as it is. Names, dependencies and closures; nothing
# here builds. Keys nobody knows are ignored; a recipe that cannot be read is an error only when something wants it.
{ lib, tree }:

let
  inherit (builtins)
    attrNames attrValues concatMap concatStringsSep elem elemAt filter fromTOML listToAttrs map match readDir readFile;

  # Every folder with a recipe.toml, however deep, is a recipe named after its folder.
  walk = folder:
    let entries = readDir folder;
    in
    if entries ? "recipe.toml" then [ (lib.nameValue (baseNameOf (toString folder)) folder) ]
    else concatMap (name: lib.optionals (entries.${name} == "directory") (walk (folder + "/${name}"))) (attrNames entries);
  walked = listToAttrs (walk (tree + "/recipes"));
  folders = walked // builtins.mapAttrs (_: _: tree) own;

  # The tree's own crate, upstream's cookbook, as a tool for the build machine: a recipe nobody had to write. Its unit
  # tests run while it is built.
  own = lib.optionalAttrs (builtins.pathExists (tree + "/Cargo.toml") && !(walked ? cookbook)) {
    cookbook = {
      source.path = ".";
      build = { template = "custom"; script = "if [ \"$TARGET\" = \"$COOKBOOK_HOST_TARGET\" ]; then cookbook_cargo_test; fi\ncookbook_cargo\n"; };
      # All the tree is below it; these are the crate.
      rednix.files = [ ".cargo" "Cargo.lock" "Cargo.toml" "benches" "build.rs" "examples" "src" "tests" ];
    };
  };

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
    (name: folder: own.${name} or (builtins.addErrorContext "while reading ${toString folder}/recipe.toml" (fromTOML (readFile (folder + "/recipe.toml")))))
    folders;

  # The recipe whose source this one uses: itself, or what `same_as` leads to.
  sourceOwner = name:
    let
      follow = chain:
        let
          last = lib.last chain;
          recipe = builtins.seq (folderOf last) recipes.${last};
          next = baseNameOf recipe.source.same_as;
        in
        if !(recipe ? source.same_as) then last
        else if elem next chain then throw "the source of recipe `${name}` is its own: ${concatStringsSep " → " (chain ++ [ next ])}"
        else follow (chain ++ [ next ]);
    in
    follow [ name ];

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

  # What building `name` needs, each with the chain that leads to it. `dev` also follows dev-dependencies below the
  # first level: not what a sysroot holds, but what has to be built before.
  reached = dev: isHost: name:
    let
      items = chain: parts: map (part: rec { key = keyOf part; inherit part; chain' = chain ++ [ key ]; }) parts;
    in
    builtins.genericClosure {
      startSet = items [ (keyOf { host = isHost; recipe = name; suffix = null; }) ] (buildNames isHost name true);
      operator = item: items item.chain' (buildNames item.part.host item.part.recipe dev);
    };

  # Upstream gives up where dependencies go deeper than this.
  depthMax = 16;

  buildClosure = isHost: name:
    let
      circle = filter (item: item.part.host == isHost && item.part.recipe == name) (reached true isHost name);
      closure = reached false isHost name;
      deep = filter (item: builtins.length item.chain' > depthMax + 1) closure;
      arrows = item: concatStringsSep " → " item.chain';
    in
    if circle != [ ] then throw "recipe `${name}` is built from itself: ${arrows (builtins.head circle)}; take one of these dependencies out"
    else if deep != [ ] then throw "recipe `${name}` has build dependencies more than ${toString depthMax} deep: ${arrows (builtins.head deep)}"
    else map (item: item.part) (builtins.sort (a: b: a.key < b.key) closure);

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
  # Recipes that are in no file of the tree.
  written = attrNames own;
  inherit folders recipes parseName folderOf sourceOwner buildNames buildClosure runtimeDependencies runtimeClosure lockable;
  # Meta packages have no template and no archive.
  isMeta = name: (recipes.${(parseName name).recipe}.build.template or "none") == "none";
  # The outputs of a recipe's derivation: its main package, then the optional ones.
  outputsOf = recipe: [ "out" ] ++ map (optional: optional.name) (recipe.optional-packages or [ ]);
}

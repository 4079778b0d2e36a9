# The recipe tree as data: every recipe.toml below `recipes/` as it is. Names, dependencies and closures; nothing
# here builds. Keys nobody knows are ignored; a recipe that cannot be read is an error only when something wants it.
#
#   provided    recipe name → folder with a recipe.toml that is there whatever the tree is; the tree's own goes before
{ lib, tree, overlay ? (set: set), provided ? { } }:

let
  inherit (builtins)
    attrNames attrValues concatMap concatStringsSep elem elemAt filter fromTOML head isString length listToAttrs map match
    mapAttrs pathExists readDir readFile sort substring stringLength;

  # -- the walk -----------------------------------------------------------------------------------------

  # One line of a .gitignore → what it matches, as far as folders go: { regex, whole, negated } or null. Patterns
  # with a slash before their end are matched from the file's own folder, others against the name alone.
  ignoreRule = line:
    let
      negated = lib.hasPrefix "!" line;
      bare = lib.removePrefix "!" line;
      trimmed = let parts = match "(.*[^[:space:]])[[:space:]]*" bare; in if parts == null then "" else head parts;
      open = let parts = match "(.*)/" trimmed; in if parts == null then trimmed else head parts;
      pattern = let rest = match "\\*\\*/([^/]*)" open; in if rest == null then open else head rest;
      whole = match ".*/.*" pattern != null;
      pieces = builtins.split "(\\*\\*/|/\\*\\*|\\*|\\?)" (lib.removePrefix "/" pattern);
      translate = piece:
        if isString piece then lib.escapeRegex piece
        else { "**/" = "(.*/)?"; "/**" = "/.*"; "*" = "[^/]*"; "?" = "[^/]"; }.${head piece};
    in
    if trimmed == "" || lib.hasPrefix "#" line then null
    else { inherit negated whole; regex = concatStringsSep "" (map translate pieces); };

  # Whether a .gitignore leaves out a folder: by its path below the file and by its name.
  ignoreTest = file:
    let
      rules = filter (rule: rule != null) (map ignoreRule (lib.lines (readFile file)));
      test = negated: whole:
        let regexes = map (rule: rule.regex) (filter (rule: rule.negated == negated && rule.whole == whole) rules);
        in if regexes == [ ] then (_: false) else (let one = concatStringsSep "|" regexes; in text: match one text != null);
      out = test false true;
      outName = test false false;
      back = test true true;
      backName = test true false;
    in
    relative: name: (out relative || outName name) && !(back relative || backName name);

  # Every folder with a recipe.toml, however deep, is a recipe named after its folder. What git ignores is none.
  walk = ignores: folder: relative:
    let
      entries = readDir folder;
      tests = if entries ? ".gitignore" then ignores ++ [ { base = relative; leavesOut = ignoreTest (folder + "/.gitignore"); } ] else ignores;
      below = base: path: if base == "" then path else substring (stringLength base + 1) (-1) path;
      step = name:
        let path = if relative == "" then name else "${relative}/${name}";
        in lib.optionals
          (entries.${name} == "directory" && name != ".git"
            && !(builtins.any (test: test.leavesOut (below test.base path) name) tests))
          (walk tests (folder + "/${name}") path);
    in
    if entries ? "recipe.toml" then [ (lib.nameValue (baseNameOf relative) folder) ]
    else concatMap step (attrNames entries);

  found =
    let
      root = tree + "/.gitignore";
      above = lib.optional (pathExists root) { base = ""; leavesOut = ignoreTest root; };
    in
    walk above (tree + "/recipes") "recipes";
  # Of two folders with one name the last one counts.
  walked = listToAttrs (lib.reverse found);
  all = provided // walked // mapAttrs (_: _: tree) own;
  # What is not the tree's is not listed and not locked with it.
  foreign = filter (name: !(walked ? ${name})) (attrNames provided);
  listed = removeAttrs folders foreign;

  # The crate at the tree's root, upstream's cookbook, as a tool for the build machine: a recipe nobody had to write,
  # named as its package (`host:redox_cookbook`). Its unit tests run while it is built.
  crate = (lib.tomlOr { } (tree + "/Cargo.toml")).package.name or null;
  own = lib.optionalAttrs (crate != null && !(walked ? ${crate})) {
    ${crate} = {
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

  read = name: folder: own.${name} or (builtins.addErrorContext "while reading ${toString folder}/recipe.toml" (fromTOML (readFile (folder + "/recipe.toml"))));
  # What overlays make of it.
  overlaid = overlay { folders = all; recipes = mapAttrs read all; };
  inherit (overlaid) folders recipes;

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
  buildNames = isHost: name: dev: map (item: item.part) (buildItems isHost name dev);

  # The same with keys, worked out once for each recipe however many closures it is in.
  buildItems = isHost: name: dev:
    let ways = itemsOf.${name} or (waysOf name);
    in if isHost then (if dev then ways.hostDev else ways.host) else (if dev then ways.targetDev else ways.target);
  itemsOf = mapAttrs (name: _: waysOf name) recipes;
  waysOf = name:
    let keyed = isHost: dev: map (part: { inherit part; key = keyOf part; }) (workOutNames isHost name dev);
    in { host = keyed true false; hostDev = keyed true true; target = keyed false false; targetDev = keyed false true; };

  workOutNames = isHost: name: dev:
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

  depthMax = 16;

  # Everything that `next` leads to from the parts in `start`: key → part. Goes level by level, so that a chain
  # that is too long, or a circle, is found whatever the order.
  closureOf = next: start:
    let
      level = chain: parts: listToAttrs (map (part: lib.nameValue (keyOf part) { inherit part; chain = chain ++ [ (keyOf part) ]; }) parts);
      step = now: builtins.foldl' (all: item: all // level item.chain (next item.part)) { } (attrValues now);
      go = depth: now: seen:
        if attrNames now == [ ] then seen
        else if depth > depthMax then throw
          "dependencies go deeper than ${toString depthMax}: ${concatStringsSep " → " (head (attrValues now)).chain}"
        else go (depth + 1) (step now) (seen // now);
    in
    mapAttrs (_: item: item.part) (go 0 (level [ ] start) { });

  # What building `name` needs, each with the chain that leads to it. `dev` also follows dev-dependencies below the
  # first level: not what a sysroot holds, but what has to be built before.
  reached = dev: isHost: name:
    let
      items = chain: found: map (item: { inherit (item) key part; chain' = chain ++ [ item.key ]; }) found;
    in
    builtins.genericClosure {
      startSet = items [ (keyOf { host = isHost; recipe = name; suffix = null; }) ] (buildItems isHost name true);
      operator = item: items item.chain' (buildItems item.part.host item.part.recipe dev);
    };

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

  partOf = text: let parts = parseName text; in parts // { host = parts.prefix == "host"; };

  # What a system of these packages installs at most: the packages, what they need at run time, and what the
  # libraries they are built with need at run time. Those libraries themselves are not among them.
  packageClosure = names:
    let
      mark = installed: part: part // { inherit installed; };
      # The same recipe may be met as a library and as a package: it is followed as both.
      next = part:
        map (mark false) (buildNames part.host part.recipe false)
        ++ lib.optionals (!part.host) (map (text: mark true (partOf text)) (runtimeDependencies (nameOf part)));
      key = part: "${if part.installed then "" else "~"}${keyOf part}";
      items = map (part: { key = key part; inherit part; });
    in
    sort (a: b: a < b) (map (item: item.key) (filter (item: item.part.installed && !item.part.host)
      (builtins.genericClosure {
        startSet = items (map (text: mark true (partOf text)) names);
        operator = item: items (next item.part);
      })));
  nameOf = part: "${part.recipe}${if part.suffix == null then "" else ".${part.suffix}"}";

  # All recipes that have to be built for these packages, and for the `host:` ones among them.
  recipeClosure = names: closureOf
    (part: map (p: p // { suffix = null; }) (buildNames part.host part.recipe true))
    (map (text: partOf text // { suffix = null; })
      (packageClosure names ++ filter (text: (parseName text).prefix == "host") names));

  describe = name:
    let source = recipes.${name}.source or { };
    in {
      source = removeAttrs source [ "script" ];
      folder = toString (folderOf name);
    };

  # The parsed recipes whose sources `rednix lock NAMES` pins: the named ones with what they are built from, or
  # all of the tree.
  lockable = names: {
    recipes = lib.genAttrs
      (if names == [ ] then attrNames listed
      else lib.unique (map (part: sourceOwner part.recipe) (attrValues (recipeClosure names))))
      describe;
    all = attrNames listed;
  };

  # The same for the named recipes alone, as far as the tree has them.
  renewable = names: {
    recipes = lib.genAttrs (lib.unique (map (name: sourceOwner (parseName name).recipe) (filter (name: listed ? ${name}) names))) describe;
    all = attrNames listed;
  };

  # -- looking at the tree ------------------------------------------------------------------------------

  sourceKind = source:
    if source ? same_as then "same_as" else if source ? path then "path" else if source ? git then "git"
    else if source ? tar then "tar" else "none";

  # The templates a recipe may name. One that is not among them is an error only where it is built.
  templates = [ "none" "cargo" "configure" "cmake" "meson" "python" "custom" "remote" ];

  summary = name:
    let
      recipe = recipes.${name};
      source = recipe.source or { };
    in {
      template = recipe.build.template or "none";
      source = sourceKind source;
      floats = sourceKind source == "git" && !(source ? rev);
      hashed = source ? blake3;
    };

  graph = names:
    let
      parts = recipeClosure names;
      node = part: summary part.recipe // {
        dependencies = attrNames (listToAttrs (map (p: lib.nameValue (keyOf (p // { suffix = null; })) null) (buildNames part.host part.recipe true)));
      };
    in {
      packages = packageClosure names;
      recipes = mapAttrs (_: node) parts;
    };
in
{
  # Recipes that are in no file of the tree.
  written = attrNames own;
  inherit overlaid folders recipes parseName folderOf sourceOwner buildNames buildClosure runtimeDependencies runtimeClosure packageClosure recipeClosure;
  inherit lockable renewable templates summary graph;
  # Meta packages have no template and no archive.
  isMeta = name: (recipes.${(parseName name).recipe}.build.template or "none") == "none";
  # The outputs of a recipe's derivation: its main package, then the optional ones.
  outputsOf = recipe: [ "out" ] ++ map (optional: optional.name) (recipe.optional-packages or [ ]);
}

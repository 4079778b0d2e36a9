# A typed, merging module system: modules in, one checked configuration and its options out. It knows nothing of
# Redox; the options of a system are in modules/redox/.
#
# A module is a set, a function to one, or a file with either:
#
#   { config, options, lib, ... }: {
#     imports = [ ./other.nix ];
#     options.a.b = lib.mkOption { type = lib.types.int; default = 1; description = "…"; };
#     config.a.b = lib.mkIf config.c 2;
#   }
#
# Without `options` or `config` the set is the configuration itself. Definitions of an option are checked and merged
# by its type. What a module imports comes before what it says itself, and modules come in the order they are
# given. Errors name the option, the place of the definition, what was expected and what was found.
{ lib }:

let
  inherit (builtins)
    addErrorContext attrNames concatLists concatMap elemAt filter foldl' functionArgs genList head isAttrs isBool
    isFunction isPath isString length listToAttrs mapAttrs sort zipAttrsWith;

  messages = import ./modules/messages.nix { inherit lib; };
  inherit (messages) describe place showOption;
  types = import ./modules/types.nix { inherit lib messages engine; };
  engine = { inherit mergeDefinitions evaluate pushDown priorities isOption; };

  # -- marks on values --------------------------------------------------------------------------------------

  mkIf = condition: content: { _type = "if"; inherit condition content; };
  mkMerge = contents: { _type = "merge"; inherit contents; };
  mkOverride = priority: content: { _type = "override"; inherit priority content; };
  mkOrder = order: content: { _type = "order"; inherit order content; };
  # The lowest number wins. `base` is for a system's configuration in TOML, `option` for an option's own default.
  priorities = { force = 50; plain = 100; default = 1000; base = 1200; option = 1500; };

  mkOption =
    { type ? types.unspecified, description ? null, default ? null, defaultText ? null, example ? null, apply ? null, internal ? false, readOnly ? false }@given:
    { _type = "option"; inherit type; } // given;
  isOption = value: value._type or null == "option";

  # The tag of a value that is a mark, else null. Sets of users may have a `_type` too, but none of these.
  markOf = value:
    if isAttrs value && value ? _type && isString value._type && marks ? ${value._type} then value._type else null;
  marks = { "if" = true; merge = true; override = true; order = true; };

  # -- collecting modules -----------------------------------------------------------------------------------

  # Every module once, in order: what is imported before what imports it. `arguments` go to modules that are
  # functions; the place of a module in the tree of imports is a list of numbers.
  collect = arguments: config: modules:
    let
      give = label: function:
        let
          wanted = functionArgs function;
          lacking = filter (name: !(arguments ? ${name}) && !wanted.${name}) (attrNames wanted);
          later = name: config._module.args.${name} or (throw
            ("the module ${label} wants an argument `${name}`, which nothing gives"
              + messages.hint "give it in `specialArgs` or `_module.args`; there are: ${builtins.concatStringsSep ", " (attrNames arguments)}"));
        in
        function (arguments // lib.genAttrs lacking later);
      item = parent: index: module:
        let
          isFile = isPath module || isString module;
          label = if isFile then toString module else if parent.label == null then "number ${toString (index + 1)} of the list" else "number ${toString (index + 1)} that ${parent.label} imports";
          loaded = if isFile then addErrorContext "while reading the module ${label}" (import module) else module;
          given =
            if isFunction loaded || loaded ? __functor then addErrorContext "while calling the module ${label}" (give label loaded)
            else loaded;
        in
        {
          key = if isFile then label else if isAttrs module && module ? key then module.key else "${parent.key}:${toString index}";
          place = parent.place ++ [ index ];
          module = normalise (if isFile then label else positionOf label given) given;
        };
      children = parent: list: genList (i: item parent i (elemAt list i)) (length list);
      closure = builtins.genericClosure {
        startSet = children { key = ""; label = null; place = [ ]; } modules;
        operator = found: children { inherit (found) key place; label = found.module.file; } found.module.imports;
      };
      # A number greater than any index puts a module behind those it imports.
      rank = found: found.place ++ [ 1000000000 ];
      isFlat = length closure == length modules;
    in
    map (found: found.module)
      (if isFlat then closure else map (r: r.found) (sort (a: b: a.rank < b.rank) (map (found: { inherit found; rank = rank found; }) closure)));

  # Where a module that is no file was written, as far as its contents tell.
  positionOf = label: module:
    let
      names = if isAttrs module then attrNames module else [ ];
      position = if names == [ ] then null else builtins.unsafeGetAttrPos (head names) module;
    in
    if position == null then label else "${position.file}:${toString position.line}:${toString position.column}";

  own = [ "_file" "key" "imports" "freeformType" ];
  structured = own ++ [ "options" "config" ];

  # Whatever was written → { file; imports; options; config; freeformType; }.
  normalise = label: module:
    let
      file = toString (module._file or label);
      beside = attrNames (removeAttrs module structured);
    in
    if !(isAttrs module) then throw "the module ${label} is ${describe module}; a module is a set, a function to one, or a file with either"
    else if markOf module != null then { inherit file; imports = [ ]; options = { }; config = module; freeformType = null; }
    else if module ? options || module ? config then
      if beside != [ ] then throw
        ("the module ${file} has `${if module ? config then "config" else "options"}`, and beside it ${builtins.concatStringsSep ", " (map (n: "`${n}`") beside)}"
          + messages.hint "move what is set below `config`")
      else {
        inherit file;
        imports = module.imports or [ ];
        options = module.options or { };
        config = module.config or { };
        freeformType = module.freeformType or null;
      }
    else {
      inherit file;
      imports = module.imports or [ ];
      options = { };
      config = removeAttrs module own;
      freeformType = module.freeformType or null;
    };

  # -- one level of the tree --------------------------------------------------------------------------------

  # A definition of a group of options → the same as plain sets: marks go down to what is inside.
  pushDown = path: definition:
    let
      value = definition.value;
      mark = markOf value;
      inside = content: wrap: map (d: d // { wrap = x: wrap (if d.wrap == null then x else d.wrap x); })
        (pushDown path (definition // { value = content; }));
    in
    if mark == null then
      if isAttrs value then [ { inherit (definition) file; set = value; wrap = null; } ]
      else throw (messages.wrongType path "a set of options" definition)
    else if mark == "if" then inside value.content (mkIf value.condition)
    else if mark == "merge" then concatMap (content: pushDown path (definition // { value = content; })) value.contents
    else if mark == "override" then inside value.content (mkOverride value.priority)
    else inside value.content (mkOrder value.order);

  # Sets of definitions → name → list of definitions.
  byName = sets: zipAttrsWith (_: found: found)
    (map (d: mapAttrs (name: value: { inherit (d) file set; inherit name; value = if d.wrap == null then value else d.wrap value; }) d.set) sets);

  # Declarations and definitions below one path → { options; config; unknown; }.
  group = path: declarations: definitions:
    let
      declared = zipAttrsWith (_: found: found)
        (map (d: mapAttrs (name: value: { inherit (d) file; set = d.options; inherit name value; }) d.options) declarations);
      defined = byName (concatMap (pushDown path) definitions);
      node = name: found:
        let
          here = path ++ [ name ];
          definitionsHere = defined.${name} or [ ];
          leaves = filter (d: isOption d.value) found;
        in
        if leaves == [ ] then
          { isGroup = true; } // group here (map (d: { inherit (d) file; options = asGroup here d; }) found) definitionsHere
        else if length found > 1 then throw
          ("the option `${showOption here}` is declared more than once:" + builtins.concatStringsSep "" (map (d: "\n  ${place d}") found))
        else { isGroup = false; option = option here (head found) definitionsHere; };
      nodes = mapAttrs node declared;
      names = attrNames nodes;
      siblings = attrNames (removeAttrs declared [ "_module" ]);
      undeclared = removeAttrs defined (attrNames declared);
    in
    {
      options = mapAttrs (_: n: if n.isGroup then n.options else n.option) nodes;
      config = mapAttrs (_: n: if n.isGroup then n.config else n.option.value) nodes;
      inherit undeclared;
      # What is set and not declared, here and below.
      unknown = concatMap (name: map (definition: { path = path ++ [ name ]; inherit definition siblings; }) undeclared.${name}) (attrNames undeclared)
        ++ below nodes names;
    };
  below = nodes: names: concatMap (name: lib.optionals nodes.${name}.isGroup nodes.${name}.unknown) names;

  asGroup = path: d:
    if isAttrs d.value then d.value
    else throw "the option `${showOption path}` is declared at ${place d} as ${describe d.value}; an option is made with lib.mkOption";

  # Every option's path, for suggestions.
  leafPaths = path: options: concatMap
    (name: if isOption options.${name} then [ (path ++ [ name ]) ] else leafPaths (path ++ [ name ]) options.${name})
    (attrNames options);

  # -- one option -------------------------------------------------------------------------------------------

  option = path: declaration: definitions:
    let
      given = declaration.value;
      type = given.type;
      fallback = lib.optional (given ? default)
        { file = declaration.file; within = "the option's default in ${declaration.file}"; value = mkOverride priorities.option given.default; };
      merged = mergeDefinitions path type (definitions ++ fallback);
      value =
        if given.readOnly or false && length definitions > 1 then throw (messages.conflict path definitions)
        else if merged.isDefined then merged.value
        else if type ? empty then type.empty path
        else throw (messages.missing path type.description (place declaration));
    in
    given // {
      inherit path declaration;
      inherit (merged) definitions priority;
      # Whether anything but the option's own default gives it its value.
      isSet = merged.isDefined && merged.priority < priorities.option;
      value = addErrorContext "while working out the option `${showOption path}`"
        (if given ? apply then given.apply value else value);
    };

  # A definition → those it is made of, without marks. An outer priority or order goes before an inner one.
  discharge = path: definition:
    let
      go = priority: order: value:
        let mark = markOf value;
        in
        if mark == null then
          [ (definition // { inherit value; priority = if priority == null then priorities.plain else priority; order = if order == null then 1000 else order; }) ]
        else if mark == "if" then
          if !(isBool value.condition) then throw
            "the condition of an lib.mkIf for the option `${showOption path}` at ${place definition} is ${describe value.condition}, not true or false"
          else if value.condition then go priority order value.content else [ ]
        else if mark == "merge" then concatMap (go priority order) value.contents
        else if mark == "override" then go (if priority == null then value.priority else priority) order value.content
        else go priority (if order == null then value.order else order) value.content;
    in
    go null null definition.value;

  # Definitions, with marks → { isDefined; value; definitions; priority; }.
  mergeDefinitions = path: type: given:
    let
      plain = concatMap (discharge path) given;
      priority = foldl' (lowest: d: if d.priority < lowest then d.priority else lowest) 1000000 plain;
      strongest = if length plain < 2 then plain else filter (d: d.priority == priority) plain;
      ordered = if builtins.all (d: d.order == 1000) strongest then strongest else sort (a: b: a.order < b.order) strongest;
      wrong = filter (d: !(type.check d.value)) ordered;
    in
    {
      isDefined = plain != [ ];
      inherit priority;
      definitions = ordered;
      value = if wrong != [ ] then throw (messages.wrongType path type.description (head wrong)) else type.merge path ordered;
    };

  # -- the whole --------------------------------------------------------------------------------------------

  # `path` is where the options of these modules hang, for messages.
  evaluate = { modules, specialArgs ? { }, path ? [ ] }:
    let
      arguments = { lib = moduleLib; inherit (root) options; inherit config; } // specialArgs;
      all = collect arguments config modules;
      root = group path
        (concatMap (m: lib.optional (m.options != { }) { inherit (m) file options; }) all)
        (map (m: { inherit (m) file; within = m.file; value = m.config; }) all);
      freeform = filter (m: m.freeformType != null) all;
      rest =
        if freeform == [ ] then { }
        else mapAttrs (name: found: (mergeDefinitions (path ++ [ name ]) (head freeform).freeformType found).value) root.undeclared;
      config = rest // root.config;
      unknown = if freeform == [ ] then root.unknown else filter (item: length item.path > length path + 1) root.unknown;
      # What modules see is unchecked: a check may need what they say.
      checked = if unknown == [ ] then removeAttrs config [ "_module" ] else throw (messages.unknownOptions (leafPaths path root.options) unknown);
    in
    { config = checked; options = removeAttrs root.options [ "_module" ]; };

  internals = {
    _file = "the module system";
    options._module.args = mkOption {
      type = types.attrsOf types.raw;
      internal = true;
      description = "Arguments that modules may ask for by name, beside `config`, `options` and `lib`.";
    };
  };

  moduleLib = lib // public // { inherit messages; };
  public = {
    inherit types mkOption isOption mkIf mkMerge mkOverride mkOrder;
    mkForce = mkOverride priorities.force;
    mkDefault = mkOverride priorities.default;
    mkBefore = mkOrder 500;
    mkAfter = mkOrder 1500;
    mkEnableOption = what: mkOption { type = types.bool; default = false; description = "Whether to enable ${what}."; };
    inherit priorities evalModules;
  };

  # Modules → { config; options; extend; }. `specialArgs` are there while imports are worked out, `_module.args`
  # are not. `extend` gives the same with more modules.
  evalModules = { modules, specialArgs ? { } }@given:
    evaluate { modules = modules ++ [ internals ]; inherit specialArgs; }
    // { extend = more: evalModules (given // { modules = modules ++ more; }); };
in
public // { inherit messages; }

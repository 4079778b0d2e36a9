# Types of options. A type says in words what it takes (`description`), whether a definition is of it (`check`, one
# level deep), and how definitions become one value (`merge`, which checks what is inside at its own path).
#
#   empty path       what an option without default and definitions is; absent: an error
#   subOptions path  the options inside, for documentation; absent: none
{ lib, messages, engine }:

let
  inherit (builtins)
    attrNames concatLists concatMap concatStringsSep elem elemAt filter foldl' genList head isAttrs isBool isFloat
    isFunction isInt isList isPath isString length listToAttrs mapAttrs match stringLength zipAttrsWith;
  inherit (engine) mergeDefinitions evaluate priorities;

  type = given: { _type = "type"; merge = same; } // given;

  # Definitions that are all the same.
  same = path: definitions:
    let first = (head definitions).value;
    in
    if length definitions == 1 || builtins.all (d: d.value == first) definitions then first
    else throw (messages.conflict path definitions);
  # For what cannot be compared.
  only = path: definitions:
    if length definitions == 1 then (head definitions).value else throw (messages.conflict path definitions);

  integer = description: check: type { inherit description; check = value: isInt value && check value; };
  text = description: check: type { inherit description; check = value: isString value && check value; };

  isDerivation = value: isAttrs value && value.type or null == "derivation";
  absolute = value: isString value && builtins.substring 0 1 value == "/";

  # How a value is shown among others: `"a", 1`.
  shown = value: if isString value then "\"${value}\"" else if isBool value then (if value then "true" else "false") else if value == null then "null" else toString value;
in
rec {
  unspecified = type { description = "anything"; check = _: true; };
  raw = type { description = "anything"; check = _: true; merge = only; };

  bool = type { description = "true or false"; check = isBool; };
  int = integer "an integer" (_: true);
  float = type { description = "a number with a point"; check = isFloat; };
  number = type { description = "a number"; check = value: isInt value || isFloat value; };
  ints = {
    between = low: high: integer "an integer from ${toString low} to ${toString high}" (value: low <= value && value <= high);
    atLeast = low: integer "an integer of at least ${toString low}" (value: low <= value);
    unsigned = integer "an integer of at least 0" (value: value >= 0);
    positive = integer "an integer of at least 1" (value: value >= 1);
  };
  port = ints.between 0 65535;

  str = text "a string" (_: true);
  nonEmptyStr = text "a string that is not empty" (value: value != "");
  singleLineStr = text "a string of one line" (value: match "[^\n]*" value != null);
  # `what` says in words what the pattern means.
  strMatching = what: pattern: text "a string with ${what}" (value: match pattern value != null);
  separatedString = separator: str // {
    description = "a string; several are joined";
    merge = _: definitions: concatStringsSep separator (map (d: d.value) definitions);
  };
  lines = separatedString "\n";

  path = type { description = "an absolute path"; check = value: isPath value || absolute value || isDerivation value; };
  package = type {
    description = "a derivation";
    check = isDerivation;
    merge = path: definitions:
      if builtins.all (d: d.value.drvPath == (head definitions).value.drvPath) definitions then (head definitions).value
      else throw (messages.conflict path definitions);
  };
  attrs = type {
    description = "a set";
    check = isAttrs;
    empty = _: { };
    merge = _: definitions: foldl' (all: d: all // d.value) { } definitions;
  };
  functionTo = result: type { description = "a function to ${result.description}"; check = isFunction; merge = only; };

  enum = values: type {
    description = if length values == 1 then shown (head values) else "one of ${concatStringsSep ", " (map shown values)}";
    check = value: elem value values;
  };

  nullOr = inner: inner // {
    description = "null or ${inner.description}";
    check = value: value == null || inner.check value;
    merge = path: definitions:
      let nulls = filter (d: d.value == null) definitions;
      in
      if nulls == [ ] then inner.merge path definitions
      else if length nulls == length definitions then null
      else throw (messages.conflict path definitions);
    empty = _: null;
  };

  either = left: right: type {
    description = "${left.description}, or ${right.description}";
    check = value: left.check value || right.check value;
    merge = path: definitions:
      if builtins.all (d: left.check d.value) definitions then left.merge path definitions
      else if builtins.all (d: right.check d.value) definitions then right.merge path definitions
      else throw (messages.conflict path definitions);
  } // lib.optionalAttrs (left ? subOptions || right ? subOptions) { subOptions = left.subOptions or right.subOptions; };
  oneOf = alternatives:
    if length alternatives == 1 then head alternatives
    else either (head alternatives) (oneOf (builtins.tail alternatives));

  # `convert` makes a `to` of a `from`; both may be given.
  coercedTo = from: convert: to: to // {
    description = "${to.description}, or ${from.description}";
    check = value: to.check value || from.check value;
    merge = path: definitions:
      let
        one = d: if to.check d.value then d else removeAttrs d [ "set" ] // { value = convert d.value; within = messages.place d; isMade = true; };
        converted = map one definitions;
        wrong = filter (d: !(to.check d.value)) converted;
      in
      if wrong != [ ] then throw (messages.wrongType path to.description (head wrong)) else to.merge path converted;
  };

  # A type with a condition; `what` says in words what is left.
  addCheck = inner: what: condition: inner // {
    description = what;
    check = value: inner.check value && condition value;
  };

  listOf = inner: type {
    description = "a list, each ${inner.description}";
    check = isList;
    empty = _: [ ];
    merge = path: definitions:
      let
        item = d: index:
          let
            here = path ++ [ "[${toString index}]" ];
            merged = mergeDefinitions here inner [ { inherit (d) file; within = messages.place d; value = elemAt d.value index; } ];
          in
          # `lib.mkIf` may stand in a list too.
          lib.optional merged.isDefined merged.value;
      in
      concatMap (d: concatLists (genList (item d) (length d.value))) definitions;
  } // lib.optionalAttrs (inner ? subOptions) { subOptions = path: inner.subOptions (path ++ [ "[*]" ]); };

  attrsOf = inner: attrsWith { inherit inner; };
  # `name.check` says which names may be, `name.expected` what they are in words, `name.near` what may have been
  # meant instead of a wrong one.
  attrsWith = { inner, name ? null }: type {
    description = "a set, each ${inner.description}";
    check = isAttrs;
    empty = _: { };
    merge = path: definitions:
      let
        found = zipAttrsWith (_: all: all) (map
          (d:
            let within = messages.place d;
            in
            # What a conversion made stands nowhere in a file.
            if d.isMade or false then mapAttrs (_: value: { inherit (d) file; inherit within value; }) d.value
            else mapAttrs (name: value: { inherit (d) file; inherit within name value; set = d.value; }) d.value)
          definitions);
        right = key: all:
          if name == null || name.check key then all
          else throw ("`${key}` is no name in `${messages.showOption path}`, which takes ${name.expected}; ${messages.place (head all)} sets it"
            + messages.hint (messages.didYouMean (messages.near (name.near or [ ]) key)));
        merged = mapAttrs (key: all: mergeDefinitions (path ++ [ key ]) inner (right key all)) found;
      in
      mapAttrs (_: m: m.value) (lib.filterAttrs (_: m: m.isDefined) merged);
  } // lib.optionalAttrs (inner ? subOptions) { subOptions = path: inner.subOptions (path ++ [ "<name>" ]); };

  # Modules inside an option: each definition is one. They get `name`, the last part of the option's path.
  submodule = modules: submoduleWith { modules = if isList modules then modules else [ modules ]; };
  submoduleWith = { modules, specialArgs ? { }, description ? "a set of options" }:
    let
      inside = path: more: evaluate {
        inherit path;
        modules = modules ++ more;
        specialArgs = { name = lib.last path; } // specialArgs;
      };
      asModule = d: if isAttrs d.value then { _file = messages.place d; config = d.value; } else d.value;
    in
    type {
      inherit description;
      check = value: isAttrs value || isFunction value || isPath value;
      empty = path: (inside path [ ]).config;
      merge = path: definitions: (inside path (map asModule definitions)).config;
      subOptions = path: (inside path [ ]).options;
    };
}

# The words of the module system's errors: paths of options, values in short, near names. Nothing here is reached
# while all is well. A message ends in `hint:` after an empty line, where there is something to do.
{ lib }:

let
  inherit (builtins)
    attrNames concatMap concatStringsSep elemAt filter foldl' genList isAttrs isBool isFloat isFunction isInt isList isPath
    isString length map sort stringLength substring;

  limit = 60;
  cut = text: if stringLength text > limit then "${substring 0 limit text}…" else text;
  quoted = text: "\"${builtins.replaceStrings [ "\\" "\"" "\n" "\t" ] [ "\\\\" "\\\"" "\\n" "\\t" ] (cut text)}\"";
  few = names: concatStringsSep ", " (if length names > 8 then genList (elemAt names) 8 ++ [ "…" ] else names);
in
rec {
  # `users."a b".home`
  showOption = path: foldl' join "" path;
  join = text: name:
    if text == "" || substring 0 1 name == "[" then text + showPart name else "${text}.${showPart name}";
  showPart = name: if substring 0 1 name == "[" then name else showName name;
  showName = name:
    if builtins.match "[A-Za-z_<][A-Za-z0-9_'<>*-]*" name != null then name else "\"${name}\"";

  # A value in a few words.
  describe = value:
    if isString value then "the string ${quoted value}"
    else if isInt value then "the integer ${toString value}"
    else if isBool value then (if value then "true" else "false")
    else if value == null then "null"
    else if isFloat value then "the number ${toString value}"
    else if isPath value then "the path ${toString value}"
    else if isList value then "a list of ${toString (length value)}"
    else if isFunction value then "a function"
    else if isAttrs value then
      if value.type or null == "derivation" then "the derivation `${value.name or "?"}`"
      else if value == { } then "an empty set" else "a set with ${few (attrNames value)}"
    else "a ${builtins.typeOf value}";

  # Where a definition stands, as exactly as is known.
  place = definition:
    let position = if definition ? set then builtins.unsafeGetAttrPos definition.name definition.set else null;
    in
    if position != null then "${position.file}:${toString position.line}:${toString position.column}"
    else definition.within or definition.file;

  # -- near names -------------------------------------------------------------------------------------------

  # Edits (insert, delete, replace, swap of neighbours) between two texts.
  distance = left: right:
    let
      letters = text: genList (i: substring i 1 text) (stringLength text);
      columns = letters right;
      minimum = a: b: if a < b then a else b;
      # One row of the table from the two above: `cell` is what was written last.
      next = { row, above, before }: letter:
        let
          step = state: column:
            let
              i = state.i;
              replaced = elemAt row i + (if column == letter then 0 else 1);
              edited = minimum replaced (minimum (elemAt row (i + 1) + 1) (state.cell + 1));
              isSwap = i > 0 && above != null && letter == elemAt columns (i - 1) && before == column;
              cell = if isSwap then minimum edited (elemAt above (i - 1) + 1) else edited;
            in
            { i = i + 1; inherit cell; cells = state.cells ++ [ cell ]; };
          first = elemAt row 0 + 1;
        in
        { above = row; before = letter; row = (foldl' step { i = 0; cell = first; cells = [ first ]; } columns).cells; };
    in
    lib.last (foldl' next { above = null; before = null; row = genList (i: i) (length columns + 1); } (letters left)).row;

  # Up to three names that may have been meant, the nearest first.
  near = names: wanted:
    let
      size = stringLength wanted;
      allowed = if size < 3 then 0 else if size < 5 then 1 else if size < 8 then 2 else 3;
      plausible = filter (name: let d = stringLength name - size; in d <= allowed && -d <= allowed) names;
      scored = filter (item: item.distance <= allowed) (map (name: { inherit name; distance = distance name wanted; }) plausible);
      ranked = map (item: item.name) (sort (a: b: a.distance < b.distance || (a.distance == b.distance && a.name < b.name)) scored);
    in
    if length ranked > 3 then genList (elemAt ranked) 3 else ranked;

  hint = text: if text == "" then "" else "\n\nhint: ${text}";
  didYouMean = names: if names == [ ] then "" else "did you mean ${few (map (name: "`${name}`") names)}?";

  # -- messages ---------------------------------------------------------------------------------------------

  wrongType = path: expected: definition:
    "the option `${showOption path}` takes ${expected}, but ${place definition} gives it ${describe definition.value}";

  conflict = path: definitions:
    "the option `${showOption path}` has values that exclude each other:"
    + concatStringsSep "" (map (d: "\n  ${describe d.value}, from ${place d}") definitions)
    + hint "keep one of them, or put lib.mkForce before the one that is to win";

  missing = path: expected: declaration:
    "the option `${showOption path}` has no value, and something needs one"
    + hint "set it to ${expected}; ${declaration} declares it";

  # `unknown` is a list of { path; definition; siblings; }, `all` every option's path.
  unknownOptions = all: unknown:
    let
      one = item: "there is no option `${showOption item.path}`, which ${place item.definition} sets";
      name = item: lib.last item.path;
      parent = item: genList (elemAt item.path) (length item.path - 1);
      # An option of that very name elsewhere is what people mean most; then one that is spelt nearly so.
      elsewhere = item: map showOption (filter (path: lib.last path == name item) all);
      siblings = item: map (near: showOption (parent item ++ [ near ])) (near item.siblings (name item));
      suggestion = item:
        let exact = elsewhere item; in if exact != [ ] then exact else siblings item;
      suggestions = lib.unique (concatMap suggestion unknown);
      groups = lib.unique (map (item: showOption (parent item)) unknown);
      known = item: if item.siblings == [ ] then "" else "there are: ${few item.siblings}";
    in
    concatStringsSep "\n" (map one unknown)
    + hint (if suggestions != [ ] then didYouMean suggestions
    else if length groups == 1 then known (builtins.head unknown) else "");
}

# Options → their reference, in Markdown. Nothing is evaluated but descriptions, defaults and examples.
{ lib, moduleSystem }:

let
  inherit (builtins) attrNames concatMap concatStringsSep filter head isAttrs isBool isFunction isInt isList isString length map;
  inherit (moduleSystem) isOption;
  inherit (moduleSystem.messages) showName showOption;

  # A value as one would write it.
  literal = value:
    if isString value then "\"${builtins.replaceStrings [ "\\" "\"" "\n" "\${" ] [ "\\\\" "\\\"" "\\n" "\\\${" ] value}\""
    else if isBool value then (if value then "true" else "false")
    else if value == null then "null"
    else if isList value then (if value == [ ] then "[ ]" else "[ ${concatStringsSep " " (map nested value)} ]")
    else if isFunction value then "a function"
    else if isAttrs value then (if value == { } then "{ }" else "{ ${concatStringsSep " " (map (line value) (attrNames value))} }")
    else toString value;
  nested = value: if isInt value && value < 0 then "(${toString value})" else literal value;
  line = set: name:
    # One name inside is written as a path: `a.b = 1;`.
    let value = set.${name};
    in
    if isAttrs value && length (attrNames value) == 1 then "${showName name}.${line value (head (attrNames value))}"
    else "${showName name} = ${literal value};";

  # Lines of a description as one paragraph.
  paragraph = text: concatStringsSep " " (filter (l: l != "") (map trim (lib.lines text)));
  trim = text: let parts = builtins.match "[[:space:]]*(.*[^[:space:]])?[[:space:]]*" text; in if head parts == null then "" else head parts;

  document = option:
    let
      inherit (option) path;
      default =
        if option ? defaultText then option.defaultText
        else if option ? default then "`${literal option.default}`"
        else "none";
      inside = if option.type ? subOptions then walk (option.type.subOptions path) else [ ];
      text = "### `${showOption path}`\n\n${paragraph (if option.description or null == null then "" else option.description)}\n\n"
        + "Takes ${option.type.description}. Default: ${default}."
        + lib.optionalString (option ? example) " Example: `${literal option.example}`."
        + "\n";
    in
    if option.internal or false then [ ] else [ text ] ++ inside;

  walk = options: concatMap (documented options) (attrNames options);
  documented = options: name: if isOption options.${name} then document options.${name} else walk options.${name};
  section = options: name: "## ${name}\n\n" + concatStringsSep "\n" (documented options name);
  # A group of nothing but internal options has no section.
  shown = options: filter (name: documented options name != [ ]) (attrNames options);
in
options: concatStringsSep "\n" (map (section options) (shown options))

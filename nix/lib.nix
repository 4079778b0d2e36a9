# Small helpers that every file here shares. Nothing in it knows Redox.
let
  inherit (builtins)
    attrNames concatLists concatStringsSep elem filter foldl' genList head isString length listToAttrs
    match stringLength substring tail;
in
rec {
  optional = condition: value: if condition then [ value ] else [ ];
  optionals = condition: values: if condition then values else [ ];
  optionalAttrs = condition: set: if condition then set else { };
  optionalString = condition: text: if condition then text else "";

  nameValue = name: value: { inherit name value; };
  genAttrs = names: f: listToAttrs (map (name: nameValue name (f name)) names);
  filterAttrs = keep: set: listToAttrs (concatLists (map (name: optional (keep name set.${name}) (nameValue name set.${name})) (attrNames set)));
  mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);

  hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
  hasSuffix = suffix: text:
    let from = stringLength text - stringLength suffix;
    in from >= 0 && substring from (stringLength suffix) text == suffix;
  removePrefix = prefix: text:
    if hasPrefix prefix text then substring (stringLength prefix) (stringLength text) text else text;
  removeSuffix = suffix: text:
    if hasSuffix suffix text then substring 0 (stringLength text - stringLength suffix) text else text;
  reverse = list: genList (i: builtins.elemAt list (length list - 1 - i)) (length list);
  # A regular expression that matches exactly this text.
  escapeRegex = builtins.replaceStrings
    [ "\\" "." "+" "(" ")" "[" "]" "{" "}" "^" "$" "|" "*" "?" ]
    [ "\\\\" "\\." "\\+" "\\(" "\\)" "\\[" "]" "\\{" "}" "\\^" "\\$" "\\|" "\\*" "\\?" ];
  last = list: builtins.elemAt list (length list - 1);
  # `separator` is one character; in brackets it stands for itself.
  splitOn = separator: text: filter isString (builtins.split "[${separator}]" text);
  lines = text: splitOn "\n" text;

  # Keeps the first of equal strings, in order.
  unique = list:
    (foldl' (seen: item: if seen.known ? ${item} then seen else {
      known = seen.known // { ${item} = true; };
      items = seen.items ++ [ item ];
    }) { known = { }; items = [ ]; } list).items;

  # A store path's name may hold fewer characters than a package's name.
  storeName = text: builtins.replaceStrings [ "~" ":" "@" "/" "%" ] [ "-" "-" "-" "-" "-" ] text;

  # A list as attributes `<name>0`, `<name>1`, …
  numbered = name: list: builtins.listToAttrs
    (genList (i: { name = "${name}${toString i}"; value = builtins.elemAt list i; }) (length list));

  # A crate as locks keep it, `[ name version checksum ]`.
  crateOfTriple = triple: {
    name = builtins.elemAt triple 0;
    version = builtins.elemAt triple 1;
    checksum = builtins.elemAt triple 2;
  };

  # GNU's name of a target.
  gnuTarget = target: if hasPrefix "riscv64gc-" target then "riscv64-unknown-redox" else target;

  # A word of a shell script: nothing inside it is expanded.
  shellQuote = text: "'" + builtins.replaceStrings [ "'" ] [ "'\\''" ] (toString text) + "'";

  # Joins two relative paths and takes `.` and `..` out; null where the result would leave the root.
  joinPath = base: path:
    let
      step = parts: part:
        if parts == null then null
        else if part == "" || part == "." then parts
        else if part == ".." then (if parts == [ ] then null else genList (builtins.elemAt parts) (length parts - 1))
        else parts ++ [ part ];
      parts = foldl' step [ ] (splitOn "/" "${base}/${path}");
    in
    if parts == null then null else concatStringsSep "/" parts;

  # Reads a TOML or JSON file that may be absent.
  tomlOr = default: path: if builtins.pathExists path then builtins.fromTOML (builtins.readFile path) else default;
  jsonOr = default: path: if builtins.pathExists path then builtins.fromJSON (builtins.readFile path) else default;
}

# match and split.
let
  inherit (builtins) concatStringsSep filter foldl' genList head isString length match split;
  lines = genList (n: "  key-${toString n} = \"value ${toString (n * 7)}\" ; # comment ${toString n}") 20000;
  parse = line: match "[ \t]*([a-zA-Z0-9-]+)[ \t]*=[ \t]*\"([^\"]*)\"[ \t]*;.*" line;
  text = concatStringsSep "\n" lines;
  trim = string: head (match "[[:space:]]*(.*[^[:space:]])[[:space:]]*" string);
  version = string: match "([0-9]+)\\.([0-9]+)(\\.([0-9]+))?(-(alpha|beta|rc)([0-9]*))?" string;
in
{
  parsed = foldl' (a: line: a + builtins.stringLength (head (parse line))) 0 lines;
  lines = length (filter isString (split "\n" text));
  words = length (filter isString (split "[ \n;]+" (builtins.substring 0 200000 text)));
  trimmed = foldl' (a: line: a + builtins.stringLength (trim line)) 0 (genList (n: builtins.elemAt lines n) 6000);
  versions = length (filter (v: v != null) (genList (n: version "1.${toString n}${if n / 2 * 2 == n then "-rc1" else ".x"}") 6000));
}

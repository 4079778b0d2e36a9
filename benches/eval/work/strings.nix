# Joining, cutting, replacing, interpolating, hashing.
let
  inherit (builtins) concatStringsSep foldl' genList hashString replaceStrings stringLength substring;
  words = genList (n: "word${toString n}") 40000;
  text = concatStringsSep " " words;
  characters = string: genList (n: substring n 1 string) (stringLength string);
  upper = replaceStrings [ "a" "b" "c" "d" "e" "o" "r" "w" ] [ "A" "B" "C" "D" "E" "O" "R" "W" ];
  pad = width: string: if stringLength string >= width then string else pad width "0${string}";
in
{
  length = stringLength text;
  grown = stringLength (foldl' (a: b: a + "," + b) "" words);
  characters = foldl' (a: c: if c == "1" then a + 1 else a) 0 (characters (substring 0 100000 text));
  upper = hashString "sha256" (upper text);
  each = hashString "sha256" (concatStringsSep "\n" (map (word: upper "${word}-${substring 2 3 word}_suffix") words));
  padded = hashString "sha1" (concatStringsSep "" (map (n: pad 9 (toString n)) (genList (n: n * 37) 20000)));
  hashes = foldl' (a: word: hashString "sha256" (a + word)) "" words;
  versions = foldl' (a: n: a + builtins.compareVersions "1.${toString n}.3-rc${toString (n - 3)}" "1.${toString (n - 1)}.4") 0 (genList (n: n + 3) 20000);
}

# A package set with 700 overlays, each of which adds, changes and refers.
let
  inherit (builtins) attrNames foldl' genList length listToAttrs;
  fix = f: let x = f x; in x;
  extend = base: overlay: final: let prev = base final; in prev // overlay final prev;
  package = name: version: dependencies: { inherit name version dependencies; full = "${name}-${version}"; override = changes: package (changes.name or name) (changes.version or version) (changes.dependencies or dependencies); };
  base = final: listToAttrs (genList (n: { name = "base${toString n}"; value = package "base${toString n}" "1.0" [ ]; }) 500);
  overlay = n: final: prev: {
    "own${toString n}" = package "own${toString n}" "1.${toString n}" [ final.base0 final."base${toString (n - n / 500 * 500)}" ];
    base0 = prev.base0.override { version = "${toString n}.0"; };
    "base${toString (n - n / 90 * 90 + 1)}" = prev."base${toString (n - n / 90 * 90 + 1)}".override { dependencies = [ final.base0 ]; };
  };
  set = fix (foldl' extend base (genList overlay 700));
  weight = p: foldl' (a: d: a + weight d) 1 p.dependencies;
in
{
  names = length (attrNames set);
  version = set.base0.full;
  all = map (name: set.${name}.full) (attrNames set);
  weights = foldl' (a: name: a + weight set.${name}) 0 (attrNames set);
  again = foldl' (a: n: a + length (attrNames (fix (foldl' extend base (genList overlay 100))))) 0 (genList (n: n) 100);
}

# Merging, mapping and selecting from attribute sets, small and large.
let
  inherit (builtins) attrNames attrValues foldl' genList hasAttr intersectAttrs isAttrs length listToAttrs mapAttrs removeAttrs;
  numbered = prefix: count: listToAttrs (genList (n: { name = "${prefix}${toString n}"; value = n; }) count);
  recursive = a: b: a // mapAttrs (name: value: if isAttrs value && a ? ${name} && isAttrs a.${name} then recursive a.${name} value else value) b;
  config = n: { services.${"s${toString (n - n / 40 * 40)}"} = { enable = true; port = n; extra.deep.${"k${toString (n - n / 7 * 7)}"} = n; }; users.root.shell = "/bin/ion"; };
  big = numbered "name" 2000;
  point = { x = 1; y = 2; z = 3; };
in
{
  merged = foldl' recursive { } (genList config 4000);
  grown = length (attrNames (foldl' (a: n: a // { ${"k${toString n}"} = n; }) { } (genList (n: n) 4000)));
  small = foldl' (a: n: let p = a // { x = a.x + n; }; in builtins.seq p.x (p // { y = p.x; })) point (genList (n: n) 200000);
  updates = foldl' (a: n: a + (big // { name7 = n; other = n; }).name7) 0 (genList (n: n) 4000);
  selected = foldl' (a: n: a + point.x + point.z + (point.w or 4)) 0 (genList (n: n) 200000);
  mapped = foldl' (a: n: a + (mapAttrs (_: v: v + n) big).name77) 0 (genList (n: n) 300);
  removed = length (attrNames (removeAttrs big (genList (n: "name${toString (n * 2)}") 900)));
  common = length (attrValues (intersectAttrs big (numbered "name" 3000)));
  present = foldl' (a: n: if hasAttr "name${toString n}" big then a + 1 else a) 0 (genList (n: n) 20000);
}

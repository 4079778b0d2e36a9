# groupBy, partition, listToAttrs, zipAttrsWith, catAttrs.
let
  inherit (builtins) attrNames attrValues catAttrs concatStringsSep foldl' genList groupBy length listToAttrs mapAttrs partition zipAttrsWith;
  items = genList (n: { name = "item${toString n}"; kind = "kind${toString (n - n / 97 * 97)}"; value = n; }) 60000;
  grouped = groupBy (item: item.kind) items;
  parts = partition (item: item.value / 2 * 2 == item.value) items;
  indexed = listToAttrs items;
  zipped = zipAttrsWith (_: values: foldl' (a: b: a + b) 0 values)
    (genList (n: { a = n; ${"x${toString (n - n / 50 * 50)}"} = 1; shared = 2; }) 20000);
in
{
  groups = mapAttrs (_: group: length group) grouped;
  sums = mapAttrs (_: group: foldl' (a: item: a + item.value) 0 group) grouped;
  even = length parts.right;
  odd = foldl' (a: b: a + b) 0 (catAttrs "value" parts.wrong);
  names = length (attrNames indexed);
  total = foldl' (a: b: a + b) 0 (attrValues indexed);
  inherit zipped;
}

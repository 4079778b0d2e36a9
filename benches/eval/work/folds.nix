# Folds over long lists: strict, lazy from the right, mapping, filtering.
let
  inherit (builtins) all any concatLists concatMap elem elemAt filter foldl' genList length;
  numbers = genList (n: n);
  foldr = op: end: list:
    let go = n: if n == length list then end else op (elemAt list n) (go (n + 1));
    in go 0;
in
{
  sum = foldl' (a: b: a + b) 0 (numbers 600000);
  pairs = foldl' (a: x: builtins.seq a.count { count = a.count + 1; last = x; }) { count = 0; last = null; } (numbers 200000);
  mapped = foldl' builtins.add 0 (map (x: x * 2) (filter (x: x / 3 * 3 != x) (numbers 300000)));
  right = builtins.foldl' (a: _: a + foldr (x: rest: if x > 900 then x else rest) 0 (numbers 1000)) 0 (numbers 50);
  nested = length (concatMap (x: [ x (x + 1) ]) (concatLists (genList (n: numbers 300) 300)));
  tests = [ (all (x: x >= 0) (numbers 200000)) (any (x: x > 199998) (numbers 200000)) (elem 199999 (numbers 200000)) ];
}

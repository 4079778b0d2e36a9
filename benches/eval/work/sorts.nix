# The sort builtin with several orders, and a quicksort written in Nix.
let
  inherit (builtins) bitAnd elemAt filter foldl' genList head hashString length sort substring tail;
  # A generator of numbers that is the same everywhere.
  numbers = count: (foldl' (state: _:
    let next = bitAnd (state.seed * 1103515245 + 12345) 2147483647;
    in builtins.seq next { seed = next; }) { seed = 42; } (genList (n: n) count)).seed;
  mixed = count: genList (n: bitAnd (n * 1103515245 + (bitAnd (n * 7919) 8191) * 12345) 1048575) count;
  quick = list:
    if length list < 2 then list else
    let pivot = head list; rest = tail list;
    in quick (filter (x: x < pivot) rest) ++ [ pivot ] ++ quick (filter (x: x >= pivot) rest);
  sum = foldl' (total: x: bitAnd (total * 31 + x) 1073741823) 7;
in
{
  seed = numbers 50000;
  less = sum (sort builtins.lessThan (mixed 100000));
  greater = sum (sort (a: b: a > b) (mixed 60000));
  byAttribute = sum (map (x: x.key) (sort (a: b: a.key < b.key) (map (key: { inherit key; }) (mixed 40000))));
  strings = let sorted = sort (a: b: a < b) (map (n: hashString "md5" (toString n)) (genList (n: n) 20000)); in hashString "sha256" (builtins.concatStringsSep "," sorted);
  quick = sum (quick (mixed 20000));
  sorted = sum (sort (a: b: a < b) (genList (n: n) 200000));
}

# genericClosure with numbers, strings and lists as keys.
let
  inherit (builtins) filter foldl' genericClosure length;
  collatz = genericClosure {
    startSet = builtins.genList (n: { key = n + 1; }) 20000;
    operator = { key }: [ { key = if key / 2 * 2 == key then key / 2 else 3 * key + 1; } ];
  };
  graph = genericClosure {
    startSet = [ { key = "node-1"; n = 1; } ];
    operator = { n, ... }: map (n: { key = "node-${toString n}"; inherit n; }) (filter (m: m < 60000) [ (2 * n) (2 * n + 1) (n + 7) ]);
  };
  grid = genericClosure {
    startSet = [ { key = [ 0 0 ]; x = 0; y = 0; } ];
    operator = { x, y, ... }: filter (p: p.x < 120 && p.y < 120)
      [ { key = [ (x + 1) y ]; x = x + 1; inherit y; } { key = [ x (y + 1) ]; inherit x; y = y + 1; } ];
  };
in
{
  collatz = length collatz;
  sum = foldl' (a: item: a + item.key) 0 collatz;
  graph = length graph;
  last = (builtins.elemAt graph (length graph - 1)).key;
  grid = length grid;
}

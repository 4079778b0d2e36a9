# Backtracking over lists.
let
  inherit (builtins) all concatMap elemAt genList length;
  queens = size:
    let
      columns = genList (n: n) size;
      safe = board: column:
        let rows = length board;
        in all (row: let other = elemAt board row; gap = rows - row; in other != column && other != column + gap && other != column - gap) (genList (n: n) rows);
      place = rows: if rows == 0 then [ [ ] ] else
        concatMap (board: concatMap (column: if safe board column then [ (board ++ [ column ]) ] else [ ]) columns) (place (rows - 1));
    in
    place size;
in
{ count = length (queens 9); first = builtins.head (queens 8); }

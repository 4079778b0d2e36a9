# Calls and small integers.
let
  fib = n: if n < 2 then n else fib (n - 1) + fib (n - 2);
  ackermann = m: n: if m == 0 then n + 1 else if n == 0 then ackermann (m - 1) 1 else ackermann (m - 1) (ackermann m (n - 1));
  collatz = n: steps: if n == 1 then steps else if n - n / 2 * 2 == 0 then collatz (n / 2) (steps + 1) else collatz (3 * n + 1) (steps + 1);
in
{
  fib = fib 29;
  ackermann = ackermann 2 600;
  collatz = builtins.foldl' (longest: n: let s = collatz n 0; in if s > longest then s else longest) 0 (builtins.genList (n: n + 1) 12000);
}

# Stands for a library of others: its steps are left out, because `cookbook.nix` lies beside it.
{
  sum = builtins.foldl' (a: b: a + b) 0;
}

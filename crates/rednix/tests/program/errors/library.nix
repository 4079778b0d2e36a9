let
  lib = import ./lib/default.nix;
in
{
  total = lib.sum [ 1 2 "3" ];
}

{
  a = import ./nothing.nix;
}

{
  imports = [ ./circle-a.nix ];
  seen = [ "b" ];
}

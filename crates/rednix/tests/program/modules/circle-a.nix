{ lib, ... }: {
  imports = [ ./circle-b.nix ];
  options.seen = lib.mkOption { type = lib.types.listOf lib.types.str; };
  config.seen = [ "a" ];
}

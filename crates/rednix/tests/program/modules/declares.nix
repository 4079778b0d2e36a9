{ lib, ... }: {
  options.numbers = lib.mkOption { type = lib.types.listOf lib.types.int; };
  config.numbers = [ 1 ];
}

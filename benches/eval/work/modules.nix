# The project's own module system with 600 modules: each declares options and defines those of others.
let
  lib = import ../../../nix/lib.nix;
  inherit (import ../../../nix/modules.nix { inherit lib; }) evalModules mkDefault mkForce mkIf mkMerge mkOption types;
  inherit (builtins) genList toString;
  count = 600;
  name = n: "service${toString n}";
  module = n: { config, lib, ... }: {
    options.services.${name n} = {
      enable = mkOption { type = types.bool; default = false; description = "Whether to start it."; };
      port = mkOption { type = types.int; default = 1000 + n; };
      user = mkOption { type = types.str; default = name n; };
      paths = mkOption { type = types.listOf types.str; default = [ ]; };
      settings = mkOption { type = types.attrsOf types.int; default = { }; };
    };
    config = mkMerge [
      { services.${name (if n == 0 then 0 else n - 1)} = { enable = true; paths = [ "/from/${toString n}" ]; settings.${"k${toString n}"} = n; }; }
      (mkIf config.services.${name n}.enable { names = [ config.services.${name n}.user ]; files.${"/etc/${name n}"} = { text = "port ${toString config.services.${name n}.port}"; mode = mkDefault "0644"; }; })
      (mkIf (n - n / 10 * 10 == 3) { services.${name n} = { port = mkForce (2000 + n); user = "special"; }; })
    ];
  };
  shared = {
    options.names = mkOption { type = types.listOf types.str; default = [ ]; };
    options.files = mkOption {
      default = { };
      type = types.attrsOf (types.submodule ({ name, ... }: {
        options.path = mkOption { type = types.str; default = name; };
        options.text = mkOption { type = types.lines; };
        options.mode = mkOption { type = types.str; default = "0755"; };
      }));
    };
  };
in
(evalModules { modules = [ shared ] ++ genList module count; }).config

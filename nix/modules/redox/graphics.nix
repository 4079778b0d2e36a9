# The graphical environment, the way the tree itself sets it up. It has no file and no package of its own.
{ lib, ... }:

let
  inherit (lib) mkOption types;
in
{
  options.graphics = {
    enable = lib.mkEnableOption "the graphical environment: what the tree's `graphics.configuration` adds to the system's own. The larger image size of both counts";
    configuration = mkOption {
      type = types.str;
      default = "desktop-minimal";
      description = "The tree's configuration with Orbital and what it needs.";
    };
  };
}

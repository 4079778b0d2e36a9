# Conditions that a system must meet, and remarks about it.
{ lib, ... }:

let
  inherit (lib) mkOption types;
in
{
  options = {
    assertions = mkOption {
      type = types.listOf (types.submodule {
        options.assertion = mkOption { type = types.bool; description = "What must be true."; };
        options.message = mkOption { type = types.str; description = "The error where it is not."; };
      });
      default = [ ];
      example = [ { assertion = false; message = "this system needs …"; } ];
      description = "Conditions that must hold before anything is built. All that do not are one error.";
    };
    warnings = mkOption {
      type = types.listOf types.str;
      default = [ ];
      description = "Remarks printed when the system is evaluated.";
    };
  };
}

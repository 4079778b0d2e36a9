# Drivers for PCI devices. Those of upstream's `base` package are there anyhow, and so are those in its initfs.
{ config, lib, ... }:

let
  inherit (builtins) attrNames concatStringsSep map match toJSON;
  inherit (lib) mkOption types;

  # Before there were units, all of init's world was in /etc.
  folder = if config.init.format == "units" then "/usr/lib/pcid.d" else "/etc/pcid.d";
  byte = types.nullOr (types.ints.between 0 255);
  device = types.ints.between 0 65535;
  vendor = {
    check = name: match "0x[0-9a-f]{4}" name != null;
    expected = "vendors as `0x8086`, in small letters";
  };

  driverType = types.submodule ({ name, ... }: {
    options = {
      name = mkOption { type = types.singleLineStr; default = name; defaultText = "the set's name"; description = "What the log calls it."; };
      class = mkOption { type = byte; default = null; description = "PCI class that a device must have; null: any."; };
      subclass = mkOption { type = byte; default = null; description = "PCI subclass, as `class`."; };
      interface = mkOption { type = byte; default = null; description = "PCI programming interface, as `class`."; };
      ids = mkOption {
        type = types.attrsWith { inner = types.listOf device; name = vendor; };
        default = { };
        example = { "0x8086" = [ 4110 4367 ]; };
        description = "Device ids by vendor that a device must have one of; none: any.";
      };
      command = mkOption { type = types.listOf types.nonEmptyStr; example = [ "e1000d" ]; description = "The driver and its arguments; a name is looked for in `/usr/lib/drivers`."; };
    };
  });

  line = key: value: lib.optionalString (value != null) "${key} = ${toJSON value}\n";
  text = driver: "[[drivers]]\n"
    + line "name" driver.name + line "class" driver.class + line "subclass" driver.subclass + line "interface" driver.interface
    + lib.optionalString (driver.ids != { })
      "ids = { ${concatStringsSep ", " (map (id: "${id} = ${toJSON driver.ids.${id}}") (attrNames driver.ids))} }\n"
    + line "command" driver.command;
in
{
  options.hardware = {
    pciDrivers = mkOption {
      type = types.attrsWith {
        inner = driverType;
        name = { check = name: match "[A-Za-z0-9._-]+" name != null; expected = "letters, digits, `.`, `_` and `-`"; };
      };
      default = { };
      description = "Which program drives which PCI devices, beside what packages say. The name of a package's own file replaces it.";
    };
    disabledDrivers = mkOption {
      type = types.listOf (types.strMatching "no slash" "[^/]+");
      default = [ ];
      example = [ "xhcid" ];
      description = "Files of packages in `pcid.d`, without `.toml`, that start nothing.";
    };
  };
  config.files = lib.mkMerge [
    (builtins.listToAttrs (lib.mapAttrsToList
      (name: driver: lib.nameValue "${folder}/${name}.toml" { text = text driver; postinstall = true; })
      config.hardware.pciDrivers))
    # No device has the vendor 0xffff, which is what an empty slot answers.
    (builtins.listToAttrs (map
      (name: lib.nameValue "${folder}/${name}.toml" {
        text = text { name = "${name}, disabled"; class = null; subclass = null; interface = null; ids."0xffff" = [ 65535 ]; command = [ "true" ]; };
        postinstall = true;
      })
      config.hardware.disabledDrivers))
  ];
}

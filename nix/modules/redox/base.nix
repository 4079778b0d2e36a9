# What a configuration of the tree says, as definitions that anything in a module goes before. It adds nothing.
{ config, lib, redox, ... }:

let
  inherit (builtins) groupBy head mapAttrs;
  inherit (lib) mkOption types;

  base = config.build.base;
  weak = lib.mkOverride lib.priorities.base;
  # One definition per key the set has, under the option's name.
  defined = names: set: builtins.listToAttrs (lib.mapAttrsToList
    (key: option: lib.nameValue option (lib.mkIf (set ? ${key}) (weak set.${key})))
    names);
  general = base.general or { };
  extension = base.rednix or { };

  file = entry:
    let
      content =
        if entry.directory or false then { directory = weak true; }
        else if entry.symlink or false then { symlink = weak (entry.data or ""); }
        else { text = weak (entry.data or ""); };
      kept = lib.filterAttrs (key: _: redox.fileKeys ? ${key}) entry;
    in
    content // builtins.listToAttrs (lib.mapAttrsToList (key: value: lib.nameValue redox.fileKeys.${key} (weak value)) kept);
in
{
  _file = redox.baseLabel;

  options.build.base = mkOption {
    type = types.raw;
    internal = true;
    readOnly = true;
    description = "The configurations of the tree that modules build on, merged.";
  };

  config = {
    build.base =
      if !config.graphics.enable then redox.base
      else if !(redox.isConfiguration config.graphics.configuration) then throw
        ("`graphics.enable` needs the configuration `${config.graphics.configuration}`, which the tree does not have"
          + redox.hint "set `graphics.configuration` to one with a graphical environment; there are: ${builtins.concatStringsSep ", " redox.configurations}")
      else redox.addConfiguration redox.base (redox.load config.graphics.configuration);

    packages = mapAttrs (_: weak) (base.packages or { });
    files = mapAttrs (_: file) (redox.effectiveFiles (base.files or [ ]));
    users = mapAttrs (_: user: defined redox.userKeys user) (base.users or { });
    groups = mapAttrs (_: group: defined { gid = "gid"; members = "members"; } group) (base.groups or { });
    boot = defined
      {
        filesystem_size = "imageSize";
        efi_partition_size = "espSize";
        live_disk = "live";
        write_bootloader = "loaderFile";
      }
      general
    // defined { loader = "loader"; bios = "bios"; virtio = "virtio"; } extension
    // {
      partitions = lib.mkIf (general ? skip_partitions) (weak (!general.skip_partitions));
      initfs = lib.mkIf (extension ? initfs) {
        enable = weak true;
        format = lib.mkIf (extension.initfs ? format) (weak extension.initfs.format);
        files = mapAttrs (_: weak) (extension.initfs.files or { });
      };
    };
  };
}

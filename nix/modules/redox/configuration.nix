# Everything together, in the form that the tree's own configurations have after their includes are merged.
{ config, lib, ... }:

let
  inherit (builtins) removeAttrs;
  inherit (lib) mkOption types;
  base = config.build.base;
  boot = config.boot;
  given = set: lib.filterAttrs (_: value: value != null) set;

  # Nobody can be asked while an image is built.
  general = lib.optionalAttrs (base == { }) { prompt = false; } // removeAttrs (base.general or { }) [ "filesystem_size" "efi_partition_size" "live_disk" "write_bootloader" "skip_partitions" ] // given {
    filesystem_size = boot.imageSize;
    efi_partition_size = boot.espSize;
    live_disk = boot.live;
    write_bootloader = boot.loaderFile;
    skip_partitions = if boot.partitions == null then null else !boot.partitions;
  };
  extension = removeAttrs (base.rednix or { }) [ "loader" "bios" "virtio" "initfs" ]
    // given { inherit (boot) loader bios virtio; }
    // lib.optionalAttrs boot.initfs.enable { initfs = given { inherit (boot.initfs) format; files = if boot.initfs.files == { } then null else boot.initfs.files; }; };
in
{
  options.build.configuration = mkOption {
    type = types.raw;
    internal = true;
    readOnly = true;
    description = "The merged configuration.";
  };
  config.build.configuration = removeAttrs base [ "rednix" ] // {
    inherit general;
    inherit (config) packages;
    inherit (config.build) files users groups;
  } // lib.optionalAttrs (extension != { }) { rednix = extension; };
}

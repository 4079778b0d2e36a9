# Loader, sizes and kind of the disk image. Sizes are in MiB.
{ config, lib, redox, ... }:

let
  inherit (lib) mkIf mkOption types;
  own = config.boot;
  size = low: types.nullOr (types.ints.between low 1048576);
  # Before the ESP there is one MiB, and the last one has the second partition table.
  frame = 2;
in
{
  options.boot = {
    loader = mkOption {
      type = types.nullOr (types.addCheck types.str "a package of the tree" redox.isPackage);
      default = null;
      description = "Package with the loaders; null: as the tree's configuration has it, which is `bootloader` where it says nothing.";
    };
    bios = mkOption { type = types.nullOr types.bool; default = null; description = "Whether the image has the package's BIOS loader too; null: it has."; };
    live = mkOption { type = types.nullOr types.bool; default = null; description = "A live image: its loaders copy the whole file system into memory."; };
    loaderFile = mkOption { type = types.nullOr types.nonEmptyStr; default = null; example = "redox-live.efi"; description = "Give the UEFI loader beside the image too, under this name."; };
    imageSize = mkOption { type = size 32; default = null; example = 512; description = "Size of the whole image; null: as large as its contents need."; };
    filesystemSize = mkOption { type = size 16; default = null; example = 256; description = "Size of RedoxFS within the image; another way to say `imageSize`."; };
    espSize = mkOption { type = size 1; default = null; example = 2; description = "Size of the EFI system partition; null: 1."; };
    partitions = mkOption { type = types.nullOr types.bool; default = null; description = "False makes the whole image RedoxFS: no partition table and no loaders."; };
    virtio = mkOption {
      type = types.nullOr types.bool;
      default = null;
      description = "Add drivers for modern virtio disks and network cards to the initfs that `base` brings; null: as the tree's configuration has it, which is without. Upstream's drive transitional ones only.";
    };
    initfs = {
      enable = mkOption { type = types.bool; default = false; description = "Make an initfs of the files below. Upstream's `base` package brings its own."; };
      format = mkOption { type = types.nullOr (types.enum [ "current" "old" ]); default = null; description = "Layout of the initfs; `\"old\"` is that of upstream before April 2026."; };
      files = mkOption { type = types.attrsOf types.str; default = { }; example = { "etc/motd" = "Welcome.\n"; }; description = "Text files by their paths in the initfs."; };
    };
  };

  config = {
    boot.imageSize = mkIf (own.filesystemSize != null) (own.filesystemSize
      + (if own.partitions == false then 0 else frame + (if own.espSize == null then 1 else own.espSize)));
  };
}

# The machine that `rednix run` starts for the system. Options of the command line go before it; the image does not
# depend on it.
{ config, lib, ... }:

let
  inherit (lib) mkOption types;
  own = config.virtualisation;
  word = values: description: mkOption { type = types.nullOr (types.enum values); default = null; inherit description; };
in
{
  options = {
    virtualisation = {
      vmm = mkOption { type = types.enum [ "qemu" "microvm" ]; default = "qemu"; description = "The program that runs the machine; `\"microvm\"` is QEMU's machine without firmware."; };
      memory = mkOption { type = types.nullOr (types.ints.between 64 1048576); default = null; example = 2048; description = "Memory in MiB; null: 1024."; };
      cpus = mkOption { type = types.nullOr (types.ints.between 1 255); default = null; description = "Virtual processors; null: 2."; };
      acceleration = word [ "auto" "kvm" "tcg" ] "KVM, emulation, or whichever works; null: `\"auto\"`.";
      firmware = word [ "uefi" "bios" "direct" ] "The machine's firmware, or none: the image is in memory and the kernel started from there; null: `\"uefi\"`.";
      disk = word [ "virtio" "nvme" "ahci" ] "The disk's controller; null: `\"virtio\"`.";
      display = word [ "none" "gtk" "headless" ] "A window, a video device that nobody sees, or no such device; null: `\"none\"`.";
      network = word [ "none" "user" ] "A network card behind the host, or none; null: `\"none\"`, or `\"user\"` where ports are forwarded.";
      forwards = mkOption {
        type = types.listOf (types.submodule {
          options.host = mkOption { type = types.port; description = "Port of the host's loopback."; };
          options.guest = mkOption { type = types.port; description = "Port of the guest."; };
        });
        default = [ ];
        example = [ { host = 8022; guest = 22; } ];
        description = "Ports of the host that lead into the guest.";
      };
      arguments = mkOption { type = types.listOf types.str; default = [ ]; description = "More arguments for the monitor, as they are."; };
    };
    build.machine = mkOption { type = types.raw; internal = true; readOnly = true; description = "The machine as the program takes it, without its image."; };
  };

  config.build.machine = lib.filterAttrs (_: value: value != null) {
    inherit (own) vmm cpus acceleration firmware disk display;
    memoryMib = own.memory;
    network =
      if own.network == "user" || (own.network == null && own.forwards != [ ]) then { user = { inherit (own) forwards; }; }
      else own.network;
    extraArguments = if own.arguments == [ ] then null else own.arguments;
  };

  config.assertions = [
    {
      assertion = own.network != "none" || own.forwards == [ ];
      message = "`virtualisation.forwards` needs a network, but `virtualisation.network` is \"none\"";
    }
  ];
}

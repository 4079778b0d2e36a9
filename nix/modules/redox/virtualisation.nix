# The machine that `rednix run` starts for the system. Options of the command line go before it; the image does not
# depend on it.
{ config, lib, ... }:

let
  inherit (lib) mkOption types;
  own = config.virtualisation;
  word = values: description: mkOption { type = types.nullOr (types.enum values); default = null; inherit description; };

  # The network with its card, as the program takes it.
  network =
    let
      kind =
        if own.network != null then own.network
        else if own.interface != null then "tap"
        else if own.bridge != null then "bridge"
        else if own.forwards != [ ] then "user"
        else null;
      card = lib.optionalAttrs (own.card != null) { inherit (own) card; };
    in
    if kind == "user" then { user = { inherit (own) forwards; } // card; }
    else if kind == "tap" then { tap = { inherit (own) interface; } // card; }
    else if kind == "bridge" then { bridge = { name = own.bridge; } // card; }
    else kind;
in
{
  options = {
    virtualisation = {
      vmm = mkOption { type = types.enum [ "qemu" "microvm" "cloud-hypervisor" "firecracker" "kvmtool" ]; default = "qemu"; description = "The program that runs the machine; `\"microvm\"` is QEMU's machine without firmware."; };
      memory = mkOption { type = types.nullOr (types.ints.between 64 1048576); default = null; example = 2048; description = "Memory in MiB; null: 1024."; };
      cpus = mkOption { type = types.nullOr (types.ints.between 1 255); default = null; description = "Virtual processors; null: 2."; };
      architecture = word [ "x86_64" "i586" "aarch64" "riscv64" ] "The machine's processor; null: that of the target.";
      acceleration = word [ "auto" "kvm" "tcg" ] "KVM, emulation, or whichever works; null: `\"auto\"`.";
      firmware = word [ "uefi" "bios" "direct" ] "The machine's firmware, or none: the image is in memory and the kernel started from there; null: `\"uefi\"`, for i586 `\"bios\"`.";
      disk = word [ "none" "virtio" "virtioModern" "nvme" "ahci" "ide" "usb" ] "The disk's controller; null: one that the drivers of the architecture know, and no disk where the image is in memory.";
      persist = mkOption { type = types.nullOr types.str; default = null; example = "/home/me/redox.layer"; description = "File that keeps what the machine writes to its disk, from one run to the next; null: it goes with the machine."; };
      display = word [ "none" "gtk" "sdl" "vnc" "headless" ] "A window, a screen over VNC on port 5900 of the host's loopback, a video device that nobody sees, or no such device; null: `\"none\"`.";
      resolution = mkOption { type = types.nullOr (types.strMatching "a width and a height, as in `1280x800`" "[0-9]+x[0-9]+"); default = null; example = "1280x800"; description = "Size of the screen that firmware and loader are offered."; };
      usb = mkOption { type = types.nullOr types.bool; default = null; description = "A USB controller with keyboard and tablet; null: where a screen is shown."; };
      audio = word [ "hda" "ac97" ] "A sound card, silent on the host (`rednix run --audio CARD=OUTPUT` makes it heard); null: none.";
      network = word [ "none" "user" "tap" "bridge" ] "A network behind the host, the interface or bridge below, or none; null: what the options below ask for.";
      interface = mkOption { type = types.nullOr types.str; default = null; example = "tap0"; description = "Interface of the host, there already, that is the machine's network."; };
      bridge = mkOption { type = types.nullOr types.str; default = null; example = "br0"; description = "Bridge of the host, there already, that the machine joins."; };
      card = word [ "e1000" "rtl8139" "virtio" "virtioModern" ] "The network card; null: what drivers of Redox know, or the only one that the monitor has.";
      forwards = mkOption {
        type = types.listOf (types.submodule {
          options.host = mkOption { type = types.port; description = "Port of the host's loopback."; };
          options.guest = mkOption { type = types.port; description = "Port of the guest."; };
        });
        default = [ ];
        example = [ { host = 8022; guest = 22; } ];
        description = "Ports of the host that lead into the guest.";
      };
      shares = mkOption {
        type = types.listOf (types.submodule {
          options.folder = mkOption { type = types.str; description = "Folder of the host, a whole path."; };
          options.tag = mkOption { type = types.str; description = "What the guest knows it by."; };
          options.readOnly = mkOption { type = types.bool; default = false; description = "Whether the guest may only read."; };
        });
        default = [ ];
        example = [ { folder = "/home/me/share"; tag = "share"; } ];
        description = "Folders of the host that the guest can mount. Redox has no driver for them yet.";
      };
      arguments = mkOption { type = types.listOf types.str; default = [ ]; description = "More arguments for the monitor, as they are."; };
    };
    build.machine = mkOption { type = types.raw; internal = true; readOnly = true; description = "The machine as the program takes it, without its image."; };
  };

  config.build.machine = lib.filterAttrs (_: value: value != null) {
    inherit (own) vmm cpus architecture acceleration firmware disk persist resolution usb;
    inherit network;
    memoryMib = own.memory;
    display = if own.display == "vnc" then { vnc.port = 5900; } else own.display;
    audio = if own.audio == null then null else { card = own.audio; };
    shares = if own.shares == [ ] then null else own.shares;
    extraArguments = if own.arguments == [ ] then null else own.arguments;
  };

  config.assertions = [
    {
      assertion = own.network == null || own.network == "user" || own.forwards == [ ];
      message = "`virtualisation.forwards` needs the network \"user\", but `virtualisation.network` is \"${toString own.network}\"";
    }
    {
      assertion = own.network != "tap" || own.interface != null;
      message = "`virtualisation.network` is \"tap\", but `virtualisation.interface` names no interface";
    }
    {
      assertion = own.network != "bridge" || own.bridge != null;
      message = "`virtualisation.network` is \"bridge\", but `virtualisation.bridge` names no bridge";
    }
  ];
}

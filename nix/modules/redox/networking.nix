# Name and addresses of the machine. Which driver serves its card is the hardware's affair.
{ config, lib, redox, ... }:

let
  inherit (builtins) bitAnd concatStringsSep genList;
  inherit (lib) mkDefault mkIf mkOption types;
  own = config.networking;

  octet = "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])";
  address = types.strMatching "an IPv4 address" "${octet}[.]${octet}[.]${octet}[.]${octet}";
  # 24 → 255.255.255.0
  netmaskOf = bits:
    let
      ones = n: if n <= 0 then 0 else if n >= 8 then 255 else 256 - pow (8 - n);
      pow = n: if n == 0 then 1 else 2 * pow (n - 1);
    in
    concatStringsSep "." (genList (i: toString (ones (bits - 8 * i))) 4);

  isUnits = config.init.format == "units";
  runs = own.mode == "dhcp" || own.mode == "static";
  has = name: redox.isPackage name;
  net = key: value: mkIf (value != null) { "/etc/net/${key}".text = "${value}\n"; };
in
{
  options.networking = {
    hostname = mkOption {
      type = types.nullOr (types.strMatching "a host's name (letters, digits, `-`, `.`)" "[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?");
      default = null;
      example = "redox";
      description = "Name of the machine, for `/etc/hostname`. null: as the tree's configuration has it, as with all options here.";
    };
    mode = mkOption {
      type = types.nullOr (types.enum [ "dhcp" "static" "none" ]);
      default = null;
      description = "Where the address comes from: a DHCP server, the options below, or no network at all.";
    };
    address = mkOption { type = types.nullOr address; default = null; example = "192.168.1.20"; description = "The machine's address, for `/etc/net/ip`."; };
    prefixLength = mkOption { type = types.nullOr (types.ints.between 0 32); default = null; example = 24; description = "Size of the network in bits; another way to say `netmask`."; };
    netmask = mkOption {
      type = types.nullOr address;
      default = if own.prefixLength == null then null else netmaskOf own.prefixLength;
      defaultText = "that of `prefixLength`";
      example = "255.255.255.0";
      description = "The network's mask, for `/etc/net/ip_subnet`.";
    };
    gateway = mkOption { type = types.nullOr address; default = null; example = "192.168.1.1"; description = "The router, for `/etc/net/ip_router`."; };
    dns = mkOption { type = types.listOf address; default = [ ]; example = [ "9.9.9.9" ]; description = "Name servers, for `/etc/net/dns`."; };
  };

  config = {
    files = lib.mkMerge [
      (mkIf (own.hostname != null) { "/etc/hostname".text = own.hostname; })
      (net "ip" own.address)
      (net "ip_subnet" own.netmask)
      (net "ip_router" own.gateway)
      (net "dns" (if own.dns == [ ] then null else concatStringsSep "\n" own.dns))
    ];
    packages = mkIf (runs && has "netutils") { netutils = mkDefault { }; };
    # The names of the units are those of upstream's base package and configurations.
    services = mkIf (own.mode != null) (
      if isUnits then {
        dhcpd = { file = "10_dhcpd.service"; enable = own.mode == "dhcp"; }
          // lib.optionalAttrs (own.mode == "dhcp") { command = "dhcpd"; after = [ "10_smolnetd.service" ]; description = "Network configuration by DHCP"; };
      } // lib.optionalAttrs (own.mode == "none") { smolnetd = { file = "10_smolnetd.service"; enable = false; }; }
      else {
        net = { file = "10_net"; enable = runs; }
          // lib.optionalAttrs runs { text = "notify smolnetd\n" + lib.optionalString (own.mode == "dhcp") "nowait dhcpd\n"; };
      }
    );
    assertions = [
      {
        assertion = own.mode != "static" || (own.address != null && own.netmask != null);
        message = "`networking.mode = \"static\"` needs `networking.address`, and `networking.netmask` or `networking.prefixLength`";
      }
    ];
  };
}

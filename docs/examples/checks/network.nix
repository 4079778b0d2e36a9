# What must hold of a Redox system with netutils: addresses, names of the card's network, and an HTTP request from one
# machine to another.
#
#   rednix test ./network.nix --tree ~/redox --system ./system-with-netutils.nix
{ system ? "minimal", user ? "root", password ? "password", ... }:

let
  login = on: { inherit on; login = { inherit user password; }; timeout = 180; };
  machine = { inherit system; memoryMib = 1024; cpus = 1; };
in
{
  http = {
    machines = { client = machine; server = machine; };
    capture = true;
    timeout = 900;
    failOn = [ "panicked at" "KERNEL PANIC" ];
    steps = [
      (login "client")
      (login "server")
      { on = "client"; runUntil = "cat /scheme/netcfg/ifaces/eth0/addr/list"; output = "10.77.0.11"; timeout = 90; }
      { on = "server"; runUntil = "cat /scheme/netcfg/ifaces/eth0/addr/list"; output = "10.77.0.12"; timeout = 90; }
      { on = "client"; run = "ping -c 2 10.77.0.1"; timeout = 30; }
      { on = "client"; run = "ping -c 2 10.77.0.12"; timeout = 30; }
    ];
  };
}

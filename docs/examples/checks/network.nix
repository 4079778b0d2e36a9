# What must hold between machines of a Redox system with netutils: addresses by DHCP, echo, and a file over HTTP.
#
#   rednix test ./network.nix --tree ~/redox
#
# `base` names a configuration. netutils and the small HTTP program beside this file are put on top of it.
{ rednix, base ? "minimal", user ? "root", password ? "password", ... }:

let
  system = rednix.system {
    config = base;
    name = "network-check";
    modules = [
      {
        packages = [ "netutils" "netdb" "http" ];
        # DHCP says it too, but the network daemon of early 2026 does not start without a gateway written down.
        networking = { mode = "dhcp"; gateway = "10.77.0.1"; dns = [ "10.77.0.1" ]; };
        files."/srv/greeting".text = "hello from another machine\n";
      }
    ];
    overlays = [ (final: prev: { http = { source = ./http; build.template = "cargo"; }; }) ];
  };
  machine = { inherit system; memoryMib = 1024; cpus = 1; };
  login = on: { inherit on; login = { inherit user password; }; timeout = 240; };
  address = on: text: { inherit on; runUntil = "cat /scheme/netcfg/ifaces/eth0/addr/list"; output = text; timeout = 90; };
in
{
  network = {
    machines = { client = machine; server = machine; };
    capture = true;
    timeout = 1200;
    failOn = [ "panicked at" "KERNEL PANIC" ];
    steps = [
      (login "client")
      (login "server")
      (address "client" "10.77.0.11/24")
      (address "server" "10.77.0.12/24")
      { on = "client"; run = "ping -c 2 10.77.0.1"; timeout = 60; }
      { on = "client"; run = "ping -c 2 10.77.0.12"; timeout = 60; }
      { on = "server"; command = { send = "http serve 0.0.0.0:8080 /srv"; expect = "serving /srv"; }; }
      { on = "client"; run = "http get 10.77.0.12:8080 /greeting"; output = "hello from another machine"; timeout = 60; }
      { on = "client"; run = "http get 10.77.0.12:8080 /missing"; status = 1; timeout = 60; }
      { on = "server"; waitFor = "GET /missing HTTP/1.0 404 Not Found"; }
    ];
  };
}

# The embedded system with a name of its own and a second file, run in a machine with less memory.
#
#   rednix run ./system.nix
{ rednix, ... }:

rednix.system {
  config = "probe";
  modules = [
    {
      networking.hostname = "example";
      files."/etc/motd".append = true;
      files."/etc/motd".text = "It is described in Nix.\n";
      files."/etc/notes/first" = { text = "first\n"; mode = "0600"; };
      virtualisation = { memory = 256; cpus = 1; };
    }
  ];
}

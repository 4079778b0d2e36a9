# What must hold of every Redox system that has a console, ion, userutils and uutils:
#
#   rednix test ./redox.nix --tree ~/redox --system minimal
{ rednix, system ? "minimal", user ? "root", password ? "password", ... }:

let
  machine = { memoryMib = 1024; cpus = 2; };
  login = { login = { inherit user password; }; timeout = 180; };
  failOn = [ "panicked at" "KERNEL PANIC" ];
  timeout = 900;
in
{
  # The console takes a login, and the shell runs commands whose status and output come back.
  login = {
    inherit system machine failOn timeout;
    steps = [
      login
      { run = "uname -a"; output = "Redox"; }
      { run = "id"; output = "root"; }
      { run = "ls /"; output = "usr"; }
      { run = "ls /no/such/folder"; status = 2; }
      { run = "cat /etc/hostname"; output = { regex = "[a-z]+"; }; }
    ];
  };

  # A user is made, and can log in after the machine has started again.
  users = {
    inherit system machine failOn timeout;
    steps = [
      login
      { run = "useradd -m -s /usr/bin/ion ada"; }
      { run = "id ada"; status = null; }
      { run = "cat /etc/passwd"; output = "ada"; }
      { run = "ls /home"; output = "ada"; }
    ];
  };

  # Files go in and come out whole.
  files = {
    inherit system machine failOn timeout;
    steps = [
      login
      { copyIn = { from = ./redox.nix; to = "/tmp/redox.nix"; }; timeout = 120; }
      { run = "wc -l /tmp/redox.nix"; output = "redox.nix"; }
      { copyOut = { from = "/tmp/redox.nix"; same = ./redox.nix; }; timeout = 120; }
    ];
  };

  # The system switches its machine off.
  shutdown = {
    inherit system machine failOn timeout;
    steps = [ login { shutdown = "shutdown"; timeout = 60; } ];
  };

  # The system resets its machine, and what was written before is there.
  reboot = {
    inherit system machine failOn timeout;
    steps = [
      login
      { run = "echo kept > /root/before"; }
      { reboot = "shutdown -r"; timeout = 60; }
      login
      { run = "cat /root/before"; output = "kept"; }
    ];
  };

  # The power goes while the disk is being written to: the file system is whole, what was written before is there.
  power-cut = {
    inherit system machine failOn timeout;
    steps = [
      login
      { run = "cp /usr/bin/ion /root/copy"; timeout = 60; }
      { run = "sha256sum /usr/bin/ion"; }
      { send = "for i in 1..200; cp /usr/bin/ion /root/copy-$i; end\r"; }
      { sleep = 2; }
      { powerCut = true; }
      { start = true; }
      login
      { run = "cmp /usr/bin/ion /root/copy || sha256sum /usr/bin/ion /root/copy"; timeout = 120; }
      { run = "ls /root"; output = "copy"; }
      { run = "echo written > /root/after"; }
      { run = "cat /root/after"; output = "written"; }
      { run = "rm -r /root/copy"; }
    ];
  };
}

# What must hold of every Redox system that has a console, ion, userutils and uutils:
#
#   rednix test ./redox.nix --tree ~/redox --system minimal
{ rednix, system ? "minimal", user ? "root", password ? "password", ... }:

let
  machine = { memoryMib = 1024; cpus = 1; };
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

  # A user is made, gets a password, and logs in.
  users = {
    inherit system machine failOn timeout;
    steps = [
      login
      { run = "useradd -m ada"; }
      { run = "cat /etc/passwd"; output = "ada"; }
      { run = "test -d /home/ada"; }
      { command = { send = "passwd ada"; expect = "new password: "; }; }
      { command = { send = "analytical"; expect = "confirm password: "; }; }
      # The shell's prompt again: what is typed before would be lost.
      { command = { send = "analytical"; expect = "# "; }; timeout = 180; }
      # In root's shell: systems of early 2026 ask for no other login on this console once its session ends.
      { send = "login\r"; }
      { login = { user = "ada"; password = "analytical"; }; timeout = 120; }
      { run = "id -un"; output = { regex = "^ada$"; }; }
      { run = "echo mine > /home/ada/file"; }
      { run = "cat /home/ada/file"; output = "mine"; }
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

  # The power goes while the disk is written to. The file system is whole after that: what was written before is
  # there, everything can be read, and it takes new files.
  power-cut = {
    inherit system machine failOn timeout;
    steps = [
      login
      { run = "cp /usr/bin/ion /root/copy"; timeout = 120; }
      { run = "sha256sum /root/copy > /root/copy.sum"; timeout = 120; }
      { run = "sync"; status = null; }
      { sleep = 10; }
      { send = "for i in 1..200; cp /usr/bin/ion /root/copy-$i; end\r"; }
      { sleep = 5; }
      { powerCut = true; }
      { start = true; }
      login
      { run = "sha256sum -c /root/copy.sum"; output = "OK"; timeout = 120; }
      { run = "du -s /usr /etc /root"; timeout = 300; }
      { run = "echo written > /root/after"; }
      { run = "cat /root/after"; output = "written"; }
      { shutdown = "shutdown"; timeout = 60; }
    ];
  };
}

# What must hold of a Redox system with Orbital: its login is drawn and takes a user from the keyboard, and what is
# typed in the window after that is run.
#
#   rednix test ./desktop.nix --tree ~/redox
#
# The system is the one beside this file. For another, whose session is not a terminal, give `system` and `session`.
# What runs is asked over the serial console, where `root` logs in; pictures of the screens are in the results.
{ rednix, system ? ./desktop-terminal.nix, session ? "orbterm", user ? "user", password ? "", rootPassword ? "password"
, ... }:

let
  login = [
    { login = { user = "root"; password = rootPassword; }; timeout = 300; }
    { runUntil = "ps"; output = "orblogin"; timeout = 120; }
    { sleep = 5; }
    { screenshot = "login"; }
    # The first user's name is filled in; the cursor is where the password goes.
    { type = "${password}\n"; }
    { runUntil = "ps"; output = session; timeout = 120; }
    { sleep = 10; }
    { screenshot = "session"; }
  ];
  typing = [
    { type = "echo typed > /home/${user}/typed\n"; }
    { runUntil = "cat /home/${user}/typed"; output = { regex = "^typed$"; }; timeout = 60; }
    { type = "ls /\n"; }
    { sleep = 5; }
    { screenshot = "typed"; }
  ];
in
{
  desktop = {
    inherit system;
    machine = { memoryMib = 2048; cpus = 2; display = "headless"; resolution = "1280x800"; };
    failOn = [ "panicked at" "KERNEL PANIC" ];
    timeout = 1200;
    steps = login ++ (if session == "orbterm" then typing else [ ]) ++ [ { shutdown = "shutdown"; timeout = 90; } ];
  };
}

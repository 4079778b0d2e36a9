# Machine tests: each boots a system and talks to it. `rednix test` runs them all, `rednix test NAME` one.
{ lib, systems }:

{
  # The image boots, and every file in it is what the build put there, as the guest itself reads it.
  probe = {
    system = "probe";
    machine = { memoryMib = 256; cpus = 1; };
    timeout = 180;
    steps = [
      { waitFor = "probe> "; timeout = 120; }
      { send = "ls /\n"; expect = "usr"; }
      { send = "check\n"; expect = "all good"; timeout = 60; }
      { send = "exit 25\n"; expectExit = 51; }
    ];
  };
}

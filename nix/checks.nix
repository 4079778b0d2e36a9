# Machine tests: each boots a system and talks to it. `rednix test` runs them all, `rednix test NAME` one.
#
#   system    the configuration to boot
#   machine   what the virtual machine is like (memoryMib, cpus, disk, firmware, …)
#   steps     in order, each with exactly one action: waitFor, run, send, expectExit, …
#   failOn    text that fails the test whenever it appears
#
# Several machines, and all that a step can be: docs/testing-machines.md.
{ lib, systems }:

let
  # The image boots, and every file in it is what the build put there, as the guest itself reads it.
  probe = probeUntil "exit 25" 51;
  # The guest's last words, and what the machine's end is then.
  probeUntil = words: status: machine: {
    system = "probe";
    machine = { memoryMib = 256; cpus = 1; shell = "probe"; } // machine;
    timeout = 600;
    failOn = [ "panicked" "exception" ];
    steps = [
      { waitFor = "probe> "; timeout = 180; }
      { run = "ls /"; output = "usr"; }
      { run = "ls /no/such/folder"; status = 1; }
      # A KVM that is itself emulated takes its time for hashes.
      { run = "check"; output = { regex = "check: [1-9][0-9]* files, [0-9]+ bytes, all good"; }; timeout = 300; }
      { send = "${words}\n"; }
      { expectExit = status; }
    ];
  };
  # Reads the image from the disk in a memory slot, and no longer the one in memory.
  slotDisk = words: status: machine:
    let usual = probeUntil words status (machine // { disk = "virtioModern"; });
    in
    usual
    // {
      steps = [
        { waitFor = "probe> "; timeout = 180; }
        { run = "use 1"; output = "virtio-blk (memory slot)"; }
      ] ++ builtins.tail usual.steps;
    };
in
{
  probe = probe { };
  probe-bios = probe { firmware = "bios"; };
  # Without firmware, the image in memory.
  probe-direct = probe { firmware = "direct"; };
  probe-microvm = probe { vmm = "microvm"; };
  # Monitors without a device that takes a status: the guest ends the machine as it can there.
  probe-cloud-hypervisor = probeUntil "poweroff" 0 { vmm = "cloud-hypervisor"; firmware = "direct"; };
  probe-firecracker = probeUntil "reboot" 0 { vmm = "firecracker"; };
  probe-kvmtool = probeUntil "reboot" 0 { vmm = "kvmtool"; };

  # From a disk with nothing but modern registers.
  probe-modern-disk = probe { disk = "virtioModern"; };

  # A second copy of the image, in a memory slot beside the one in memory.
  probe-microvm-disk = slotDisk "exit 25" 51 { vmm = "microvm"; };
  probe-firecracker-disk = slotDisk "reboot" 0 { vmm = "firecracker"; };

  # The same image from another controller's point of view, and an orderly end.
  probe-poweroff = {
    system = "probe";
    machine = { memoryMib = 256; cpus = 2; };
    timeout = 240;
    failOn = [ "panicked" "exception" ];
    steps = [
      { waitFor = "probe> "; timeout = 180; }
      { command = { send = "cat /etc/motd"; expect = "built by rednix"; }; }
      { waitFor = "probe> "; }
      { send = "poweroff\n"; }
      { expectExit = 0; }
    ];
  };
}

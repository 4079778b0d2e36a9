# What a system with drivers for modern virtio devices adds to the initfs of its package `base`: the daemon, the lines by
# which the PCI daemon finds it, and the start of those for memory slots. The first of several paths that is there gets
# the text; upstream's initfs moved its tables in April 2026.
{ drivers }:

let
  program = "/scheme/initfs/lib/drivers/virtiod";
  match = name: device: ''

    [[drivers]]
    name = "${name}"
    vendor = 0x1AF4
    device = ${device}
    command = ["${program}"]
  '';
in
[
  { paths = [ "lib/drivers/virtiod" ]; source = "${drivers}/usr/lib/drivers/virtiod"; executable = true; }
  {
    paths = [ "etc/pcid/initfs.toml" "lib/pcid.d/initfs.toml" ];
    append = match "virtio-blk (modern)" "0x1042" + match "virtio-net (modern)" "0x1041";
  }
  # After the PCI devices. An init of units has no such script and drives no slots.
  { paths = [ "etc/init_drivers.rc" ]; append = "notify ${program} slots\n"; optional = true; }
]

# cbindgen, which writes relibc's headers, from its published crate: Debian's release is older than the attributes
# relibc uses and would leave out every function, without a word. `cbindgen.lock.json` holds the crate's hash and what
# its own Cargo.lock names.
{ lib, derive, debian, cargo }:

let
  pin = builtins.fromJSON (builtins.readFile ./cbindgen.lock.json);
  locks = [ { crates = map lib.crateOfTriple pin.crates; git = [ ]; } ];
in
# A layer of a build's root.
derive.bashBuild {
  name = "cbindgen";
  root = debian.root "rust";
  script = "${./builder/crate.sh}";
  environment = {
    source = derive.builtinBuild "unpack" {
      name = "cbindgen-source";
      src = derive.fetchurl {
        name = "cbindgen-${pin.version}.crate";
        url = "crate:cbindgen/${pin.version}";
        inherit (pin) sha256;
      };
      strip = 1;
    };
    vendor = cargo.vendor { inherit locks; };
    cargoConfig = cargo.config { inherit locks; directory = "/build/vendor"; };
  };
}

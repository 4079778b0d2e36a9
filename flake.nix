{
  description = "rednix's library, and a system written with it";

  outputs = { self }:
    let
      system = "x86_64-linux";
      rednix = import ./nix { inherit system; };
      systems = {
        probe = rednix.system "probe";
        example = rednix.systemOf ./docs/examples/system.nix;
      };
    in
    {
      # What `rednix run .#example` boots; `nix build .#example` evaluates to the same derivation.
      redoxConfigurations = systems;
      packages.${system} = {
        default = systems.probe.image;
        inherit (rednix.hostPackages) redoxfs redox_installer;
      } // builtins.mapAttrs (_: made: made.image) systems;
      # The library with everything in it, as `.#` is in a checkout.
      legacyPackages.${system} = rednix;
      lib = { inherit (rednix) system systemOf modules; };
      templates.default = {
        path = ./docs/examples/flake;
        description = "A system of one's own";
      };
    };
}

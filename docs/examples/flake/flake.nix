{
  description = "A Redox system of my own";

  # Another address of rednix: a checkout (`path:/src/rednix`), or a repository (`git+https://…`).
  inputs.rednix.url = "git+file:///src/rednix";

  outputs = { self, rednix }: {
    redoxConfigurations.mine = rednix.lib.system {
      config = "probe";
      modules = [{ networking.hostname = "mine"; }];
    };
  };
}

# The smallest system with Orbital: a login, and a terminal in the place of launcher and background.
{ rednix, base ? "minimal", ... }:

rednix.system {
  config = base;
  name = "desktop-terminal";
  modules = [
    {
      graphics.enable = true;
      packages = { orbutils-background = "ignore"; orbutils-launcher = "ignore"; };
      files."/usr/lib/init.d/20_orbital".text = ''
        export VT 3
        nowait orbital orblogin orbterm
        unset VT
      '';
      virtualisation = { memory = 2048; display = "headless"; resolution = "1280x800"; };
    }
  ];
}

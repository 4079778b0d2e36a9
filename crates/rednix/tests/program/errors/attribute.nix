let
  system = {
    hostName = "probe";
    packages = [ ];
  };
in
{
  name = "x-${system.hostname}";
}

let
  make = { name, version ? "1", source }: "${name}-${version}-${source}";
in
{
  hello = make {
    name = "hello";
    sorce = "./src";
  };
}

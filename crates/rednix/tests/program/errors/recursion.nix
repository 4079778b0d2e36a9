let
  settings = rec {
    base = derived + 1;
    derived = scale base;
  };
  scale = value: value * 2;
in
{
  result = settings.base;
}

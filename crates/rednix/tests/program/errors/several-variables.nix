let
  first = 1;
in
{
  a = firts;
  b = first;
  c = nowhere;
  d = { inherit missing; };
}

let
  colour = "red";
  size = 3;
in
{
  shown = color;
}

let
  check = value: if value > 10 then throw "a disk of ${toString value} is too large" else value;
in
{
  disks = map check [ 1 20 ];
}

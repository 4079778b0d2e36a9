{
  count = builtins.lenght [ 1 2 ];
}

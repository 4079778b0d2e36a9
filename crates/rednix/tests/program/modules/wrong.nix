{
  numbers = [ 2 ];
  imports = [
    ({ ... }: {
      numbers = "three";
    })
  ];
}

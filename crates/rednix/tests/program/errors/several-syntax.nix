{
  one = 1 +;
  two = [ 1 2 ;
  three = unknwon;
  four = { a = 1 };
  five = 5;
}

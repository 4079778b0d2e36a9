# head
{ lib, stdenv ? null, ... }@args:
let
  a = 1; # one
  b = {
    x = 1;
    y.z = [
      1
      2
      3
    ];
  };

  /* doc
    more */
  f = x: y: x + y;
  g = { a, b }: a;
in
{
  buildInputs = [ foo ];
  deps = with lib; [
    a
    b
    c
  ];
  inherit a b;
  inherit (lib)
    aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb
    ccccccccccccccccccccccc
    ;
  cond =
    if a == 1 then
      "x"
    else if b then
      "y"
    else
      ''z'';
  s = ''
    hello ${toString a}
      world

    end
  '';
  call =
    lib.mapAttrs
      (name: value: {
        inherit name value;
        q = 1;
      })
      set;
  call2 = mkDerivation {
    pname = "x";
    version = "1";
  };
  up =
    { a = 1; }
    // lib.optionalAttrs (a == 1) {
      b = 2;
      c = 3;
    }
    // {
      d = 4;
      eeeeeeeeeeeeeeeeeeeeeee = ffffffffffffffffff;
    };
  long = builtins.concatStringsSep "," (
    map (x: "very long string ${x}") [
      "aaaaaaaaaaaaaaaaaaaaaaaaa"
      "bbbbbbbbbbbbbbbbbbbbbbbbb"
    ]
  );
  # trailing
}

let
  version = "2";
in
assert version == "3";
version

# JSON both ways, and XML.
let
  inherit (builtins) concatStringsSep fromJSON genList hashString length toJSON toXML;
  tree = depth: if depth == 0 then [ 1 2.5 true null "leaf \"quoted\"\n" ] else { left = tree (depth - 1); right = tree (depth - 1); name = "node${toString depth}"; };
  records = genList (n: { id = n; name = "record ${toString n}"; tags = [ "a" "b" "c${toString n}" ]; nested = { x = n * 1.5; y = null; z = n > 100; }; }) 15000;
  text = toJSON records;
  read = fromJSON text;
in
{
  size = builtins.stringLength text;
  same = read == records;
  again = hashString "sha256" (toJSON read);
  deep = hashString "sha256" (toJSON (fromJSON (toJSON (tree 12))));
  xml = hashString "sha256" (toXML (genList (n: builtins.elemAt records n) 2000));
}

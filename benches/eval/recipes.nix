# The .drv paths of all recipes of a tree, through this project's library. Recipes that cannot be evaluated are
# counted, not hidden: their number is part of the output. With `each`, the path of each, null where there is none.
{ tree, lock, each ? false }:
let
  library = import ../../nix { inherit tree lock; };
  paths = builtins.mapAttrs (_: package: let tried = builtins.tryEval package.drvPath; in if tried.success then builtins.unsafeDiscardStringContext tried.value else null) library.packages;
  made = builtins.filter (path: path != null) (builtins.attrValues paths);
in
if each then paths else {
  made = builtins.length made;
  failed = builtins.length (builtins.attrValues paths) - builtins.length made;
  paths = builtins.hashString "sha256" (builtins.concatStringsSep "\n" made);
}

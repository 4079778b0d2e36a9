# The packages of the image. Which recipes there are is the tree's affair.
{ lib, redox, ... }:

let
  inherit (lib) mkOption types;
  rules = [ "source" "local" "binary" "ignore" ];
  ruleType = types.either (types.enum rules) (types.attrs // { description = "a set, as upstream writes it (`{ }`: the default rule)"; });
  asRules = names: lib.genAttrs names (_: { });
in
{
  options.packages = mkOption {
    type = types.coercedTo (types.listOf types.str) asRules (types.attrsWith {
      inner = ruleType;
      name = {
        check = redox.isPackage;
        expected = "packages of the tree";
        near = redox.recipeNames;
      };
    }) // { description = "a list of package names, or a set from names to rules"; };
    default = { };
    example = { helix = { }; kibi = "ignore"; };
    description = ''
      Packages to put into the image, beside those of the tree's configuration: `[ "helix" "git" ]`, or a set with a
      rule for each. The rule `"ignore"` leaves a package out, also where others depend on it; the other rules are
      upstream's and make no difference here. Optional packages have their suffix: `"llvm21.dev"`.
    '';
  };
}

# A recipe's template → the text of its build script. The functions it calls are in builder/prelude.sh.
{ lib }:

let
  inherit (builtins) attrNames concatStringsSep filter map;

  templates = {
    none = recipe: null;
    custom = recipe: recipe.build.script or "";
    cargo = recipe:
      let
        build = recipe.build;
        array = name: values: lib.optionalString (values != [ ]) "${name}+=(${concatStringsSep " " (map (v: "\"${v}\"") values)})";
        packages = build.cargopackages or [ ];
        examples = build.cargoexamples or [ ];
      in
      concatStringsSep "\n" (filter (line: line != "") [
        "DYNAMIC_INIT"
        (lib.optionalString (build.clearlocked or false) "COOKBOOK_CARGO_FLAGS=()")
        (array "COOKBOOK_CARGO_FLAGS" (build.cargoflags or [ ]))
        (lib.optionalString (build ? cargopath) "COOKBOOK_CARGO_PATH=\"${build.cargopath}\"")
        (if packages == [ ] && examples == [ ] then "cookbook_cargo" else "")
        (lib.optionalString (packages != [ ])
          "${if build.cargopackagesprefixed or false then "cookbook_cargo_packages_prefixed" else "cookbook_cargo_packages"} ${concatStringsSep " " packages}")
        (lib.optionalString (examples != [ ]) "cookbook_cargo_examples ${concatStringsSep " " examples}")
        ""
      ]);
  };

  templateText = name: recipe:
    let kind = recipe.build.template or "none";
    in (templates.${kind} or (throw
      "recipe `${name}` has template `${kind}`, which this cookbook cannot build; it knows: ${concatStringsSep ", " (attrNames templates)}")) recipe;

in
{
  known = attrNames templates;
  script = templateText;
}

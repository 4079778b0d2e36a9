# A recipe's template → the text of its build script. The functions it calls are in builder/prelude.sh.
#
# Flags are pasted inside double quotes on purpose: recipes write `${COOKBOOK_SYSROOT}` and `$(…)` into them, and
# bash is what expands those.
{ lib }:

let
  inherit (builtins) attrNames concatStringsSep filter isList isString map;

  text = lines: concatStringsSep "\n" (filter (line: line != "") lines) + "\n";

  # A list of strings of the build table, with an error that names the key.
  listOf = name: build: key:
    let value = build.${key} or [ ];
    in if isList value then value else throw "recipe `${name}`: `${key}` is not a list of strings";

  append = array: values:
    lib.optionalString (values != [ ]) "${array}+=(\n${concatStringsSep "\n" (map (value: "  \"${value}\"") values)}\n)";

  flagged = array: key: call: name: build: text [ "DYNAMIC_INIT" (append array (listOf name build key)) call ];

  cargo = name: build:
    let
      list = listOf name build;
      packages = list "cargopackages";
      examples = list "cargoexamples";
      # Trees of early 2026 and before have one string of flags, and another name for the path.
      words = lib.optionalString (isString (build.cargoflags or [ ])) " ${build.cargoflags}";
      path = build.cargopath or build.package_path or ".";
      prefixed = lib.optionalString (build.cargopackagesprefixed or false) "_prefixed";
    in
    text [
      "DYNAMIC_INIT"
      (lib.optionalString (build.clearlocked or false) "COOKBOOK_CARGO_FLAGS=()")
      (lib.optionalString (words == "") (append "COOKBOOK_CARGO_FLAGS" (list "cargoflags")))
      "COOKBOOK_CARGO_PATH=\"${path}\""
      (lib.optionalString (packages == [ ] && examples == [ ]) "cookbook_cargo${words}")
      (lib.optionalString (packages != [ ]) "cookbook_cargo_packages${prefixed} ${concatStringsSep " " packages}")
      (lib.optionalString (examples != [ ]) "cookbook_cargo_examples ${concatStringsSep " " examples}")
    ];

  python = name: build: text [
    "DYNAMIC_INIT"
    (lib.optionalString (build.legacysetup or false) "COOKBOOK_PYTHON_LEGACY_SETUP=1")
    (lib.optionalString (build ? pyprojectpath) "COOKBOOK_PYTHON_PYPROJECT_PATH=\"${build.pyprojectpath}\"")
    (append "COOKBOOK_PYTHON_PIP_FLAGS" (listOf name build "pipflags"))
    "cookbook_python"
  ];

  templates = {
    none = name: build: null;
    custom = name: build: build.script or (throw "recipe `${name}` has template `custom` and no `script`");
    configure = flagged "COOKBOOK_CONFIGURE_FLAGS" "configureflags" "cookbook_configure";
    cmake = flagged "COOKBOOK_CMAKE_FLAGS" "cmakeflags" "cookbook_cmake";
    meson = flagged "COOKBOOK_MESON_FLAGS" "mesonflags" "cookbook_meson";
    # Upstream's tool writes this one into a recipe itself, when a package is to be taken from its server.
    remote = name: build: throw
      "recipe `${name}` has template `remote`, which takes a package that somebody else built; everything is built from source here: give it a source and another template, or leave it out of the configuration";
    inherit cargo python;
  };
in
{
  known = attrNames templates;

  script = name: recipe:
    let
      build = recipe.build or { };
      kind = build.template or "none";
    in
    (templates.${kind} or (throw
      "recipe `${name}` has template `${kind}`, which this cookbook cannot build; it knows: ${concatStringsSep ", " (attrNames templates)}"))
      name
      build;
}

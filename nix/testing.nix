# Machine tests as values. What a test is written as (docs/testing-machines.md) becomes what the program runs: `data`
# without any store path, and the `images` of its machines in the order of their names.
{ lib, derive, systemOf }:

let
  inherit (builtins) attrNames attrValues isAttrs isFunction isPath mapAttrs;

  # Where a step was written, for errors. A step that a function made has the place of the function.
  positionOf = step:
    let
      names = attrNames step;
      position = if names == [ ] then null else builtins.unsafeGetAttrPos (builtins.head names) step;
    in
    if position == null then { } else { position = "${position.file}:${toString position.line}"; };

  # Files of the host stay where they are: nothing of them is copied into the store.
  plain = value:
    if isPath value then toString value
    else if isAttrs value then mapAttrs (_: plain) value
    else if builtins.isList value then map plain value
    else value;

  stepOf = step:
    if isAttrs step then positionOf step // plain step
    else throw "a step is an attribute set, such as { run = \"ls /\"; }";

  # `system` is a configuration's name, a file that gives a system, or a system; `image` a folder with disk.img.
  imageOf = test: name: machine:
    if machine ? image then machine.image
    else if machine ? system then (systemOf machine.system).image
    else throw "machine `${name}` of the test `${test}` has neither `system` nor `image`";
  machineOf = machine:
    let own = if machine ? system && !(machine ? image) then (systemOf machine.system).machine or { } else { };
    in plain (own // removeAttrs machine [ "system" "image" ]);

  normal = name: test:
    let
      short = test ? system || test ? image;
      machines =
        if short then { ${name} = builtins.intersectAttrs { system = null; image = null; } test // test.machine or { }; }
        else test.machines or (throw "the test `${name}` has neither `system` nor `machines`");
    in
    {
      data = removeAttrs test [ "system" "image" "machine" "machines" "steps" ] // {
        inherit name;
        machines = mapAttrs (_: machineOf) machines;
        steps = map stepOf (test.steps or (throw "the test `${name}` has no `steps`"));
      };
      images = attrValues (mapAttrs (imageOf name) machines);
      # The same as names: a derivation's, or a path of the host.
      sources = map
        (image: if image ? drvPath then builtins.unsafeDiscardStringContext image.drvPath else toString image)
        (attrValues (mapAttrs (imageOf name) machines));
    };

  # Without places: a test that moves in its file is the same test.
  timeless = data: data // { steps = map (step: removeAttrs step [ "position" ]) data.steps; };

  # A test for a flake's `checks`: a derivation, so that every Nix takes it there. What it builds is the test as data,
  # with the images it needs; `rednix flake check` runs it.
  machineTest = name: test:
    let inherit (normal name test) data images sources; in
    derive.builtinBuild "tree" {
      name = "machine-test-${lib.storeName name}";
      entries = [ { path = "test.json"; type = "file"; text = builtins.toJSON (timeless data // { inherit images; }); } ];
    } // { machineTest = { inherit data images sources; }; };
in
{
  inherit machineTest;
  # Tests by name, as values or made already → what the program runs.
  tests = mapAttrs (name: test: test.machineTest or (normal name test));
  # A file with tests: a set, or a function to one from the library and `system`, a name or a file.
  testsOf = { rednix, file, system ? null, arguments ? { } }:
    let
      loaded = import file;
      known = { inherit rednix; } // lib.optionalAttrs (system != null) { inherit system; } // arguments;
      given = if isFunction loaded then loaded known else loaded;
    in
    if isAttrs given && given ? steps then { ${lib.removeSuffix ".nix" (baseNameOf (toString file))} = given; }
    else if isAttrs given then given
    else throw "${toString file} gives no tests: it is neither a set of them nor a function to one";
  isTest = value: isAttrs value && (value ? machineTest || value ? steps);
}

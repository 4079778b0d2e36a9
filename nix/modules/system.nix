# `rednix.system { config; modules; … }`: modules on top of a configuration of the tree, evaluated to the same
# configuration that a file would give, and made into the same system.
{ lib, moduleSystem, machines, cookbook, arch, tree }:

let
  inherit (builtins) attrNames concatMap concatStringsSep elem filter foldl' groupBy head isString mapAttrs match;
  inherit (moduleSystem) messages types;
  inherit (cookbook.recipeSet) folders outputsOf recipes;

  normalPath = path: "/" + (let joined = lib.joinPath "" path; in if joined == null then lib.removePrefix "/" path else joined);

  # Entries of one path in their order → the one that they come to.
  fold = entries: foldl'
    (before: entry:
      if before != null && entry.append or false && !(before.symlink or false) && !(before.directory or false)
      then before // { data = before.data or "" + entry.data or ""; } // lib.optionalAttrs (entry.postinstall or false) { postinstall = true; }
      else entry)
    null
    entries;

  parse = text: match "([0-7]{1,4})" text;
  octal = text: foldl' (sum: digit: sum * 8 + builtins.fromJSON digit) 0
    (builtins.genList (i: builtins.substring i 1 text) (builtins.stringLength text));

  # What the modules know of the tree.
  redox = {
    inherit arch;
    inherit (messages) hint didYouMean near;
    load = machines.configuration;
    recipeNames = attrNames folders;
    configurations = machines.names;
    isConfiguration = name: elem name machines.names;
    isAbsolute = text: builtins.substring 0 1 text == "/";
    isNormalPath = path: path != "/" && builtins.substring 0 1 path == "/" && normalPath path == path;
    inherit normalPath;

    # `NAME` or `NAME.suffix`. Names of the tree's own configuration are right whatever they are.
    isPackage = text:
      let parts = match "([^:/.]+)([.]([^./]+))?" text;
      in parts != null && folders ? ${head parts}
        && (lib.last parts == null || elem (lib.last parts) (outputsOf recipes.${head parts}));

    # Keys of a file and of a user in a configuration, and the options that they are.
    fileKeys = { mode = "mode"; uid = "uid"; gid = "gid"; recursive_chown = "recursive"; append = "append"; postinstall = "postinstall"; };
    userKeys = { password = "password"; hashed_password = "hashedPassword"; uid = "uid"; gid = "gid"; name = "name"; home = "home"; shell = "shell"; };
    effectiveFiles = files: mapAttrs (_: fold) (groupBy (entry: normalPath entry.path) files);

    # Bits as a number, or octal digits in a string: Nix has no octal numbers.
    modeType = types.coercedTo (types.strMatching "up to four octal digits" "[0-7]{1,4}") octal (types.ints.between 0 4095)
      // { description = "octal digits in a string, or an integer from 0 to 4095"; };

    # A second configuration on top of one. What both include is there already.
    addConfiguration = base: over:
      let
        merged = machines.merge base over;
        size = config: config.general.filesystem_size or 0;
        known = groupBy (entry: entry.path) (base.files or [ ]);
        new = filter (entry: !(elem entry (known.${entry.path} or [ ]))) (over.files or [ ]);
      in
      merged // {
        files = (base.files or [ ]) ++ new;
        general = merged.general // lib.optionalAttrs (size base > size over) { filesystem_size = size base; };
      };

    # Which init the tree has shows in the files that its configurations give it.
    initFormat = base:
      let
        scripts = filter (entry: match "/?(usr/lib|etc)/init[.]d/.*" entry.path != null) (base.files or [ ]);
        isUnit = entry: lib.hasSuffix ".service" entry.path || lib.hasSuffix ".target" entry.path
          || match ".*requires_weak .*" (entry.data or "") != null;
        other = if elem "minimal" machines.names then machines.configuration "minimal" else { };
      in
      if builtins.any isUnit scripts then "units"
      else if scripts != [ ] then "scripts"
      else if base != other && other != { } then redox.initFormat other
      else if folders ? base-initfs then "scripts"
      else "units";
  };

  optionModules = [
    ./redox/base.nix
    ./redox/assertions.nix
    ./redox/packages.nix
    ./redox/files.nix
    ./redox/users.nix
    ./redox/services.nix
    ./redox/networking.nix
    ./redox/boot.nix
    ./redox/graphics.nix
    ./redox/hardware.nix
    ./redox/virtualisation.nix
    ./redox/configuration.nix
  ];

  evaluate = { base, baseLabel, modules, specialArgs ? { } }:
    let known = redox // {
      inherit base baseLabel;
      isPackage = text: redox.isPackage text || (base.packages or { }) ? ${text};
    };
    in moduleSystem.evalModules { modules = optionModules ++ modules; specialArgs = specialArgs // { redox = known; }; };

  # All that do not hold, in one error.
  checked = evaluated: value:
    let
      failed = filter (a: !a.assertion) evaluated.config.assertions;
      warned = foldl' (rest: text: builtins.warn text rest) value evaluated.config.warnings;
    in
    if failed == [ ] then warned
    else throw (concatStringsSep "\n" (map (a: a.message) failed));
in
{
  # `config` is the name of a configuration of the tree, or a file like one; null: nothing at all.
  build = { config ? null, modules ? [ ], name ? null, specialArgs ? { } }@given:
    let
      isName = isString config && builtins.substring 0 1 config != "/";
      label = if config == null then "no configuration" else if isName then machines.fileOf config else toString config;
      evaluated = evaluate {
        inherit modules specialArgs;
        baseLabel = toString label;
        base = if config == null then { } else if isName then machines.configuration config else machines.load (/. + toString config);
      };
      called = if name != null then name else if isName then config else "system";
      configuration = checked evaluated evaluated.config.build.configuration;
      assembled = machines.assemble called configuration;
    in
    assembled // {
      inherit (evaluated) config options;
      inherit configuration;
      machine = assembled.machine // evaluated.config.build.machine;
      # The same system with more modules.
      extend = more: (import ./system.nix { inherit lib moduleSystem machines cookbook arch tree; }).build (given // { modules = modules ++ more; });
    };

  # The options alone, for documentation.
  inherit (evaluate { base = { }; baseLabel = "no configuration"; modules = [ ]; }) options;
}

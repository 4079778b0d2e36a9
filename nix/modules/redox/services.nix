# Services that init starts. The form of their files is the tree's: TOML units, or scripts before those existed. What
# the programs do, and whether the image has them, is not looked at.
{ config, lib, redox, ... }:

let
  inherit (builtins) attrNames concatMap concatStringsSep elem filter isString length map mapAttrs match toJSON;
  inherit (lib) mkOption types;

  isUnits = config.init.format == "units";
  folder = "/usr/lib/init.d";

  serviceType = types.submodule ({ name, config, options, ... }: {
    options = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = "False keeps the unit from starting, also one that a package brings.";
      };
      file = mkOption {
        type = types.strMatching "no slash" "[^/]+";
        defaultText = "the order, `_`, the name, and the unit's suffix: `50_NAME.service`";
        example = "10_dhcpd.service";
        description = "Name of the unit's file. That of another unit replaces it.";
      };
      order = mkOption {
        type = types.ints.between 0 99;
        default = 50;
        description = "Units are started in the order of their files' names, which begin with this.";
      };
      kind = mkOption {
        type = types.enum [ "service" "target" "script" ];
        default = if config.text != null then "script" else "service";
        defaultText = "`\"script\"` where `text` is set, else `\"service\"`";
        description = "A program, a mere point in the order, or lines in init's own language.";
      };
      description = mkOption { type = types.nullOr types.singleLineStr; default = null; description = "What it is, in a line."; };
      command = mkOption { type = types.nullOr types.nonEmptyStr; default = null; example = "sshd"; description = "The program."; };
      arguments = mkOption { type = types.listOf types.str; default = [ ]; description = "Its arguments."; };
      type = mkOption {
        type = types.either (types.enum [ "notify" "oneshot" "oneshot_async" ]) (types.submodule {
          options.scheme = mkOption { type = types.nonEmptyStr; description = "The scheme that the program provides."; };
        });
        default = "oneshot_async";
        description = ''
          When init goes on: once the program says it is ready (`"notify"`), has ended (`"oneshot"`), has started
          (`"oneshot_async"`), or provides a scheme (`{ scheme = "NAME"; }`, units only).
        '';
      };
      environment = mkOption { type = types.attrsOf types.singleLineStr; default = { }; description = "Variables for the program."; };
      inheritEnvironment = mkOption { type = types.listOf types.str; default = [ ]; description = "Variables of init that the program gets (units only)."; };
      after = mkOption {
        type = types.listOf types.str;
        default = [ ];
        example = [ "10_net.target" ];
        description = "Services of this set, or names of unit files, that are started first where they exist (units only).";
      };
      defaultDependencies = mkOption { type = types.nullOr types.bool; default = null; description = "False starts it before what units usually wait for (units only)."; };
      architectures = mkOption { type = types.listOf types.str; default = [ ]; description = "Where it is started; none: everywhere (units only)."; };
      boards = mkOption { type = types.listOf types.str; default = [ ]; description = "On which boards it is started; none: on all (units only)."; };
      text = mkOption { type = types.nullOr types.str; default = null; description = "The whole file, in place of everything above."; };
      placeOf = mkOption { type = types.raw; internal = true; description = "Where an option of this service is set, for messages."; };
    };
    config.placeOf = key:
      lib.optionalString options.${key}.isSet ", at ${lib.messages.place (builtins.head options.${key}.definitions)}";
    config.file =
      let
        number = "${if config.order < 10 then "0" else ""}${toString config.order}";
        suffix = if !isUnits || config.kind == "script" then "" else ".${config.kind}";
      in
      lib.mkOverride lib.priorities.option "${number}_${name}${suffix}";
  });

  # `key` is the option that is wrong.
  fail = name: key: what: hint:
    throw ("the service `services.${name}` ${what}${config.services.${name}.placeOf key}" + redox.hint hint);

  # A name in `after` → a unit's file.
  fileOf = name: wanted:
    if config.services ? ${wanted} then config.services.${wanted}.file
    else if match ".*[_.].*" wanted != null then wanted
    else fail name "after" "comes after `${wanted}`, which is neither a service of this system nor a unit's file"
      (redox.didYouMean (redox.near (attrNames config.services) wanted));

  commandOf = name: service:
    if service.command != null then service.command
    else fail name "command" "has no command" "set `command`, or `text`, or `kind = \"target\"`";

  # -- TOML units. JSON's strings and lists are TOML's too. ---------------------------------------------------

  keys = pairs: concatStringsSep "" (map (pair: lib.optionalString (pair.value != null && pair.value != [ ] && pair.value != { }) "${pair.name} = ${inToml pair.value}\n") pairs);
  inToml = value:
    if builtins.isAttrs value then "{ ${concatStringsSep ", " (lib.mapAttrsToList (name: v: "${toJSON name} = ${inToml v}") value)} }"
    else toJSON value;

  unit = name: service: "[unit]\n" + keys [
    (lib.nameValue "description" service.description)
    (lib.nameValue "default_dependencies" service.defaultDependencies)
    (lib.nameValue "requires_weak" (map (fileOf name) service.after))
    (lib.nameValue "condition_architecture" service.architectures)
    (lib.nameValue "condition_board" service.boards)
  ] + lib.optionalString (service.kind == "service") ("\n[service]\n" + keys [
    (lib.nameValue "cmd" (commandOf name service))
    (lib.nameValue "args" service.arguments)
    (lib.nameValue "envs" service.environment)
    (lib.nameValue "inherit_envs" service.inheritEnvironment)
    (lib.nameValue "type" service.type)
  ]);

  # -- scripts: a command a line, words between single spaces, nothing quoted -----------------------------------

  word = name: key: text:
    if match "[^[:space:]]+" text != null then text
    else fail name key "has the word ${toJSON text}, and the init scripts of this tree cannot hold an empty word or one with spaces" "put it into a script of the shell, as a file";
  only = name: service: key:
    if service.${key} == [ ] || service.${key} == null then ""
    else fail name key "sets `${key}`, which the init scripts of this tree do not know" "leave it out; scripts run in the order of their names";
  script = name: service:
    let
      prefix = if service.type == "notify" then [ "notify" ] else if service.type == "oneshot" then [ ]
        else if service.type == "oneshot_async" then [ "nowait" ]
        else fail name "type" "provides a scheme, which the init scripts of this tree do not wait for" "use `type = \"notify\"` where the program says when it is ready";
      line = concatStringsSep " " (prefix ++ [ (word name "command" (commandOf name service)) ] ++ map (word name "arguments") service.arguments);
      variables = attrNames service.environment;
    in
    concatStringsSep "" (map (only name service) [ "after" "inheritEnvironment" "defaultDependencies" "architectures" "boards" ])
    + lib.optionalString (service.description != null) "# ${service.description}\n"
    + (if service.kind == "target" then ""
    else concatStringsSep "" (map (v: "export ${v} ${service.environment.${v}}\n") variables)
      + "${line}\n"
      + lib.optionalString (variables != [ ]) "unset ${concatStringsSep " " variables}\n");

  # A unit that does nothing, in place of a package's.
  mask = service:
    if lib.hasSuffix ".service" service.file then "[unit]\ndescription = \"disabled\"\n\n[service]\ncmd = \"true\"\ntype = \"oneshot\"\n"
    else if lib.hasSuffix ".target" service.file then "[unit]\ndescription = \"disabled\"\n"
    else "# disabled\n";

  contents = name: service:
    if !service.enable then mask service
    else if service.text != null then service.text
    else if isUnits && service.kind != "script" then unit name service
    else if service.kind == "script" then fail name "kind" "is a script without `text`" "set `text`"
    else script name service;

  baseFiles = redox.effectiveFiles (config.build.base.files or [ ]);
  fileDefinition = name:
    let
      service = config.services.${name};
      path = "${folder}/${service.file}";
      isOurs = service.command != null || service.text != null;
    in
    # What a configuration of the tree writes can be left out; what a package writes is written over.
    if service.enable then [ (lib.nameValue path { text = contents name service; postinstall = true; }) ]
    else if baseFiles ? ${path} then [ (lib.nameValue path { enable = false; }) ]
    else lib.optional (!isOurs) (lib.nameValue path { text = contents name service; postinstall = true; });
  byFile = builtins.groupBy (name: config.services.${name}.file) (attrNames config.services);
in
{
  options = {
    services = mkOption {
      type = types.attrsOf serviceType;
      default = { };
      example = { sshd = { command = "sshd"; after = [ "10_net.target" ]; }; };
      description = "Services that init starts, beside those that packages and the tree's configuration bring.";
    };
    init.format = mkOption {
      type = types.enum [ "units" "scripts" ];
      default = redox.initFormat config.build.base;
      defaultText = "as the tree's configurations write it";
      description = "What init reads: TOML units (upstream since April 2026), or scripts.";
    };
  };
  config = {
    files = builtins.listToAttrs (concatMap fileDefinition (attrNames config.services));
    assertions = lib.mapAttrsToList
      (file: names: {
        assertion = length names == 1;
        message = "the services ${concatStringsSep " and " (map (n: "`${n}`") names)} have the same file `${file}`";
      })
      byFile;
  };
}

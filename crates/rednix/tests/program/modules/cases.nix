# Cases of the module system and of systems written with it. `values` are evaluated at once; each of `errors` must
# fail. What is expected is beside this file, in `expected.txt`.
let
  rednix = import ../../../../../nix { };
  lib = rednix.lib // rednix.modules;
  inherit (lib) evalModules mkAfter mkBefore mkDefault mkForce mkIf mkMerge mkOption mkOrder mkOverride types;

  declare = type: { options.x = mkOption { inherit type; }; };
  eval = modules: (evalModules { inherit modules; }).config;
  # One option `x` of the type, with these definitions.
  of = type: definitions: (eval ([ (declare type) ] ++ map (x: { inherit x; }) definitions)).x;

  probe = modules: (rednix.system { config = "probe"; inherit modules; }).configuration;
  empty = modules: (rednix.system { config = null; inherit modules; }).configuration;
  fileOf = path: configuration: builtins.filter (f: f.path == path) configuration.files;

  # A tree of either era, without recipes that could be built.
  era = tree: import ../../../../../nix { inherit tree; };
  units = era ./units;
  scripts = era ./scripts;
  system = library: modules: (library.system { config = "minimal"; inherit modules; }).configuration;
  changes = library: modules: builtins.filter (f: !(builtins.elem f library.systems.minimal.config.files)) (system library modules).files;

  service = types.submodule ({ name, config, ... }: {
    options.name = mkOption { type = types.str; default = name; };
    options.port = mkOption { type = types.port; };
    options.url = mkOption { type = types.str; default = "${config.name}:${toString config.port}"; };
  });
in
{
  values = {
    merge = {
      default = (eval [{ options.x = mkOption { default = 1; }; }]).x;
      definition_before_default = (eval [{ options.x = mkOption { default = 1; }; } { x = 2; }]).x;
      same_twice = of types.int [ 3 3 ];
      priorities = of types.int [ 1 (mkDefault 2) (mkForce 3) (mkOverride 60 4) ];
      default_is_weak = of types.int [ (mkDefault 2) 1 ];
      condition = of types.int [ (mkIf false 1) (mkIf true 2) ];
      nested_marks = of types.int [ (mkMerge [ (mkIf true (mkForce 5)) (mkIf false (throw "not looked at")) ]) 6 ];
      outer_priority_wins = of types.int [ (mkForce (mkDefault 1)) 2 ];
      condition_on_a_group = (eval [{ options.g.x = mkOption { default = 0; }; options.on = mkOption { default = true; }; } ({ config, ... }: { g = mkIf config.on { x = 7; }; })]).g.x;
      imports_come_first = (eval [ (declare (types.listOf types.str)) { imports = [{ x = [ "imported" ]; }]; x = [ "own" ]; } { x = [ "later" ]; } ]).x;
      a_file_twice_is_one_module = (eval [ ./declares.nix { imports = [ ./declares.nix ]; numbers = [ 2 ]; } ]).numbers;
      imports_in_a_circle = (eval [ ./circle-a.nix ]).seen;
      arguments = (evalModules { modules = [ (declare types.str) ({ word, ... }: { x = word; }) ]; specialArgs.word = "given"; }).config.x;
      late_arguments = (eval [ (declare types.str) ({ late, ... }: { x = late; }) { _module.args.late = "later"; } ]).x;
      order = of (types.listOf types.str) [ (mkAfter [ "d" ]) [ "b" ] (mkBefore [ "a" ]) [ "c" ] (mkOrder 2000 [ "e" ]) ];
      free_form = eval [{ options.x = mkOption { default = 1; }; freeformType = types.attrsOf types.int; } { y.z = 2; }];
      apply = (eval [{ options.x = mkOption { type = types.int; apply = n: n + 1; }; config.x = 1; }]).x;
      extended = ((evalModules { modules = [ (declare types.int) { x = 1; } ]; }).extend [{ x = mkForce 2; }]).config.x;
      options_know = let o = (evalModules { modules = [ (declare types.int) { x = 1; } ]; }).options.x; in { inherit (o) isSet priority path; count = builtins.length o.definitions; };
    };
    types = {
      lines = of types.lines [ "a" "b" ];
      separated = of (types.separatedString ":") [ "a" "b" ];
      list = of (types.listOf types.int) [ [ 1 (mkIf false 2) ] [ 3 ] ];
      empty_list = (eval [ (declare (types.listOf types.int)) ]).x;
      attrs = of (types.attrsOf types.int) [ { a = 1; b = mkDefault 2; } { b = 3; c = mkIf false 4; } ];
      attrs_of_lists = of (types.attrsOf (types.listOf types.int)) [ { a = [ 1 ]; } { a = mkBefore [ 0 ]; } ];
      null_or = [ (of (types.nullOr types.int) [ null ]) (of (types.nullOr types.int) [ 1 ]) ];
      either = [ (of (types.either types.int types.str) [ 1 ]) (of (types.either types.int types.str) [ "a" ]) ];
      one_of = of (types.oneOf [ types.int types.str types.bool ]) [ true ];
      enum = of (types.enum [ "a" "b" ]) [ "b" ];
      coerced = of (types.coercedTo types.int toString types.str) [ 4 ];
      path = map (v: builtins.baseNameOf (of types.path [ v ])) [ ./cases.nix "/etc/hosts" ];
      submodule = of (types.attrsOf service) [ { web.port = 80; } { web.name = "www"; ssh = { port = 22; }; } ];
      submodule_as_function = of (types.attrsOf service) [ { web = { name, ... }: { config.port = builtins.stringLength name; }; } ];
      submodule_without_definitions = (eval [ (declare (types.submodule { options.a = mkOption { default = 1; }; })) ]).x;
      function = (of (types.functionTo types.int) [ (n: n + 1) ]) 1;
      float = of types.number [ 1.5 ];
    };
    probe = {
      as_it_is = probe [ ] == rednix.systems.probe.config;
      same_image = (rednix.system { config = "probe"; }).image.drvPath == rednix.systems.probe.image.drvPath;
      same_value_is_no_change = probe [{ files."/etc/hostname".text = "probe"; }] == rednix.systems.probe.config;
      hostname = fileOf "/etc/hostname" (probe [{ networking.hostname = "other"; }]);
      file_replaced_in_place = map (f: f.path) (probe [{ files."/usr/lib/os-release".text = "NAME=other\n"; }]).files;
      file_removed = map (f: f.path) (probe [{ files."/etc/motd".enable = false; }]).files;
      file_changed_in_part = fileOf "/tmp" (probe [{ files."/tmp".mode = "0700"; }]);
      link_becomes_file = fileOf "/etc/os-release" (probe [{ files."/etc/os-release".text = "x"; }]);
      file_appended = fileOf "/etc/motd" (probe [{ files."/etc/motd" = { text = "more\n"; append = true; }; }]);
      package_ignored = (probe [{ packages.probe = "ignore"; }]).packages;
      packages_as_a_list = (probe [{ packages = [ "redoxfs" ]; }]).packages;
      password = (probe [{ users.root.password = "secret"; }]).users;
      hashed_password = (probe [{ users.root.hashedPassword = "$argon2id$v=19$m=8,t=1,p=1$YWJjZGVmZ2g$aGFzaA"; }]).users;
      user_removed = (probe [{ users.root.enable = false; }]).users;
      group = let c = probe [{ groups.wheel.gid = 10; users.ada = { password = ""; groups = [ "wheel" ]; }; }]; in { inherit (c) users groups; };
      boot = let c = probe [{ boot = { filesystemSize = 64; espSize = 4; live = true; bios = true; initfs.files."etc/motd" = mkForce "changed\n"; }; }]; in { inherit (c) general rednix; };
    };
    from_nothing = empty [{ users.root = { password = ""; uid = 0; }; packages = [ "probe" ]; boot.imageSize = 40; files."/a/b".symlink = "c"; }];
    eras = {
      formats = map (l: (l.system { config = "minimal"; }).config.init.format) [ units scripts ];
      units = changes units [{
        services.web = { command = "httpd"; arguments = [ "-p" "80 81" ]; environment.A = "b c"; after = [ "10_net.target" "later" ]; type.scheme = "web"; };
        services.later = { kind = "target"; description = "a \"point\""; order = 7; };
        services.old = { text = "nowait old\n"; };
        services.console = { file = "30_console"; enable = false; };
        networking = { mode = "static"; address = "192.168.7.2"; prefixLength = 20; gateway = "192.168.7.1"; dns = [ "9.9.9.9" ]; };
        hardware.pciDrivers.net = { class = 2; ids."0x8086" = [ 4110 ]; command = [ "netd" ]; };
        hardware.disabledDrivers = [ "xhcid" ];
      }];
      console_is_gone = builtins.any (f: f.path == "/usr/lib/init.d/30_console") (system units [{ services.console = { file = "30_console"; enable = false; }; }]).files;
      scripts = changes scripts [{
        services.web = { command = "httpd"; arguments = [ "-p" "80" ]; environment.A = "b c"; type = "notify"; description = "web"; };
        networking.mode = "dhcp";
        hardware.disabledDrivers = [ "xhcid" ];
      }];
      graphics = let c = system units [{ graphics.enable = true; boot.espSize = 3; }]; in { inherit (c) general packages; files = map (f: f.path) c.files; };
    };
    machine = (rednix.system { config = "probe"; modules = [{ virtualisation = { memory = 512; cpus = 2; display = "headless"; forwards = [{ host = 8022; guest = 22; }]; }; }]; }).machine;
    overlays =
      let
        with_ = overlays: import ../../../../../nix { tree = ./units; inherit overlays; };
        script = library: library.cookbook.recipes.tool.build.script;
        tree = with_ [ ];
      in
      {
        override = script (with_ [ (final: prev: { tool = prev.tool.override { build.script = "changed"; }; }) ]);
        override_twice = script (with_ [
          (final: prev: { tool = prev.tool.override { build.script = "one"; }; })
          (final: prev: { tool = prev.tool.overrideRecipe (r: r // { build = r.build // { script = r.build.script + " two"; }; }); })
        ]);
        new_recipe = script (with_ [ (final: prev: { tool = { build = { template = "custom"; script = "new"; }; }; }) ]);
        from_a_folder = (with_ [ (final: prev: { added = ./units/recipes/tool; }) ]).cookbook.recipes.added.build.script;
        final = script (with_ [
          (final: prev: { tool = prev.tool.override { build.script = "as ${final.other.recipe.build.script}"; }; })
          (final: prev: { other = { build = { template = "custom"; script = "last"; }; }; })
        ]);
        nothing_changes = (with_ [ (final: prev: { }) ]).packages.tool.drvPath == tree.packages.tool.drvPath;
        changed_is_rebuilt = (with_ [ (final: prev: { tool = prev.tool.override { build.script = "changed"; }; }) ]).packages.user.drvPath != tree.packages.user.drvPath;
        derivation_instead = (with_ [ (final: prev: { tool = tree.packages.user; }) ]).package "tool" == tree.package "user";
        source_of_a_path = (with_ [ (final: prev: { tool = prev.tool.override { source = ./units/config; }; }) ]).packages.tool.drvPath != tree.packages.tool.drvPath;
        patch_of_a_path = (with_ [ (final: prev: { user = prev.user.override { source.patches = [ ./units/change.patch ]; }; }) ]).packages.user.drvPath != tree.packages.user.drvPath;
        pinned_source = let l = with_ [ (final: prev: { tool = prev.tool.override { source = { git = "https://example.invalid/tool"; rev = "0123456789012345678901234567890123456789"; narHash = "sha256-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="; }; }; }) ]; in l.packages.tool.drvPath != tree.packages.tool.drvPath;
        in_a_system = (tree.system { config = "minimal"; overlays = [ (final: prev: { tool = prev.tool.override { build.script = "changed"; }; }) ]; }).image.drvPath != tree.systems.minimal.image.drvPath;
      };
  };

  errors = {
    wrong_type = of types.int [ "three" ];
    out_of_range = of (types.ints.between 1 9) [ 10 ];
    wrong_enum = of (types.enum [ "dhcp" "static" 3 ]) [ "dhpc" ];
    wrong_item = of (types.listOf types.str) [ [ "a" ] [ "b" 7 ] ];
    wrong_value_inside = of (types.attrsOf service) [{ web.port = 70000; }];
    wrong_everywhere = of (types.either types.int (types.nullOr types.bool)) [ { a = 1; } ];
    conflict = of types.str [ "one" "two" ];
    conflict_inside = of (types.attrsOf service) [ { web.port = 1; } { web.port = 2; } ];
    no_value = of types.int [ ];
    typo = eval [{ options.network.hostname = mkOption { default = ""; }; } { network.hostnam = "x"; }];
    two_typos = eval [{ options.network = { hostname = mkOption { default = ""; }; address = mkOption { default = ""; }; }; } { network = { hostnam = "x"; adress = ""; }; }];
    typo_of_a_group = eval [{ options.network.hostname = mkOption { default = ""; }; } { netwrok.hostname = "x"; }];
    option_elsewhere = eval [{ options.network.hostname = mkOption { default = ""; }; } { hostname = "x"; }];
    typo_inside = of (types.attrsOf service) [{ web.prot = 1; }];
    unknown_far_from_all = eval [{ options.network.hostname = mkOption { default = ""; }; } { zebra = 1; }];
    value_for_a_group = eval [{ options.network.hostname = mkOption { default = ""; }; } { network = "x"; }];
    declared_twice = eval [ (declare types.int) (declare types.str) ];
    not_an_option = eval [{ options.x = 3; }];
    set_beside_config = eval [{ config = { }; x = 1; }];
    not_a_module = eval [ 3 ];
    missing_argument = eval [ (declare types.str) ({ pkgs, ... }: { x = pkgs.name; }) ];
    condition_is_no_condition = of types.int [ (mkIf "yes" 1) ];
    in_a_file = eval [ ./declares.nix ./wrong.nix ];
    read_only = eval [{ options.x = mkOption { readOnly = true; }; } { x = 1; } { x = 2; }];

    unknown_package = probe [{ packages = [ "reodxfs" ]; }];
    unknown_package_in_a_set = probe [{ packages.prob = { }; }];
    wrong_rule = probe [{ packages.probe = "ignored"; }];
    relative_path = probe [{ files."etc/motd".text = ""; }];
    file_without_contents = probe [{ files."/etc/x".mode = "0600"; }];
    file_with_two_contents = probe [{ files."/etc/x" = { text = ""; symlink = "y"; }; }];
    wrong_mode = probe [{ files."/etc/motd".mode = "0888"; }];
    wrong_option = probe [{ networking.hostNam = "x"; }];
    wrong_hostname = probe [{ networking.hostname = "a b"; }];
    two_hostnames = probe [{ networking.hostname = "a"; } { files."/etc/hostname".text = "b"; }];
    wrong_address = probe [{ networking.address = "192.168.1.256"; }];
    static_without_address = probe [{ networking.mode = "static"; }];
    user_without_password = probe [{ users.ada = { }; }];
    same_uid = probe [{ users.ada = { password = ""; uid = 0; }; }];
    unknown_group = probe [{ groups.wheel = { }; users.root.groups = [ "wheeel" ]; }];
    wrong_hash = probe [{ users.root.hashedPassword = "secret"; }];
    wrong_user_name = probe [{ users."a;b".password = ""; }];
    two_sizes = probe [{ boot = { imageSize = 64; filesystemSize = 64; }; }];
    small_image = probe [{ boot.imageSize = 8; }];
    no_desktop = probe [{ graphics.enable = true; }];
    failed_assertion = probe [{ assertions = [ { assertion = true; message = "no"; } { assertion = false; message = "first"; } { assertion = false; message = "second"; } ]; }];
    unknown_system = (rednix.system { config = "porbe"; }).configuration;
    service_without_command = system units [{ services.web.order = 3; }];
    service_after_nothing = system units [{ services.web = { command = "httpd"; after = [ "wbe" ]; }; }];
    service_word_with_spaces = system scripts [{ services.web = { command = "httpd"; arguments = [ "a b" ]; }; }];
    service_with_units_only = system scripts [{ services.web = { command = "httpd"; after = [ "10_net" ]; }; }];
    same_unit_twice = system units [{ services.a = { command = "a"; file = "50_x.service"; }; services.b = { command = "b"; file = "50_x.service"; }; }];
    overlay_without_pin = (import ../../../../../nix { tree = ./units; overlays = [ (final: prev: { tool = prev.tool.override { source.git = "https://example.invalid/other"; }; }) ]; }).packages.tool.drvPath;
    overlay_is_no_function = (import ../../../../../nix { tree = ./units; overlays = [ { } ]; }).packages.tool.drvPath;
    overlay_gives_nonsense = (import ../../../../../nix { tree = ./units; overlays = [ (final: prev: { tool = 3; }) ]; }).packages.tool.drvPath;
  };
}

# A system: a configuration in upstream's format, its packages, and the image made of them.
{ lib, derive, cookbook, tree, arch }:

let
  inherit (builtins) attrNames concatMap filter foldl' fromTOML map pathExists readFile;

  # -- configuration: include and merge rules -------------------------------------------------------------

  # Later files win: `general` by field (`prompt` never), packages, users and groups by key, files append.
  merge = base: over: base // over // {
    general = (base.general or { }) // (removeAttrs (over.general or { }) [ "prompt" ])
      // lib.optionalAttrs (!(base ? general) && over ? general.prompt) { inherit (over.general) prompt; };
    packages = (base.packages or { }) // (over.packages or { });
    users = (base.users or { }) // (over.users or { });
    groups = (base.groups or { }) // (over.groups or { });
    files = (base.files or [ ]) ++ (over.files or [ ]);
  };

  # `chain` holds the files that led here, to name a circle instead of running in it.
  load = chain: file:
    let
      name = toString file;
      own = if pathExists file then fromTOML (readFile file) else throw "the configuration ${name} does not exist${from chain}";
      included = map (relative: load (chain ++ [ name ]) (dirOf file + "/${relative}")) (own.include or [ ]);
      parts = included ++ [ (removeAttrs own [ "include" ]) ];
    in
    if builtins.elem name chain then throw "the configuration ${name} includes itself${from chain}"
    else foldl' merge { } parts;
  from = chain: if chain == [ ] then "" else "; it is included by ${lib.last chain}";

  # `config/<arch>/NAME.toml` goes before `config/NAME.toml`.
  file = name:
    let
      candidates = [ (tree + "/config/${arch}/${name}.toml") (tree + "/config/${name}.toml") ];
      found = filter pathExists candidates;
    in
    if found != [ ] then builtins.head found
    else throw "no system is named `${name}`; the tree has: ${builtins.concatStringsSep ", " names}";

  names =
    let
      entries = folder: if pathExists folder then builtins.readDir folder else { };
      tomls = folder: filter (n: lib.hasSuffix ".toml" n && (entries folder).${n} == "regular") (attrNames (entries folder));
      stem = n: builtins.substring 0 (builtins.stringLength n - 5) n;
    in
    lib.unique (map stem (tomls (tree + "/config") ++ tomls (tree + "/config/${arch}")));

  system = name:
    let
      config = load [ ] (file name);
      rule = value: if builtins.isString value then value else "source";
      listed = filter (p: rule config.packages.${p} != "ignore") (attrNames (config.packages or { }));
      closure = cookbook.runtimeClosure listed;
      real = filter (p: !(cookbook.isMeta p)) closure;
      extension = config.rednix or { };
      loaderPackage = extension.loader or "bootloader";
      hasLoader = cookbook.folders ? ${loaderPackage};
      loaderFile = suffix: "${cookbook.package loaderPackage}/usr/lib/boot/${suffix}";
      live = config.general.live_disk or false;
      initfs = if extension ? initfs then derive.builtinBuild "initfs" {
        name = "initfs";
        format = extension.initfs.format or "current";
        entries = map (path: { inherit path; text = extension.initfs.files.${path}; }) (attrNames (extension.initfs.files or { }));
      } else null;
    in
    {
      inherit name config;
      packages = closure;
      image = derive.builtinBuild "image" {
        name = "${name}-image";
        config = removeAttrs config [ "rednix" ];
        configName = name;
        packages = map (p: { name = p; path = cookbook.package p; }) real;
        loaders = {
          uefi = if hasLoader then loaderFile (if live then "bootloader-live.efi" else "bootloader.efi") else null;
          bios = if hasLoader && (extension.bios or true) then loaderFile (if live then "bootloader-live.bios" else "bootloader.bios") else null;
        };
        inherit initfs;
      };
    };
in
{
  inherit names;
  systems = lib.genAttrs names system;
  get = system;
}

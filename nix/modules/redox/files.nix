# Files, links and directories of the image. How they are written is the image room's affair; here is what is wanted.
{ config, lib, redox, ... }:

let
  inherit (builtins) attrNames concatMap elem filter length map;
  inherit (lib) mkOption types;

  contents = [ "text" "source" "symlink" "directory" ];

  fileType = types.submodule ({ config, options, name, ... }: {
    options = {
      enable = mkOption {
        type = types.bool;
        default = true;
        description = "False leaves the file out, also where the tree's configuration has it. Files of packages stay.";
      };
      text = mkOption {
        type = types.nullOr types.str;
        default = null;
        description = "Contents of a file.";
      };
      source = mkOption {
        type = types.nullOr types.path;
        default = null;
        description = "File whose bytes are the contents: a path, or a derivation with one file as output.";
      };
      symlink = mkOption {
        type = types.nullOr types.nonEmptyStr;
        default = null;
        description = "Target of a symbolic link.";
      };
      directory = mkOption {
        type = types.bool;
        default = false;
        description = "Whether it is a directory.";
      };
      mode = mkOption {
        type = types.nullOr redox.modeType;
        default = null;
        example = "0755";
        description = "Permission bits in octal. A file has 0644, a directory 0755, unless something says otherwise.";
      };
      uid = mkOption {
        type = types.nullOr (types.ints.atLeast (-1));
        default = null;
        description = "Owner; -1 and null leave it as it is, which is root for a new file.";
      };
      gid = mkOption {
        type = types.nullOr (types.ints.atLeast (-1));
        default = null;
        description = "Group, as `uid`.";
      };
      recursive = mkOption {
        type = types.bool;
        default = false;
        description = "Give owner and group to everything below too.";
      };
      append = mkOption {
        type = types.bool;
        default = false;
        description = "Add the text to the end of what is there.";
      };
      postinstall = mkOption {
        type = types.bool;
        default = false;
        description = "Write it after the packages. Before them, a package's own file of that name wins.";
      };
      kind = mkOption {
        type = types.nullOr (types.enum contents);
        internal = true;
        description = "Which of the contents counts: the one that was set with the highest priority.";
      };
    };
    config.kind =
      let
        isGiven = what: options.${what}.isSet && config.${what} != null && config.${what} != false;
        given = filter isGiven contents;
        priority = builtins.foldl' (low: what: if options.${what}.priority < low then options.${what}.priority else low) 1000000 given;
        chosen = filter (what: options.${what}.priority == priority) given;
      in
      if length chosen > 1 then throw
        "the file `files.\"${name}\"` has ${builtins.concatStringsSep " and " (map (c: "`${c}`") chosen)}; it can be one of them"
      else if chosen == [ ] then null
      else builtins.head chosen;
  });

  entry = path:
    let
      file = config.files.${path};
      given = key: value: lib.optionalAttrs (value != null && value != false) { ${key} = value; };
    in
    if file.kind == null then throw
      ("the file `files.\"${path}\"` has no contents" + redox.hint "set `text`, `source`, `symlink` or `directory = true`, or `enable = false`")
    else {
      inherit path;
      data = if file.kind == "text" then file.text else if file.kind == "symlink" then file.symlink else "";
    }
    // lib.optionalAttrs (file.kind == "source") { source = "${file.source}"; }
    // lib.optionalAttrs (file.kind == "symlink") { symlink = true; }
    // lib.optionalAttrs (file.kind == "directory") { directory = true; }
    // given "mode" file.mode // given "uid" file.uid // given "gid" file.gid
    // given "recursive_chown" file.recursive // given "append" file.append // given "postinstall" file.postinstall;

  # The tree's entries in their order, each as it is unless a module changed it; then what modules add, by name.
  base = config.build.base.files or [ ];
  effective = redox.effectiveFiles base;
  plain = entry: { data = ""; symlink = false; directory = false; mode = null; uid = null; gid = null; recursive_chown = false; append = false; postinstall = false; }
    // entry // { path = redox.normalPath entry.path; };
  state = builtins.mapAttrs
    (path: file:
      if !file.enable then "dropped"
      else if !(effective ? ${path}) then "new"
      else if plain (entry path) == plain effective.${path} then "same"
      else if file.append && !(effective.${path}.append or false) then "appended"
      else "replaced")
    config.files;
  # A replaced file stands where its first entry stood.
  indexes = builtins.genList (i: i) (length base);
  pathAt = i: redox.normalPath (builtins.elemAt base i).path;
  firsts = builtins.mapAttrs (_: builtins.head) (builtins.groupBy pathAt indexes);
  kept = concatMap
    (i:
      let
        path = pathAt i;
        what = state.${path};
      in
      if what == "same" || what == "appended" then [ (builtins.elemAt base i) ]
      else lib.optional (what == "replaced" && firsts.${path} == i) (entry path))
    indexes;
  added = map entry (filter (path: elem state.${path} [ "new" "appended" ]) (attrNames config.files));
in
{
  options.files = mkOption {
    type = types.attrsWith {
      inner = fileType;
      name = { check = redox.isNormalPath; expected = "absolute paths without `.`, `..` and double slashes"; };
    };
    default = { };
    example = { "/etc/motd".text = "Welcome.\n"; "/usr/bin/hello" = { text = "#!/usr/bin/ion\necho hello\n"; mode = "0755"; }; };
    description = ''
      Files of the image by their paths, beside those of the tree's configuration. What is set here goes before what
      the configuration says of the same path, field by field.
    '';
  };
  options.build.files = mkOption {
    type = types.raw;
    internal = true;
    readOnly = true;
    description = "All files in the order in which they are written.";
  };
  config.build.files = kept ++ added;
}

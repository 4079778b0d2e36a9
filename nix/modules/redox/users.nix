# Users and groups. Homes, ids that nobody chose, and hashing are the image room's affair.
{ config, lib, redox, ... }:

let
  inherit (builtins) attrNames concatMap elem filter groupBy length map mapAttrs;
  inherit (lib) mkOption types;

  idType = types.ints.between 0 4294967295;
  userName = {
    check = name: builtins.match "[A-Za-z_][A-Za-z0-9_.-]*" name != null;
    expected = "letters, digits, `_`, `.` and `-`, beginning with a letter or `_`";
  };
  fieldType = types.strMatching "no semicolon and no line break" "[^;\n]*";

  userType = types.submodule ({ options, config, ... }: {
    options = {
      enable = mkOption { type = types.bool; default = true; description = "False leaves the user out."; };
      password = mkOption {
        type = types.nullOr types.str;
        default = null;
        description = "Password in plain text; it is hashed when the image is built. \"\" needs none. It can be read in the store.";
      };
      hashedPassword = mkOption {
        type = types.nullOr (types.strMatching "an encoded argon2 hash" "[$]argon2(i|d|id)[$][^;\n]*");
        default = null;
        example = "$argon2i$v=19$m=4096,t=3,p=1$…";
        description = "The hash as it stands in `/etc/shadow`.";
      };
      uid = mkOption { type = types.nullOr idType; default = null; description = "User id; null: the next free one from 1000."; };
      gid = mkOption { type = types.nullOr idType; default = null; description = "Group id of the user's own group, as `uid`."; };
      name = mkOption { type = types.nullOr fieldType; default = null; description = "Full name; null: the user's name."; };
      home = mkOption { type = types.nullOr (types.addCheck fieldType "an absolute path" redox.isAbsolute); default = null; description = "Home; null: below `/home`."; };
      shell = mkOption { type = types.nullOr (types.addCheck fieldType "an absolute path" redox.isAbsolute); default = null; example = "/usr/bin/ion"; description = "Program of a login; null: `/bin/ion`."; };
      groups = mkOption { type = types.listOf types.str; default = [ ]; example = [ "sudo" ]; description = "Groups that get the user as a member."; };
      secret = mkOption { type = types.raw; internal = true; description = "The key and value of the password that counts."; };
    };
    config.secret =
      let
        hashed = config.hashedPassword != null;
        plain = config.password != null;
      in
      if hashed && (!plain || options.hashedPassword.priority < options.password.priority) then { hashed_password = config.hashedPassword; }
      else if hashed && plain && options.hashedPassword.priority == options.password.priority then throw
        "the options `${lib.messages.showOption options.password.path}` and `hashedPassword` are both set, at ${lib.messages.place (builtins.head options.hashedPassword.definitions)}; keep one"
      else if plain then { inherit (config) password; }
      else { };
  });

  users = lib.filterAttrs (_: user: user.enable) config.users;
  groups = lib.filterAttrs (_: group: group.enable) config.groups;
  given = set: lib.filterAttrs (_: value: value != null) set;
  baseOf = kind: name: (config.build.base.${kind} or { }).${name} or { };

  userEntry = name: user:
    removeAttrs (baseOf "users" name) (attrNames redox.userKeys)
    // given { inherit (user) uid gid name home shell; } // user.secret;
  memberships = groupBy (pair: pair.group)
    (concatMap (user: map (group: { inherit user group; }) users.${user}.groups) (attrNames users));
  groupEntry = name: group:
    let members = lib.unique (group.members ++ map (pair: pair.user) (memberships.${name} or [ ]));
    in
    removeAttrs (baseOf "groups" name) [ "gid" "members" ]
    // given { inherit (group) gid; }
    // lib.optionalAttrs (members != [ ] || baseOf "groups" name ? members) { inherit members; };

  twice = key: what: lib.mapAttrsToList
    (id: found: { assertion = length found < 2; message = "users ${builtins.concatStringsSep " and " found} have the same ${what} ${id}"; })
    (groupBy (name: toString users.${name}.${key}) (filter (name: users.${name}.${key} != null) (attrNames users)));
  strangers = kind: known: pairs: map
    (pair: {
      assertion = elem pair.wanted known;
      message = "`${pair.from}` names ${kind} `${pair.wanted}`, which does not exist" + redox.hint (redox.didYouMean (redox.near known pair.wanted));
    })
    pairs;
in
{
  options = {
    users = mkOption {
      type = types.attrsWith { inner = userType; name = userName; };
      default = { };
      example = { ada = { password = ""; shell = "/usr/bin/ion"; groups = [ "sudo" ]; }; };
      description = "Users by their names, beside those of the tree's configuration.";
    };
    groups = mkOption {
      type = types.attrsWith {
        name = userName;
        inner = types.submodule {
          options = {
            enable = mkOption { type = types.bool; default = true; description = "False leaves the group out."; };
            gid = mkOption { type = types.nullOr idType; default = null; description = "Group id; null: the next free one from 1000."; };
            members = mkOption { type = types.listOf types.str; default = [ ]; description = "Users in the group; this replaces the configuration's list, `users.<name>.groups` adds to it."; };
          };
        };
      };
      default = { };
      description = "Groups by their names, beside each user's own.";
    };
    build.users = mkOption { type = types.raw; internal = true; readOnly = true; description = "Users as upstream's configuration has them."; };
    build.groups = mkOption { type = types.raw; internal = true; readOnly = true; description = "Groups as upstream's configuration has them."; };
  };
  config = {
    build.users = mapAttrs userEntry users;
    build.groups = mapAttrs groupEntry groups;
    assertions = map
      (name: {
        assertion = users.${name}.secret != { } || baseOf "users" name != { };
        message = "the user `users.${name}` has no password" + redox.hint "set `password`, or `hashedPassword`; `password = \"\"` needs none to log in";
      })
      (attrNames users)
    ++ twice "uid" "uid"
      ++ strangers "the group" (attrNames groups)
        (concatMap (user: map (wanted: { from = "users.${user}.groups"; inherit wanted; }) users.${user}.groups) (attrNames users))
      ++ strangers "the user" (attrNames users)
        (concatMap (group: map (wanted: { from = "groups.${group}.members"; inherit wanted; }) groups.${group}.members)
          (filter (group: groups.${group}.members != ((baseOf "groups" group).members or [ ])) (attrNames groups)));
  };
}

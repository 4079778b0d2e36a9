# What a Cargo.lock asks for, as derivations: every crate is a fetch of its own, and a package's closure is
# one vendor directory beside a configuration that makes cargo use nothing else.
{ lib, derive }:

let
  inherit (builtins) concatMap concatStringsSep filter fromTOML head map match readFile;

  crate = { name, version, checksum, ... }: derive.fetchurl {
    name = lib.storeName "${name}-${version}.crate";
    url = "crate:${name}/${version}";
    sha256 = checksum;
  };

  # `git+https://host/path?branch=x#rev` → its parts. Cargo itself writes them this way.
  parseGit = source:
    let
      parts = match "git\\+([^?#]*)(\\?(branch|tag|rev)=([^#]*))?#(.*)" source;
      at = builtins.elemAt parts;
    in
    if parts == null then null else {
      url = at 0;
      kind = at 2;
      reference = at 3;
      rev = at 4;
    };
in
rec {
  # Reads a lock file into the form rednix.lock keeps: registry crates with their checksums, git packages
  # with their source line. Packages without a source are the workspace's own.
  readLock = path: fromLock (fromTOML (readFile path));
  fromLock = lock:
    let packages = lock.package or [ ];
    in {
      crates = concatMap
        (p: lib.optional ((p.source or "") != "" && lib.hasPrefix "registry+" p.source) {
          inherit (p) name version;
          checksum = p.checksum or (throw "Cargo.lock: `${p.name}` ${p.version} has no checksum; run `cargo update -p ${p.name}`");
        })
        packages;
      git = concatMap
        (p: lib.optional ((p.source or "") != "" && lib.hasPrefix "git+" p.source) { inherit (p) name version source; })
        packages;
    };

  # What a lock entry has in place of submodules: those whose pin is no commit.
  replacedSubmodules = entry: lib.filterAttrs (_: pin: match "[0-9a-f]{40}|[0-9a-f]{64}" pin == null) (entry.submodules or { });

  key = package: "${package.name}-${package.version}";
  byKey = packages: builtins.attrValues (builtins.listToAttrs (map (p: lib.nameValue (key p) p) packages));

  pinned = gitSources: package: gitSources.${package.source} or (throw
    "Cargo git dependency `${package.name}` (${package.source}) is not pinned; run `rednix lock`");

  # The tree of a git dependency; one for all packages in it.
  gitTree = gitSources: package:
    let
      parts = parseGit package.source;
      entry = pinned gitSources package;
      repository = lib.last (filter (part: part != "") (lib.splitOn "/:" (lib.removeSuffix ".git" parts.url)));
    in derive.fetchgit {
      name = "${lib.storeName repository}-git";
      url = entry.url or parts.url;
      rev = entry.rev or parts.rev;
      inherit (entry) narHash;
      overrides = replacedSubmodules entry;
    };

  # Everything a vendor directory of these locks is made from, as derivations.
  fetches = { locks, gitSources ? { } }:
    map crate (byKey (concatMap (l: l.crates) locks))
    ++ map (gitTree gitSources) (concatMap (l: l.git) locks);

  # A git source as cargo knows it before it looks into a lock: without the commit.
  floating = source: head (lib.splitOn "#" source);

  # Of each floating git source the commit that most of these locks mean: the first one seen. Two locks of one package
  # may mean different ones, and cargo's configuration has room for one.
  usual = locks: builtins.listToAttrs
    (lib.reverse (map (p: lib.nameValue (floating p.source) p.source) (concatMap (l: l.git) locks)));

  # A directory holds one package of a name and version. Where a git source has one that the registry has too, all of
  # that source is in a directory of its own; so is another commit of a source.
  isApart = locks:
    let
      registry = builtins.listToAttrs (map (p: lib.nameValue (key p) true) (concatMap (l: l.crates) locks));
      apart = builtins.listToAttrs (concatMap (p: lib.optional (registry ? ${key p}) (lib.nameValue p.source true)) (concatMap (l: l.git) locks));
      chosen = usual locks;
    in
    source: apart ? ${source} || chosen.${floating source} != source;

  gitPackages = gitSources: packages: map
    (p: {
      inherit (p) name version;
      src = gitTree gitSources p;
      subdirectory = (pinned gitSources p).packages.${key p} or "";
      # Sources in a repository may name files outside of their own package.
      whole = true;
    })
    (byKey packages);

  # The vendor directory of one or more locks. `gitSources` maps a git source line to its pinned tree
  # ({ narHash, packages = { <name>-<version> = subdirectory; }; }, with `url` and `rev` where an override holds).
  vendor = { locks, gitSources ? { }, merge ? [ ] }:
    derive.builtinBuild "vendor" {
      name = "cargo-vendor";
      crates = map (p: { inherit (p) name version checksum; src = crate p; }) (byKey (concatMap (l: l.crates) locks));
      git = gitPackages gitSources (builtins.filter (p: !(isApart locks p.source)) (concatMap (l: l.git) locks));
      inherit merge;
    };

  vendorApart = locks: gitSources: source: derive.builtinBuild "vendor" {
    name = "cargo-vendor-git";
    crates = [ ];
    git = gitPackages gitSources (builtins.filter (p: p.source == source) (concatMap (l: l.git) locks));
    merge = [ ];
  };

  placeOf = locks: source: if isApart locks source then "vendored-${builtins.hashString "sha256" source}" else "vendored";

  # The tables that make cargo take a git source from its directory. They must repeat it as the lock names it.
  sourceTables = locks: gitSources: source:
    let
      parts = parseGit source;
      place = placeOf locks source;
    in
    lib.optionals (isApart locks source) [
      "[source.${place}]"
      "directory = \"${vendorApart locks gitSources source}\""
      ""
    ] ++ [
      "[source.\"${lib.removePrefix "git+" (floating source)}\"]"
      "git = \"${parts.url}\""
    ] ++ lib.optional (parts.kind != null) "${parts.kind} = \"${parts.reference}\""
    ++ [ "replace-with = \"${place}\"" "" ];

  # Cargo's configuration for a vendor directory.
  config = { locks, directory, gitSources ? { } }: concatStringsSep "\n" ([
    "[source.crates-io]"
    "replace-with = \"vendored\""
    ""
    "[source.vendored]"
    "directory = \"${directory}\""
    ""
  ] ++ concatMap (sourceTables locks gitSources) (builtins.attrValues (usual locks)));

  # What holds beside it for those of the locks that mean other commits: Cargo.lock file → configuration.
  lockConfigs = { locks, gitSources ? { } }:
    let
      chosen = usual locks;
      others = l: filter (source: chosen.${floating source} != source) (lib.unique (map (p: p.source) l.git));
    in
    builtins.listToAttrs (concatMap
      (l: lib.optional (others l != [ ])
        (lib.nameValue l.file (concatStringsSep "\n" (concatMap (sourceTables locks gitSources) (others l)))))
      locks);
}

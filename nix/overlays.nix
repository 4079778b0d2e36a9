# Changes to the recipes of a tree, in Nix: overlays are functions `final: prev: { NAME = …; }`, one on top of the
# other, over all recipes. What such a function gives for a name:
#
#   prev.NAME.override { build.script = "…"; }       the recipe with some keys replaced, however deep
#   prev.NAME.overrideRecipe (recipe: recipe // …)   the recipe as a function makes it of the one before
#   { source.git = "…"; build.template = "cargo"; }  a recipe as recipe.toml would have it; new or in place of one
#   ./folder                                         a folder with a recipe.toml
#   a derivation                                     the package itself
#
# `final.NAME.package` is a recipe's derivation. Other than in recipe.toml, patches may be Nix paths, and the source
# a path (`source = ./.`), which is taken as it is. A source from git or a tar that the tree's lock does not know
# carries its pin: `rev` and `narHash`, or `sha256`; and `cargoLock`, a path, where Cargo needs one.
{ lib, overlays, package }:

{ folders, recipes }:

let
  inherit (builtins) attrNames foldl' isAttrs isFunction isPath isString mapAttrs removeAttrs;

  inherit (import ./modules/messages.nix { inherit lib; }) describe;

  update = old: new:
    if isAttrs old && isAttrs new && !(isDerivation old) && !(isDerivation new)
    then old // mapAttrs (name: value: if old ? ${name} then update old.${name} value else value) new
    else new;
  isDerivation = value: isAttrs value && value.type or null == "derivation";

  entry = name: folder: recipe: {
    _type = "recipe";
    inherit name folder recipe;
    override = changes: entry name folder (update recipe changes);
    overrideRecipe = change: entry name folder (change recipe);
    package = package name;
  };

  # Recipes that are written in Nix have a folder without anything.
  empty = ./builder/empty;

  adopt = number: name: value:
    if isDerivation value then entry name empty { build.template = "custom"; } // { derivation = value; }
    else if value._type or null == "recipe" then value // { inherit name; package = package name; }
    else if isPath value then entry name value (fromTOML (builtins.readFile (value + "/recipe.toml")))
    else if isAttrs value then entry name (folders.${name} or empty) value
    else throw "overlay ${toString (number + 1)} gives `${name}` ${describe value}; a recipe is a set, a path to its folder, or a derivation";

  base = mapAttrs (name: recipe: entry name folders.${name} recipe) recipes;
  final = (foldl'
    (state: overlay: {
      number = state.number + 1;
      set = state.set // mapAttrs (adopt state.number)
        (if isFunction overlay then overlay final state.set
        else throw "overlay ${toString (state.number + 1)} is ${describe overlay}; an overlay is a function `final: prev: { … }`");
    })
    { number = 0; set = base; }
    overlays).set;

  changed = lib.filterAttrs (name: new: !(recipes ? ${name}) || new ? derivation || new.recipe != recipes.${name} || new.folder != folders.${name})
    (builtins.intersectAttrs (foldl' (all: overlay: all // overlay final base) { } overlays) final);
  sourceOf = e: e.recipe.source or { };
  sourcesInFolders = lib.filterAttrs (_: e: isPath (sourceOf e) || isPath ((sourceOf e).path or null)) changed;

  # What the lock has for a source that is written here.
  pin = name: e:
    let
      source = sourceOf e;
      cargo = lib.optionalAttrs (source ? cargoLock) { cargo."." = lockOf source.cargoLock; };
    in
    if source ? git && source ? narHash && source ? rev then cargo // { type = "git"; url = source.git; inherit (source) rev narHash; }
    else if source ? tar && source ? sha256 then cargo // { type = "tar"; url = source.tar; inherit (source) sha256; }
    else throw
      ("the source of recipe `${name}` comes from an overlay, so the tree's lock does not pin it"
        + "\n\nhint: give it ${if source ? git then "`rev` and `narHash`" else "`sha256`"}");
  lockOf = file:
    let packages = (fromTOML (builtins.readFile file)).package or [ ];
    in {
      crates = builtins.concatMap (p: lib.optional (lib.hasPrefix "registry+" (p.source or "")) [ p.name p.version p.checksum ]) packages;
      git = builtins.concatMap (p: lib.optional (lib.hasPrefix "git+" (p.source or "")) { inherit (p) name version source; }) packages;
    };
  floats = e: let source = sourceOf e; in isAttrs source && (source ? git || source ? tar);
  isNew = name: e: e.recipe != { } && (!(recipes ? ${name}) || identity (sourceOf e) != identity (recipes.${name}.source or { }));
  # Patches and scripts are no part of what is fetched.
  identity = source: if isAttrs source then removeAttrs source [ "patches" "script" ] else source;
in
if overlays == [ ] then { inherit folders recipes; pins = { }; folderSources = { }; derivations = { }; }
else {
  folders = mapAttrs (_: e: e.folder) final;
  recipes = mapAttrs
    (_: e: if isPath (sourceOf e) then e.recipe // { source = { }; }
    else if isPath ((sourceOf e).path or null) then e.recipe // { source = removeAttrs e.recipe.source [ "path" ]; }
    else e.recipe)
    final;
  pins = mapAttrs pin (lib.filterAttrs (name: e: floats e && isNew name e) changed);
  folderSources = mapAttrs (_: e: if isPath e.recipe.source then e.recipe.source else e.recipe.source.path) sourcesInFolders;
  derivations = mapAttrs (_: e: e.derivation) (lib.filterAttrs (_: e: e ? derivation) changed);
}

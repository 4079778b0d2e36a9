# fromTOML: many small files, as recipes are, and a large one.
let
  inherit (builtins) attrNames concatStringsSep fromTOML genList hashString length toJSON;
  recipe = n: ''
    # A recipe.
    [source]
    git = "https://example.org/project-${toString n}.git"
    branch = "main"
    patches = ["one.patch", "two.patch"]

    [build]
    template = "custom"
    dependencies = ["zlib", "dep${toString (n - 1)}"]
    script = """
    DYNAMIC_INIT
    cookbook_configure --with-thing="${toString n}" \
        --without-other
    """

    [[optional-packages]]
    name = "dev"
    files = ["usr/include/**", "usr/lib/*.a"]
  '';
  package = n: ''
    [[package]]
    name = "crate-${toString n}"
    version = "1.${toString n}.0"
    source = "registry+https://example.org/index"
    checksum = "${hashString "sha256" (toString n)}"
    dependencies = [
     "crate-${toString (n + 1)}",
     "crate-${toString (n + 2)} 0.3.1",
    ]
  '';
  lock = fromTOML (concatStringsSep "\n" (genList package 4000));
in
{
  recipes = hashString "sha256" (toJSON (genList (n: fromTOML (recipe n)) 3000));
  packages = length lock.package;
  lock = hashString "sha256" (toJSON lock);
}

# <nix/fetchurl.nix>: a fixed output that Nix itself downloads. The derivation is the one C++ Nix gives.
{
  url,
  name ? baseNameOf (toString url),
  executable ? false,
  unpack ? false,
  impure ? false,
  # One of these says what is expected; `hash` in its SRI form before the others.
  hash ? "",
  sha512 ? "",
  sha1 ? "",
  md5 ? "",
  sha256 ? "",
  outputHash ?
    let
      given = builtins.filter (value: value != "") [ hash sha512 sha1 md5 ];
    in
    if given == [ ] then sha256 else builtins.head given,
  outputHashAlgo ?
    if hash != "" then ""
    else if sha512 != "" then "sha512"
    else if sha1 != "" then "sha1"
    else if md5 != "" then "md5"
    else "sha256",
  system ? "",
}:
let
  expected = if impure then { __impure = true; } else { inherit outputHash outputHashAlgo; };
in
derivation (expected // {
  inherit name url executable unpack;
  urls = [ url ];
  system = "builtin";
  builder = "builtin:fetchurl";
  outputHashMode = if executable || unpack then "recursive" else "flat";
  preferLocalBuild = true;
  impureEnvVars = [ "http_proxy" "https_proxy" "ftp_proxy" "all_proxy" "no_proxy" ];
})

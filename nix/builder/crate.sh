# Builds a published crate's programs for the build machine, as a layer of a build's root.
set -eu

export CARGO_HOME=/build/cargo-home HOME=/build/home CARGO_TARGET_DIR=/build/target
mkdir -p "$CARGO_HOME" "$HOME" "$out/usr"
ln -s "$vendor" /build/vendor
printf '%s\n' "$cargoConfig" >"$CARGO_HOME/config.toml"
cp -r --no-preserve=ownership,timestamps "$source" /build/source
chmod -R u+w /build/source
rm -f /build/source/rust-toolchain.toml
cargo install --path /build/source --root "$out/usr" --locked --offline --no-track

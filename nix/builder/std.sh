# Builds Rust's own library for $target from the source in the root, offline, into a layer of the same
# shape as the toolchain's: usr/lib/rustlib/<target>/lib.
set -eu

export CARGO_HOME=/build/cargo HOME=/build
library=/usr/lib/rustlib/src/rust/library
mkdir -p "$CARGO_HOME" /build/empty/src
vendor=$library/vendor
# The `libc` of before 0.2.185 takes Redox's device numbers for as long as a word, relibc has 8 bytes everywhere: where
# words are shorter, what `stat` says would be read at the wrong place.
case $target in
    i586-unknown-redox)
        vendor=/build/vendor
        cp -rL "$library/vendor" $vendor
        chmod -R u+w $vendor
        for crate in $vendor/libc-*/; do
            if grep -q '^pub type dev_t = c_long;' "$crate/src/unix/redox/mod.rs"; then
                sed -i 's/^pub type dev_t = c_long;/pub type dev_t = c_ulonglong;/' "$crate/src/unix/redox/mod.rs"
                sed -i 's/"files":{[^}]*}/"files":{}/' "$crate/.cargo-checksum.json"
            fi
        done
        ;;
esac
cat >"$CARGO_HOME/config.toml" <<CONFIG
[source.crates-io]
replace-with = "vendored"
[source.vendored]
directory = "$vendor"
[build]
incremental = false
CONFIG

# Cargo builds the library only for some package; this one is empty and leaves nothing behind.
cd /build/empty
printf '[package]\nname = "empty"\nversion = "0.0.0"\nedition = "2021"\n' >Cargo.toml
printf '#![no_std]\n' >src/lib.rs

# Cargo builds every crate of the library alike; the one that aborts has to be built to abort.
cat >/build/rustc-front <<'FRONT'
#!/usr/bin/bash
case " $* " in *" --crate-name panic_abort "*) set -- "$@" -C panic=abort ;; esac
exec "$@"
FRONT
chmod +x /build/rustc-front
export RUSTC_WRAPPER=/build/rustc-front

# A program with link-time optimisation wants the library's bitcode too.
export RUSTFLAGS="-C embed-bitcode=yes --remap-path-prefix=$library=/rust/library --remap-path-prefix=/build=/rust"
cargo build --release --offline --target "$target" \
    -Z build-std="$crates" ${features:+-Z build-std-features="$features"}

libraries=$out/usr/lib/rustlib/$target/lib
mkdir -p "$libraries"
rm target/"$target"/release/deps/libempty-*
cp target/"$target"/release/deps/*.rlib "$libraries"

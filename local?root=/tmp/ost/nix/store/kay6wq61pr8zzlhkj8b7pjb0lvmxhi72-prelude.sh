# What a recipe's script finds around it: the variables and functions of upstream's cookbook under their
# names. Everything is static here: DYNAMIC_INIT does nothing, as upstream does where it has no dynamic linking.

export PATH
export CARGO_TARGET_DIR=$COOKBOOK_BUILD/target
export PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_PATH= PKG_CONFIG_LIBDIR=$COOKBOOK_SYSROOT/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$COOKBOOK_SYSROOT
export CPPFLAGS="${CPPFLAGS-} -I$COOKBOOK_SYSROOT/include"
export LDFLAGS="${LDFLAGS-} -L$COOKBOOK_SYSROOT/lib --static"

if [ -n "${COOKBOOK_DEBUG-}" ]; then
    build_type=debug install_flags=--debug build_flags=
else
    build_type=release install_flags= build_flags=--release
fi
if [ -n "${COOKBOOK_OFFLINE-}" ]; then
    build_flags="$build_flags --offline" install_flags="$install_flags --offline"
fi

COOKBOOK_CARGO_FLAGS=(--locked)
COOKBOOK_CARGO_PATH=.

# Host tools must run wherever the image is built, whatever libraries are there.
if [ "$TARGET" = "$COOKBOOK_HOST_TARGET" ]; then
    export RUSTFLAGS="${RUSTFLAGS-} -C target-feature=+crt-static"
    unset LDFLAGS PKG_CONFIG_LIBDIR PKG_CONFIG_SYSROOT_DIR
fi

function reexport_flags {
    local suffix=${TARGET//-/_}
    export "CFLAGS_$suffix=${CFLAGS-} ${CPPFLAGS-}" "CXXFLAGS_$suffix=${CXXFLAGS-} ${CPPFLAGS-}" "LDFLAGS_$suffix=${LDFLAGS-}"
}
reexport_flags

function DYNAMIC_INIT { :; }
function DYNAMIC_STATIC_INIT { :; }

# Builds and installs the package with all its programs.
function cookbook_cargo {
    "$COOKBOOK_CARGO" install --path "$COOKBOOK_SOURCE/$COOKBOOK_CARGO_PATH" --root "$COOKBOOK_STAGE/usr" --no-track \
        $install_flags "${COOKBOOK_CARGO_FLAGS[@]}" "$@"
}

# cargo build on the recipe's manifest, without installing anything.
function cookbook_cargo_build {
    "$COOKBOOK_CARGO" build --manifest-path "$COOKBOOK_SOURCE/$COOKBOOK_CARGO_PATH/Cargo.toml" \
        $build_flags "${COOKBOOK_CARGO_FLAGS[@]}" "$@"
}

# Runs the package's tests here, on the build machine, and keeps the count in the stage: cargo's own lines
# without their times, which differ from run to run.
function cookbook_cargo_test {
    mkdir -p "$COOKBOOK_STAGE/usr/share/rednix/tests"
    "$COOKBOOK_CARGO" test --manifest-path "$COOKBOOK_SOURCE/$COOKBOOK_CARGO_PATH/Cargo.toml" \
        $build_flags "${COOKBOOK_CARGO_FLAGS[@]}" "$@" | tee "$COOKBOOK_BUILD/tests.log"
    test "${PIPESTATUS[0]}" = 0
    sed -n 's/^\(test result: .*\); finished in .*/\1/p' "$COOKBOOK_BUILD/tests.log" \
        >"$COOKBOOK_STAGE/usr/share/rednix/tests/$COOKBOOK_NAME"
}

# $1: name among cargo's outputs, $2: name in the stage.
function cookbook_stage_program {
    mkdir -p "$COOKBOOK_STAGE/usr/bin"
    cp -v "$CARGO_TARGET_DIR/$TARGET/$build_type/$1" "$COOKBOOK_STAGE/usr/bin/$2"
}

function cookbook_cargo_packages {
    local package
    for package in "$@"; do
        cookbook_cargo_build --package "$package"
        cookbook_stage_program "$package" "${package//_/-}"
    done
}

function cookbook_cargo_packages_prefixed {
    local package
    for package in "$@"; do
        cookbook_cargo_build --package "$package"
        cookbook_stage_program "$package" "${COOKBOOK_NAME}_$package"
    done
}

function cookbook_cargo_examples {
    local example
    for example in "$@"; do
        cookbook_cargo_build --example "$example"
        cookbook_stage_program "examples/$example" "${COOKBOOK_NAME}_$example"
    done
}

# -- the recipe's own script ------------------------------------------------------------------------------

# Functions for source scripts and build scripts alike, under upstream's names.

COOKBOOK_AUTORECONF=autoreconf

# Whether programs of $TARGET can be linked dynamically here. Upstream cannot on two machines; for Redox it takes a
# compiler with the shared libraries of gcc's own runtime, which the toolchain announces. Build machines can.
function rednix_can_link_dynamically {
    case $TARGET in
        i586-unknown-redox | riscv64gc-unknown-redox) return 1 ;;
        *-redox) [ -n "${REDNIX_DYNAMIC-}" ] ;;
    esac
}

# $1, $2: whether shared and static libraries are wanted, as configure, cmake and meson say it.
function rednix_library_flags {
    local shared=$1 static=$2 meson=$3
    local -A configure=([True]=enable [False]=disable)
    COOKBOOK_CONFIGURE_FLAGS=(--host="$GNU_TARGET" --prefix=/usr "--${configure[$shared]}-shared" "--${configure[$static]}-static")
    COOKBOOK_CMAKE_FLAGS=("-DBUILD_SHARED_LIBS=$shared" "-DENABLE_SHARED=$shared" "-DENABLE_STATIC=$static")
    COOKBOOK_MESON_FLAGS=(--buildtype release --wrap-mode nofallback "-Ddefault_library=$meson" -Dprefix=/usr)
}

# Link dynamically from here on, where that is possible; where not, everything stays as it was.
function DYNAMIC_INIT {
    if ! rednix_can_link_dynamically; then
        echo "note: everything for ${TARGET-this target} is linked statically" >&2
        return 0
    fi
    rednix_library_flags True False shared
    local look="-Wl,-rpath-link,$COOKBOOK_SYSROOT/lib"
    export LDFLAGS="${USER_LDFLAGS-}$look -L$COOKBOOK_SYSROOT/lib -Wl,--export-dynamic"
    # Rust programs for the build machine stay static: they must run wherever the image is built.
    if [ "$TARGET" != "${COOKBOOK_HOST_TARGET-}" ]; then
        export RUSTFLAGS="-C target-feature=-crt-static -L native=$COOKBOOK_SYSROOT/lib -C link-arg=$look"
    fi
    export COOKBOOK_DYNAMIC=1
    if [ "$(type -t reexport_flags)" = function ]; then reexport_flags; fi
}

# As DYNAMIC_INIT, with static libraries beside the shared ones.
function DYNAMIC_STATIC_INIT {
    DYNAMIC_INIT
    if [ -n "${COOKBOOK_DYNAMIC-}" ]; then rednix_library_flags True True both; fi
}

# Runs autoreconf wherever a configure.ac or configure.in is below this folder; arguments are for it.
function autotools_recursive_regenerate {
    local file files
    mapfile -t files < <(find . -name configure.ac -o -name configure.in -type f | sort)
    for file in "${files[@]}"; do
        echo "autoreconf in ${file%/*}"
        (cd "${file%/*}" && "$COOKBOOK_AUTORECONF" -fvi "$@" "-I$COOKBOOK_HOST_SYSROOT/share/aclocal")
    done
}

# Replaces a config.sub that is older than Redox.
function GNU_CONFIG_GET {
    cp -f /usr/share/libtool/build-aux/config.sub "$1"
}

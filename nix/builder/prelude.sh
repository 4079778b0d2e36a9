# What a recipe's build script finds around it: the variables and functions of upstream's cookbook under their
# names. Everything is linked statically until a script calls DYNAMIC_INIT (shared.sh).

export PATH
if [ -n "${COOKBOOK_TOOLCHAIN-}" ]; then
    export PATH=$COOKBOOK_TOOLCHAIN/bin:$PATH
    export LD_LIBRARY_PATH=$COOKBOOK_TOOLCHAIN/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
fi
export CARGO_TARGET_DIR=$COOKBOOK_BUILD/target
export CPPFLAGS="${CPPFLAGS:+$CPPFLAGS }-I$COOKBOOK_SYSROOT/include"
USER_LDFLAGS=${LDFLAGS:+$LDFLAGS }
export LDFLAGS="$USER_LDFLAGS-L$COOKBOOK_SYSROOT/lib --static"

if [ "$TARGET" = "$COOKBOOK_HOST_TARGET" ]; then
    # The machine's own libraries stay in reach. Programs must run wherever the image is built.
    export PKG_CONFIG_PATH=$COOKBOOK_SYSROOT/lib/pkgconfig:$COOKBOOK_SYSROOT/share/pkgconfig
    export RUSTFLAGS="${RUSTFLAGS:+$RUSTFLAGS }-C target-feature=+crt-static"
else
    export PKG_CONFIG_ALLOW_CROSS=1 PKG_CONFIG_PATH=
    export PKG_CONFIG_LIBDIR=$COOKBOOK_SYSROOT/lib/pkgconfig PKG_CONFIG_SYSROOT_DIR=$COOKBOOK_SYSROOT
fi

# What crates with C code look for, from what makefiles look for.
function reexport_flags {
    local suffix=${TARGET//-/_}
    export "CFLAGS_$suffix=${CFLAGS:+$CFLAGS }$CPPFLAGS" "CXXFLAGS_$suffix=${CXXFLAGS:+$CXXFLAGS }$CPPFLAGS"
    export "LDFLAGS_$suffix=$LDFLAGS"
}

# A recipe may ask for a build with debug information by setting COOKBOOK_DEBUG before it calls anything.
build_type=release install_flags=--no-track build_flags=--release
if [ -n "${COOKBOOK_DEBUG-}" ]; then
    build_type=debug install_flags+=" --debug" build_flags=
    export CPPFLAGS="$CPPFLAGS -g"
fi
if [ -n "${COOKBOOK_OFFLINE-}" ]; then build_flags+=" --offline" install_flags+=" --offline"; fi
reexport_flags

# -- cargo --------------------------------------------------------------------------------------------------

COOKBOOK_CARGO_FLAGS=(--locked)

# The folder of the recipe's cargo package. Trees of early 2026 and before say PACKAGE_PATH.
function rednix_cargo_folder {
    local path=${COOKBOOK_CARGO_PATH:-${PACKAGE_PATH-}}
    echo "$COOKBOOK_SOURCE${path:+/$path}"
}

# Builds and installs the package with all its programs.
function cookbook_cargo {
    "$COOKBOOK_CARGO" install --path "$(rednix_cargo_folder)" --root "$COOKBOOK_STAGE/usr" \
        -j "$COOKBOOK_MAKE_JOBS" $install_flags "${COOKBOOK_CARGO_FLAGS[@]}" "$@"
}

# Builds and puts one program into the stage, as RECIPE_PROGRAM. What differs comes in variables: bin_name (the
# program; the package's folder by default), bin_flags (for cargo), bin_dir (below the profile's folder),
# bin_final_name (in the stage), recipe (the prefix).
function cookbook_cargo_build {
    local folder program final
    folder=$(rednix_cargo_folder)
    program=${bin_name:-$(basename "${COOKBOOK_CARGO_PATH:-${PACKAGE_PATH-}}")}
    final=${bin_final_name:-${recipe:-$COOKBOOK_NAME}_${program//_/-}}
    "$COOKBOOK_CARGO" build --manifest-path "$folder/Cargo.toml" ${bin_flags-} $build_flags \
        -j "$COOKBOOK_MAKE_JOBS" "${COOKBOOK_CARGO_FLAGS[@]}"
    mkdir -p "$COOKBOOK_STAGE/usr/bin"
    cp -v "$CARGO_TARGET_DIR/$TARGET/$build_type/${bin_dir:-.}/$program" "$COOKBOOK_STAGE/usr/bin/$final"
    unset bin_name bin_flags bin_dir bin_final_name
}

function cookbook_cargo_examples {
    local example
    for example in "$@"; do
        bin_dir=examples bin_name=$example bin_flags="--example $example" cookbook_cargo_build
    done
}

# Packages of a workspace, under their own names. The cookbook of early 2026 and before put the recipe's name first.
function cookbook_cargo_packages {
    local package
    if [ -n "${REDNIX_PACKAGES_PREFIXED-}" ]; then
        cookbook_cargo_packages_prefixed "$@"
        return
    fi
    for package in "$@"; do
        bin_name=$package bin_flags="--package $package" bin_final_name=${package//_/-} cookbook_cargo_build
    done
}

function cookbook_cargo_packages_prefixed {
    local package
    for package in "$@"; do
        bin_name=$package bin_flags="--package $package" cookbook_cargo_build
    done
}

# Our own: runs the package's tests here, on the build machine, and keeps the count in the stage: cargo's own lines
# without their times, which differ from run to run.
function cookbook_cargo_test {
    mkdir -p "$COOKBOOK_STAGE/usr/share/rednix/tests"
    "$COOKBOOK_CARGO" test --manifest-path "$(rednix_cargo_folder)/Cargo.toml" \
        $build_flags "${COOKBOOK_CARGO_FLAGS[@]}" "$@" | tee "$COOKBOOK_BUILD/tests.log"
    test "${PIPESTATUS[0]}" = 0
    sed -n 's/^\(test result: .*\); finished in .*/\1/p' "$COOKBOOK_BUILD/tests.log" \
        >"$COOKBOOK_STAGE/usr/share/rednix/tests/$COOKBOOK_NAME"
}

# -- configure and make -------------------------------------------------------------------------------------

COOKBOOK_CONFIGURE=$COOKBOOK_SOURCE/configure
COOKBOOK_CONFIGURE_FLAGS=(--host="$GNU_TARGET" --prefix=/usr --disable-shared --enable-static)
COOKBOOK_MAKE=make
COOKBOOK_MAKE_FLAGS=()

function cookbook_configure {
    "$COOKBOOK_CONFIGURE" "${COOKBOOK_CONFIGURE_FLAGS[@]}" "$@"
    "$COOKBOOK_MAKE" -j "$COOKBOOK_MAKE_JOBS" "${COOKBOOK_MAKE_FLAGS[@]}"
    "$COOKBOOK_MAKE" install DESTDIR="$COOKBOOK_STAGE"
}

# -- cmake --------------------------------------------------------------------------------------------------

COOKBOOK_CMAKE=cmake
COOKBOOK_NINJA=ninja
COOKBOOK_CMAKE_FLAGS=(-DBUILD_SHARED_LIBS=False -DENABLE_SHARED=False -DENABLE_STATIC=True)

# Writes cmake's toolchain file. Cmake has no platform of its own for Redox; UnixPaths is the plainest there is.
#   $1 target, $2 prefix of the compiler's names, $3 sysroot, $4 file
function generate_cookbook_cmake_file {
    local target=$1 prefix=$2 sysroot=$3 file=$4 system=UnixPaths
    local compiler="${prefix}gcc" plus="${prefix}g++" tools="${prefix}gcc-"
    case $target in *-linux-*) system=Linux ;; esac
    if [ -n "${REDOXER_USE_CLANG-}" ]; then compiler=clang plus=clang++ tools=llvm-; fi
    {
        printf 'set(%s %s)\n' \
            CMAKE_SYSTEM_NAME "$system" CMAKE_SYSTEM_PROCESSOR "${target%%-*}" \
            CMAKE_C_COMPILER "$compiler" CMAKE_CXX_COMPILER "$plus" \
            CMAKE_AR "${tools}ar" CMAKE_NM "${tools}nm" CMAKE_RANLIB "${tools}ranlib" \
            CMAKE_FIND_ROOT_PATH "$sysroot" CMAKE_PREFIX_PATH "$sysroot" \
            CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY \
            CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER \
            CMAKE_PLATFORM_USES_PATH_WHEN_NO_SONAME 1 CMAKE_SHARED_LIBRARY_SONAME_C_FLAG '"-Wl,-soname,"'
        if [ "$target" = "$TARGET" ]; then
            # Upstream gives C++ the flags of C; recipes are written for that.
            printf 'set(CMAKE_%s_FLAGS "%s")\n' C "${CFLAGS-} $CPPFLAGS" CXX "${CFLAGS-} $CPPFLAGS"
        fi
        if [ -n "${CC_WRAPPER-}" ]; then printf 'set(CMAKE_%s_COMPILER_LAUNCHER %s)\n' C "$CC_WRAPPER" CXX "$CC_WRAPPER"; fi
    } >"$file"
}

function cookbook_cmake {
    local prefix=$GNU_TARGET-
    if [ "$TARGET" = "$COOKBOOK_HOST_TARGET" ]; then prefix=; fi
    generate_cookbook_cmake_file "$TARGET" "$prefix" "$COOKBOOK_SYSROOT" cross_file.cmake
    "$COOKBOOK_CMAKE" "$COOKBOOK_SOURCE" -GNinja -Wno-dev \
        -DCMAKE_TOOLCHAIN_FILE=cross_file.cmake -DCMAKE_CROSSCOMPILING=True -DCMAKE_BUILD_TYPE=Release \
        -DCMAKE_INSTALL_PREFIX=/usr -DCMAKE_INSTALL_SBINDIR=bin -DCMAKE_INSTALL_LIBDIR=lib \
        -DCMAKE_INSTALL_INCLUDEDIR=include -DCMAKE_INSTALL_OLDINCLUDEDIR=/include \
        "${COOKBOOK_CMAKE_FLAGS[@]}" "$@"
    "$COOKBOOK_NINJA" -j "$COOKBOOK_MAKE_JOBS"
    DESTDIR=$COOKBOOK_STAGE "$COOKBOOK_NINJA" install -j "$COOKBOOK_MAKE_JOBS"
}

# -- meson --------------------------------------------------------------------------------------------------

COOKBOOK_MESON=meson
COOKBOOK_MESON_FLAGS=(--buildtype release --wrap-mode nofallback -Ddefault_library=static -Dprefix=/usr)

# Words → a list as meson writes it.
function rednix_meson_list {
    local words=($1) list
    printf -v list ", '%s'" "${words[@]}"
    if [ ${#words[@]} = 0 ]; then list="  "; fi
    echo "[${list:2}]"
}

function cookbook_meson {
    local machine=${TARGET%%-*} family system
    case $machine in
        i586 | i686) family=x86 ;;
        riscv64gc) family=riscv64 ;;
        *) family=$machine ;;
    esac
    system=$(cut -d - -f 3 <<<"$TARGET")
    cat >cross_file.txt <<CROSS
[binaries]
c = $(rednix_meson_list "$CC")
cpp = $(rednix_meson_list "$CXX")
ar = '$AR'
strip = '$STRIP'
pkg-config = '$PKG_CONFIG'
llvm-config = '$TARGET-llvm-config'
glib-compile-resources = 'glib-compile-resources'
glib-compile-schemas = 'glib-compile-schemas'

[host_machine]
system = '$system'
cpu_family = '$family'
cpu = '$machine'
endian = 'little'

[built-in options]
prefix = '/usr'
bindir = 'bin'
libdir = 'lib'
c_args = $(rednix_meson_list "${CFLAGS-} $CPPFLAGS")
cpp_args = $(rednix_meson_list "${CXXFLAGS-} $CPPFLAGS")
c_link_args = $(rednix_meson_list "$LDFLAGS")

[properties]
needs_exe_wrapper = true
sys_root = '$COOKBOOK_SYSROOT'
CROSS
    # From here on meson looks for the build machine's own tools itself; these would be taken for them.
    unset AR AS CC CXX LD NM OBJCOPY OBJDUMP PKG_CONFIG RANLIB READELF STRIP
    "$COOKBOOK_MESON" setup "$COOKBOOK_SOURCE" . --cross-file cross_file.txt "${COOKBOOK_MESON_FLAGS[@]}" "$@"
    "$COOKBOOK_NINJA" -j "$COOKBOOK_MAKE_JOBS"
    DESTDIR=$COOKBOOK_STAGE "$COOKBOOK_NINJA" install -j "$COOKBOOK_MAKE_JOBS"
}

# -- python -------------------------------------------------------------------------------------------------

COOKBOOK_PYTHON=${COOKBOOK_TOOLCHAIN-}/bin/python3
# Without one among the dependencies it is the build root's.
if [ ! -x "$COOKBOOK_PYTHON" ]; then COOKBOOK_PYTHON=/usr/bin/python3; fi
# The version of the tree's own python, which packages for the guest are installed for.
COOKBOOK_PYTHON_V=python3.12
COOKBOOK_PYTHON_PIP_FLAGS=(--ignore-installed --no-index --no-build-isolation)

# Makes the build machine's python believe it is the target's: where packages are, and how extensions are built.
function PYTHON_INIT {
    local system libraries=$COOKBOOK_SYSROOT/usr/lib/$COOKBOOK_PYTHON_V
    ARCH=${TARGET%%-*} OS=$(cut -d - -f 3-4 <<<"$TARGET")
    system=${OS%%-*}
    export PYTHONPYCACHEPREFIX=$COOKBOOK_BUILD _PYTHON_HOST_PLATFORM=$OS-$ARCH
    export PYTHONPATH=${PYTHONPATH:+$PYTHONPATH:}$libraries:$libraries/site-packages
    export _PYTHON_SYSCONFIGDATA_NAME=_sysconfigdata__${system}_$ARCH-$OS
}

function cookbook_python {
    local compiled=$COOKBOOK_BUILD$COOKBOOK_STAGE/usr
    PYTHON_INIT
    # Python packages are built where they lie.
    cp -r "$COOKBOOK_SOURCE" source
    if [ -n "${COOKBOOK_PYTHON_LEGACY_SETUP-}" ]; then (cd source && python3 setup.py install); fi
    "$COOKBOOK_PYTHON" -m pip install --prefix="$COOKBOOK_STAGE/usr" \
        "./source${COOKBOOK_PYTHON_PYPROJECT_PATH:+/$COOKBOOK_PYTHON_PYPROJECT_PATH}" \
        "${COOKBOOK_PYTHON_PIP_FLAGS[@]}" "$@"
    # What was compiled went to the folder for it, under the whole path.
    if [ -d "$compiled" ]; then cp -r "$compiled/." "$COOKBOOK_STAGE/usr"; fi
}

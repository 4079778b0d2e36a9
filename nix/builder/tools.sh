# Puts the tools a recipe calls by name in front of PATH: `<gnu target>-…` names, and the fronts that
# recipes call in place of cargo. Sourced before the recipe's script.

case $TARGET in
    riscv64gc-*) GNU_TARGET=riscv64-unknown-redox ;;
    x86_64-unknown-linux-gnu) GNU_TARGET=x86_64-linux-gnu ;;
    *) GNU_TARGET=$TARGET ;;
esac
export GNU_TARGET

tools=/build/tools
mkdir -p $tools
export PATH=$tools:$PATH

# Finds packages of the sysroot only. What is linked statically wants their own libraries too.
target_pkg_config="env PKG_CONFIG_SYSROOT_DIR=$COOKBOOK_SYSROOT PKG_CONFIG_LIBDIR=$COOKBOOK_SYSROOT/lib/pkgconfig:$COOKBOOK_SYSROOT/share/pkgconfig pkgconf \$([ -n \"\${COOKBOOK_DYNAMIC-}\" ] || echo --static)"

# First argument: the name; the rest: the programs that can stand in for it, the best first. Upstream's own toolchain
# brings programs of these names, and then they are the ones.
tool() {
    local name=$1 candidate
    shift
    [ ! -e "$tools/$name" ] && [ ! -x "/usr/bin/$name" ] || return 0
    for candidate in "$@"; do
        if command -v "${candidate%% *}" >/dev/null; then
            printf '#!/usr/bin/bash\nexec %s "$@"\n' "$candidate" >"$tools/$name"
            chmod +x "$tools/$name"
            return 0
        fi
    done
}

if [ "$TARGET" != "$COOKBOOK_HOST_TARGET" ]; then
    # There only where LLVM's tools are not enough, and then for all that belongs together.
    for name in ld objcopy; do
        case $TARGET in riscv64gc-*) tool "$GNU_TARGET-$name" "riscv64-linux-gnu-$name" ;; esac
    done
    for name in ar nm ranlib objcopy objdump readelf strip strings; do
        tool "$GNU_TARGET-$name" "llvm-$name" "$name"
        tool "$GNU_TARGET-gcc-$name" "llvm-$name" "$name"
    done
    tool "$GNU_TARGET-ld" ld.lld ld
    tool "$GNU_TARGET-as" "clang --target=$GNU_TARGET -c -x assembler" as
    tool "$GNU_TARGET-pkg-config" "$target_pkg_config"
    # That of LLVM built for here, its answers about the one built for the target.
    cat >"$tools/$GNU_TARGET-llvm-config" <<'FRONT'
#!/usr/bin/bash
set -eo pipefail
if [ "${1-}" = --bindir ]; then
    echo "$COOKBOOK_TOOLCHAIN/usr/bin"
else
    "$COOKBOOK_TOOLCHAIN/usr/bin/llvm-config" "$@" | sed "s|$COOKBOOK_TOOLCHAIN|$COOKBOOK_SYSROOT|g"
fi
FRONT
    chmod +x "$tools/$GNU_TARGET-llvm-config"
    if [ -n "${cookbookCompiler-}" ] && command -v clang >/dev/null; then
        mkdir -p $tools/empty
        headers=$(clang -print-resource-dir)/include
        for pair in gcc:clang cc:clang g++:clang++ c++:clang++; do
            sed "s|^# @values@|crossTarget=$GNU_TARGET crossDriver=${pair#*:} crossHeaders=$headers|" "$cookbookCompiler" \
                >"$tools/$GNU_TARGET-${pair%:*}"
            chmod +x "$tools/$GNU_TARGET-${pair%:*}"
        done
    fi
else
    for name in ar nm ranlib objcopy objdump readelf strip ld as gcc g++; do tool "$GNU_TARGET-$name" "$name"; done
fi

# A target that a package describes itself and finds by name through RUST_TARGET_PATH: newer compilers want a flag
# for it, which older trees cannot pass.
if command -v rustc >/dev/null; then
    printf '#!/usr/bin/bash\nexec %s ${RUST_TARGET_PATH:+-Zunstable-options} "$@"\n' "$(command -v rustc)" >$tools/rustc
    chmod +x $tools/rustc
fi

# A package with several Cargo.lock files may mean different commits of one git source in them; cargo's configuration
# has room for one. The front adds what belongs to the lock that cargo is about to use.
if [ -n "${cookbookCargoLocks-}" ]; then
    mapfile -t locks <<<"$cookbookCargoLocks"
    {
        printf '#!/usr/bin/bash\nset -e\ndeclare -A configurations=('
        for index in "${!locks[@]}"; do
            text=cookbookCargoLockConfig$index
            printf '%s\n' "${!text}" >"$CARGO_HOME/lock$index.toml"
            printf '[%q]=%q ' "${locks[index]}" "$CARGO_HOME/lock$index.toml"
        done
        printf ')\ncargo=%q\n' "$(command -v cargo)"
        cat <<'FRONT'
folder=$PWD previous=
for word in "$@"; do
    case $previous in
        --manifest-path) folder=$(dirname "$word") ;;
        --path) folder=$word ;;
    esac
    case $word in
        --manifest-path=*) folder=$(dirname "${word#*=}") ;;
        --path=*) folder=${word#*=} ;;
    esac
    previous=$word
done
if [ -d "$folder" ]; then folder=$(cd "$folder" && pwd -P); fi
while [ "$folder" != / ] && [ "$folder" != . ] && [ ! -e "$folder/Cargo.lock" ]; do folder=$(dirname "$folder"); done
lock=$folder/Cargo.lock
# Scripts may work in a copy of their source.
lock=${lock#"$COOKBOOK_SOURCE"/}
lock=${lock#"$COOKBOOK_BUILD"/}
configuration=${configurations[$lock]-}
exec "$cargo" ${configuration:+--config "$configuration"} "$@"
FRONT
    } >$tools/cargo
    chmod +x $tools/cargo
fi

# What upstream's `redoxer env` sets for every script, so that configure scripts and crates find the target's tools.
# Each also under the name that crates with C code look for first.
set_tool() {
    export "$1=$2" "${1}_${TARGET//-/_}=$2"
}
if [ "$TARGET" != "$COOKBOOK_HOST_TARGET" ]; then prefix=$GNU_TARGET-; else prefix=; fi
set_tool CC "${prefix}gcc"
set_tool CXX "${prefix}g++"
for pair in AR:gcc-ar NM:gcc-nm RANLIB:gcc-ranlib AS:as LD:ld OBJCOPY:objcopy OBJDUMP:objdump READELF:readelf STRIP:strip; do
    set_tool "${pair%%:*}" "$prefix${pair#*:}"
done
if [ "$TARGET" != "$COOKBOOK_HOST_TARGET" ]; then
    set_tool PKG_CONFIG "$GNU_TARGET-pkg-config"
    upper=${TARGET//-/_}
    upper=${upper^^}
    export "CARGO_TARGET_${upper}_LINKER=$CC"
    # Build scripts of crates run here, so what is meant for the target must not reach them.
    case $TARGET in i586-* | i686-*) pointers= ;; *) pointers="-C force-frame-pointers=yes" ;; esac
    export "CARGO_TARGET_${upper}_RUSTFLAGS=${RUSTFLAGS-} $pointers"
    unset RUSTFLAGS
    case $TARGET in
        aarch64-*) export CPPFLAGS=-mno-outline-atomics ;;
        riscv64gc-*) export CPPFLAGS="-march=rv64gc -mabi=lp64d" ;;
    esac
else
    set_tool PKG_CONFIG pkg-config
fi

# `cookbook-redoxer SUBCOMMAND …` is cargo for the target; `env` and the compilers run as they are.
cat >$tools/cookbook-redoxer <<'FRONT'
#!/usr/bin/bash
set -e
subcommand=$1
shift
case $subcommand in
    env) exec "$@" ;;
    cc) exec "${CC:-$GNU_TARGET-gcc}" "$@" ;;
    cxx) exec "${CXX:-$GNU_TARGET-g++}" "$@" ;;
    ar) exec "${AR:-$GNU_TARGET-ar}" "$@" ;;
    --target) echo "$TARGET" ;;
    --gnu-target) echo "$GNU_TARGET" ;;
    --host-target) echo "$COOKBOOK_HOST_TARGET" ;;
    *)
        # A script's own flags join the target's, and build scripts do not see them. For the host they stay: they make
        # its programs static.
        if [ "$TARGET" != "$COOKBOOK_HOST_TARGET" ] && [ -n "${RUSTFLAGS-}" ]; then
            variable=${TARGET//-/_}
            variable=CARGO_TARGET_${variable^^}_RUSTFLAGS
            export "$variable=$RUSTFLAGS ${!variable-}"
            unset RUSTFLAGS
        fi
        # Older trees say this in every recipe, newer ones in the prelude's own flags; cargo takes it once.
        words=() track=
        for word in "$@"; do
            if [ "$word" = --no-track ]; then
                [ -z "$track" ] || continue
                track=no
            fi
            words+=("$word")
        done
        exec cargo "$subcommand" --target "$TARGET" "${words[@]}"
        ;;
esac
FRONT
ln -s cookbook-redoxer $tools/redoxer
printf '#!/usr/bin/bash\nexec cookbook-redoxer "$@"\n' >$tools/cookbook-cargo
chmod +x $tools/cookbook-redoxer $tools/cookbook-cargo

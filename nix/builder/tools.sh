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

# First argument: the name; the rest: the programs that can stand in for it, the best first.
tool() {
    local name=$1 candidate
    shift
    [ ! -e "$tools/$name" ] || return 0
    for candidate in "$@"; do
        if command -v "$candidate" >/dev/null; then
            printf '#!/usr/bin/bash\nexec %s "$@"\n' "$candidate" >"$tools/$name"
            chmod +x "$tools/$name"
            return 0
        fi
    done
}

if [ "$TARGET" != "$COOKBOOK_HOST_TARGET" ]; then
    for name in ar nm ranlib objcopy objdump readelf strip strings; do
        tool "$GNU_TARGET-$name" "llvm-$name" "$name"
        tool "$GNU_TARGET-gcc-$name" "llvm-$name" "$name"
    done
    tool "$GNU_TARGET-ld" ld.lld ld
    tool "$GNU_TARGET-as" "clang --target=$GNU_TARGET -c -x assembler" as
    tool "$GNU_TARGET-pkg-config" pkgconf
else
    for name in ar nm ranlib objcopy objdump readelf strip ld as gcc g++; do tool "$GNU_TARGET-$name" "$name"; done
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
    *) exec cargo "$subcommand" --target "$TARGET" "$@" ;;
esac
FRONT
ln -s cookbook-redoxer $tools/redoxer
printf '#!/usr/bin/bash\nexec cookbook-redoxer "$@"\n' >$tools/cookbook-cargo
chmod +x $tools/cookbook-redoxer $tools/cookbook-cargo

#!/usr/bin/bash
# The target's C or C++ compiler: clang for compiling, lld with relibc for linking. Installed under upstream's
# compiler names by tools.sh, which puts the values of crossTarget, crossDriver and crossHeaders at the marked line.
set -eu
# @values@

prefix=/usr/$crossTarget
# clang knows no Redox: an unknown system has no start files, libraries or linker of its own.
headers=(-nostdinc -isystem "$crossHeaders" -isystem "$prefix/include")
compile=(--target="$crossTarget" -D__redox__ "${headers[@]}")
lenient=()
# Upstream's gcc 13 only warns where clang and later compilers refuse; older sources rely on it.
if [ "$crossDriver" = clang ]; then
    lenient=(-Wno-error=implicit-function-declaration -Wno-error=implicit-int -Wno-error=int-conversion
        -Wno-error=incompatible-pointer-types -Wno-error=incompatible-function-pointer-types -Wno-error=return-mismatch)
fi

link=true start_files=true libraries=true shared=false
arguments=()
for argument in "$@"; do
    case $argument in
        -c | -S | -E | -M | -MM | -fsyntax-only | --version | -v | -dump* | -print-*) link=false ;;
        -nostdlib) start_files=false libraries=false ;;
        -nostartfiles) start_files=false ;;
        -nodefaultlibs) libraries=false ;;
        -shared) shared=true start_files=false ;;
        -r | -Wl,-r) start_files=false libraries=false ;;
        # Everything is linked at a fixed address: relibc's start code relocates nothing.
        -pie | -static-pie | -no-pie | -static | -rdynamic | -static-libgcc | -shared-libgcc | -static-libstdc++) continue ;;
    esac
    arguments+=("$argument")
done
if ! $link || [ ${#arguments[@]} = 0 ]; then exec "$crossDriver" "${compile[@]}" "${lenient[@]}" "${arguments[@]}"; fi

# Linking goes through the driver for Linux, which knows how to call lld; nothing of Linux is in its reach. A source
# among the arguments is compiled on the way, so Linux's macros have to go.
machine=${crossTarget%%-*}
driver=(
    --target="$machine-unknown-linux-gnu" --sysroot=/build/tools/empty -fuse-ld=lld -nostdlib
    -U__linux__ -U__linux -Ulinux -U__gnu_linux__ -D__redox__ -fno-pie "${headers[@]}" -Qunused-arguments "${lenient[@]}"
    "-L$prefix/lib" -Wl,--eh-frame-hdr
)
if $shared; then
    case $machine in
        aarch64)
            # relibc jumps from one of its assembler parts to another with an instruction that reaches 1 MiB. The two
            # are kept together, and functions bound to each other: a jump to what another library might replace goes
            # to the table behind all code, and that is too far. GNU's linker binds such jumps by itself.
            printf 'setjmp\nsigsetjmp\n' >/build/tools/near
            driver+=(-Wl,--symbol-ordering-file=/build/tools/near -Wl,--no-warn-symbol-ordering
                -Wl,-Bsymbolic-functions)
            ;;
        # Rust's library is not wholly independent of its position there; GNU's linker lets that pass.
        i586) driver+=(-Wl,-z,notext) ;;
    esac
fi
if $shared; then driver+=(-shared); else driver+=(-static -no-pie); fi
before=() after=()
if $start_files; then
    before=("$prefix/lib/crt0.o" "$prefix/lib/crti.o")
    after=("$prefix/lib/crtn.o")
fi
if $libraries; then after=(-lc -lm -lgcc_eh -lgcc -lc "${after[@]}"); fi
exec "$crossDriver" "${driver[@]}" "${before[@]}" "${arguments[@]}" "${after[@]}"

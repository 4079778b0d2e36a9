# What a C compiler brings to every link: libgcc.a and an unwinder under the name of gcc's, libgcc_eh.a. Both from
# Debian's objects, which need nothing of Linux; what they need of a C library and relibc may lack is in unwind.c.
set -eu

into=$out/usr/$gnuTarget/lib
mkdir -p "$into" /build/objects
cp "$(gcc -print-libgcc-file-name)" "$into/libgcc.a"
clang --target="$gnuTarget" -ffreestanding -fno-stack-protector -O2 -fPIC -c "$unwindHelper" -o /build/objects/unwind-helper.o
cd /build/objects
llvm-ar x /usr/lib/llvm-22/lib/libunwind.a
llvm-ar rcs "$into/libgcc_eh.a" ./*.o

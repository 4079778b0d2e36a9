# What a C compiler brings to every link: libgcc.a and an unwinder under the name of gcc's, libgcc_eh.a. Both from
# Debian's objects, which need nothing of Linux; what they need of a C library and relibc may lack is in unwind.c.
# For the build machine's architecture the unwinder is LLVM's, for others it is the one of Debian's cross compilers.
set -eu

into=$out/usr/$gnuTarget/lib
mkdir -p "$into" /build/objects
cd /build/objects
if [ -n "${crossRuntime-}" ]; then
    folder=$(echo "$crossRuntime"/usr/lib/gcc-cross/*/*)
    libgcc=$folder/libgcc.a unwinder=$folder/libgcc_eh.a
else
    libgcc=$(gcc -print-libgcc-file-name) unwinder=/usr/lib/llvm-22/lib/libunwind.a
fi
cp "$libgcc" "$into/libgcc.a"
clang --target="$gnuTarget" $machineFlags -ffreestanding -fno-stack-protector -O2 -fPIC -c "$unwindHelper" -o unwind-helper.o
llvm-ar x "$unwinder"
llvm-ar rcs "$into/libgcc_eh.a" ./*.o

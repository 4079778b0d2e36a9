# Unpacks one archive of a toolchain into a layer of a build's root: what it would install, below usr/.
set -eu

mkdir -p "$out/usr"
if [ -z "${prefixOf-}" ]; then
    # A Rust release: <archive>/<component>/…; beside the component stand the installer and its lists, in it a list of
    # its files.
    tar --extract --xz --file="$archive" --directory="$out/usr" --strip-components=2 --no-same-owner \
        --exclude='*/*/manifest.in' --exclude='*/*/share'
else
    # Redox's own: everything below `./`, with the relibc of another day in it. The tree's own takes its place, and a
    # header that it no longer has must not be found.
    tar --extract --gzip --file="$archive" --directory="$out/usr" --strip-components=1 --no-same-owner
    headers=$out/usr/$prefixOf/include
    if [ -d "$headers" ]; then find "$headers" -mindepth 1 -maxdepth 1 ! -name 'c++' -exec rm -r {} +; fi
fi

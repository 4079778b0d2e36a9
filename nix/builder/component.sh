# Unpacks one archive of a Rust release into a layer of a build's root: what it would install, below usr/.
set -eu

mkdir -p "$out/usr"
# <archive>/<component>/…; beside the component stand the installer and its lists, in it a list of its files.
tar --extract --xz --file="$archive" --directory="$out/usr" --strip-components=2 --no-same-owner \
    --exclude='*/*/manifest.in' --exclude='*/*/share'

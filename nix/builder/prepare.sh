# Prepares a source once for all who use it: a copy with the recipe's patches applied and its source script run.
set -eu

export COOKBOOK_HOST_SYSROOT=/usr FIND=find HOME=/build/home
mkdir -p "$HOME" /build/source /build/tools
export PATH=/build/tools:$PATH
. "$cookbookCommon"
write_fetch_fronts /build/tools

if [ -n "${cookbookSource-}" ]; then copy_tree "$cookbookSource" /build/source; fi
for patch in ${cookbookPatches-}; do
    patch --directory=/build/source --strip=1 --batch <"$patch" ||
        { echo "error: the patch ${patch##*/} does not apply to this source" >&2; exit 1; }
done
if [ -n "${cookbookSourceScript-}" ]; then
    hide_build
    cd /build/source
    run_script source-script.sh ". $cookbookShared" "$cookbookSourceScript" :
fi
# Left behind by patch where it had to look for a place; nobody's source.
cd /build
find source \( -name '*.orig' -o -name '*.rej' \) -newer "$cookbookCommon" -delete
cp -r --preserve=mode,links source/. "$out"

# Cooks one recipe: lays out the folders a recipe's script expects, runs the script between prelude and
# clean-up, and hands the stage over as the outputs. What the variables mean is upstream's contract; their
# values here never change from day to day.
set -eu

export COOKBOOK_ROOT=/build/cookbook COOKBOOK_RECIPE=/build/recipe COOKBOOK_NAME=$recipeName
export COOKBOOK_SOURCE=/build/source COOKBOOK_BUILD=/build/build COOKBOOK_STAGE=/build/stage
export COOKBOOK_SYSROOT=/build/sysroot COOKBOOK_TOOLCHAIN=/build/toolchain
export COOKBOOK_HOST_SYSROOT=/usr COOKBOOK_MAKE=make COOKBOOK_MAKE_JOBS=${NIX_BUILD_CORES:-1}
export COOKBOOK_CARGO=cookbook-cargo COOKBOOK_REDOXER=cookbook-redoxer COOKBOOK_OFFLINE=true COOKBOOK_VERBOSE=1
export COOKBOOK_SOURCE_IDENT=rednix COOKBOOK_COMMIT_IDENT=rednix FIND=find
export HOME=/build/home CARGO_HOME=/build/cargo-home CARGO_NET_OFFLINE=true CARGO_TERM_COLOR=never
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1}

mkdir -p "$COOKBOOK_ROOT" "$COOKBOOK_RECIPE" "$COOKBOOK_SOURCE" "$COOKBOOK_BUILD" "$COOKBOOK_STAGE" "$HOME" "$CARGO_HOME"

# For whoever watches: where the time goes.
phase() { printf '@nix {"action":"setPhase","phase":"%s"}\n' "$1"; }

phase unpack
# Builds may write into their source, and a store path is read-only.
copy_tree() {
    cp -r --no-preserve=ownership,timestamps "$1/." "$2"
    chmod -R u+w "$2"
}
if [ -n "${source-}" ]; then copy_tree "$source" "$COOKBOOK_SOURCE"; fi
if [ -n "${recipeFolder-}" ]; then copy_tree "$recipeFolder" "$COOKBOOK_RECIPE"; fi

phase sysroot
# A folder as upstream's sysroot: usr/…, with links to it at the top.
compose() {
    local into=$1 stage
    shift
    mkdir -p "$into"/usr/{bin,include,lib,share}
    for folder in bin include lib share; do ln -s "usr/$folder" "$into/$folder"; done
    for stage in "$@"; do
        [ -d "$stage/usr" ] || continue
        copy_tree "$stage/usr" "$into/usr"
    done
}
compose "$COOKBOOK_SYSROOT" ${sysroot-}
compose "$COOKBOOK_TOOLCHAIN" ${toolchain-}

# In a build folder that stays (`rednix work`) make must see inputs as old as they are: their files are as old as
# the list of them.
if [ -n "${rednixWork-}" ]; then
    inputs=$COOKBOOK_BUILD/.rednix-inputs
    list="${sysroot-}:${toolchain-}:${recipeFolder-}"
    if [ ! -e "$inputs" ] || [ "$(cat "$inputs")" != "$list" ]; then printf '%s' "$list" >"$inputs"; fi
    for folder in "$COOKBOOK_SYSROOT" "$COOKBOOK_TOOLCHAIN" "$COOKBOOK_RECIPE"; do
        find "$folder" -exec touch --no-dereference --reference="$inputs" {} +
    done
fi

phase patch
for patch in ${sourcePatches-}; do
    patch --directory="$COOKBOOK_SOURCE" --strip=1 --batch <"$patch"
done

if [ -n "${cargoVendor-}" ]; then
    ln -s "$cargoVendor" /build/vendor
    printf '%s\n' "$cargoConfig" >"$CARGO_HOME/config.toml"
fi
# Targets described in JSON became an unstable feature after older trees were written; they cannot ask for it.
printf '[build]\nincremental = false\n\n[unstable]\njson-target-spec = true\n' >>"$CARGO_HOME/config.toml"

. "$cookbookTools"
# Each script runs in a shell of its own, so that whatever it sets ends with it.
run_script() {
    printf '%s\n' "$2" | cat "$cookbookPrelude" - >"/build/$1"
    bash -ex "/build/$1"
}
if [ -n "${sourceScript-}" ]; then
    cd "$COOKBOOK_SOURCE"
    run_script source-script.sh "$sourceScript"
fi
if [ -n "${prepareOnly-}" ]; then
    mkdir -p "$out"
    cp -r --preserve=mode,links "$COOKBOOK_SOURCE/." "$out"
    exit
fi
phase build
cd "$COOKBOOK_BUILD"
run_script script.sh "$recipeScript"

phase install
# -- clean-up -----------------------------------------------------------------------------------------------

strip_folder() {
    local option=$1 folder=$COOKBOOK_STAGE/$2
    [ -d "$folder" ] || return 0
    # Files that are no objects are passed over by strip itself.
    find "$folder" -type f -exec "$GNU_TARGET-strip" $option {} \; 2>/dev/null || true
}
if [ -z "${COOKBOOK_NOSTRIP-}" ]; then
    for folder in bin usr/bin libexec usr/libexec; do strip_folder "" $folder; done
    for folder in lib usr/lib; do strip_folder --strip-debug $folder; done
fi
find "$COOKBOOK_STAGE" -name '*.la' -type f -delete
find "$COOKBOOK_STAGE" -maxdepth 2 -name '.crates*' -delete

# -- outputs ------------------------------------------------------------------------------------------------

for output in $outputs; do mkdir -p "${!output}"; done

# The first optional package whose pattern matches a file takes it; `*` also matches `/`.
if [ -n "${optionalFiles-}" ]; then
    (cd "$COOKBOOK_STAGE" && find . \( -type f -o -type l \) -printf '%P\n' | sort) | while read -r file; do
        while read -r name glob; do
            # Unquoted on purpose: the right side is the pattern.
            if [[ $file == ${glob//\*\*/\*} ]]; then
                mkdir -p "${!name}/$(dirname "$file")"
                mv "$COOKBOOK_STAGE/$file" "${!name}/$file"
                break
            fi
        done <<<"$optionalFiles"
    done
fi
cp -r --preserve=mode,links "$COOKBOOK_STAGE/." "$out"

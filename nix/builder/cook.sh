# Cooks one recipe: lays out the folders a recipe's script expects, runs the script between prelude and
# clean-up, and hands the stage over as the outputs. What the variables mean is upstream's contract; their
# values here never change from day to day.
set -eu

export COOKBOOK_ROOT=/build/cookbook COOKBOOK_RECIPE=/build/cookbook/recipes/$cookbookName COOKBOOK_NAME=$cookbookName
export COOKBOOK_SOURCE=/build/source COOKBOOK_BUILD=/build/build COOKBOOK_STAGE=/build/stage
export COOKBOOK_SYSROOT=/build/sysroot
export COOKBOOK_HOST_SYSROOT=/usr COOKBOOK_MAKE=make COOKBOOK_MAKE_JOBS=${NIX_BUILD_CORES:-1}
export COOKBOOK_CARGO=cookbook-cargo COOKBOOK_REDOXER=cookbook-redoxer COOKBOOK_OFFLINE=true COOKBOOK_VERBOSE=1
export COOKBOOK_SOURCE_IDENT=rednix COOKBOOK_COMMIT_IDENT=rednix FIND=find
export HOME=/build/home CARGO_HOME=/build/cargo-home CARGO_NET_OFFLINE=true CARGO_TERM_COLOR=never
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-1}

mkdir -p "$COOKBOOK_ROOT/bin" "$COOKBOOK_RECIPE" "$COOKBOOK_SOURCE" "$COOKBOOK_BUILD" "$COOKBOOK_STAGE" "$HOME" "$CARGO_HOME"
. "$cookbookCommon"

# For whoever watches: where the time goes.
phase() { printf '@nix {"action":"setPhase","phase":"%s"}\n' "$1"; }

phase unpack
if [ -n "${cookbookSource-}" ]; then copy_tree "$cookbookSource" "$COOKBOOK_SOURCE"; fi
if [ -n "${cookbookRecipeFolder-}" ]; then copy_tree "$cookbookRecipeFolder" "$COOKBOOK_RECIPE"; fi
# A patched file is newer than what was made from it, as it would be after patching here. In folders that stay
# (`rednix work`) that is so from the first build on.
inputs=$COOKBOOK_BUILD/.rednix-inputs
if [ -n "${cookbookPatched-}" ] && [ ! -e "$inputs" ]; then
    mapfile -t patched <<<"$cookbookPatched"
    date=@2
    [ -z "${rednixWork-}" ] || date=now
    (cd "$COOKBOOK_SOURCE" && touch --no-create --date=$date -- "${patched[@]}")
fi

phase sysroot

# A folder as upstream's sysroot: usr/…, links to it at the top, a tag for each package in it.
#   $1 folder, $2 names of the packages, the rest their paths in the same order
compose() {
    local into=$1 names=($2) stage folder
    shift 2
    mkdir -p "$into"/usr/{bin,include,lib,share} "$into/.tags"
    for folder in bin include lib share; do ln -s "usr/$folder" "$into/$folder"; done
    for stage in "$@"; do
        copy_tree "$stage" "$into"
        stage=${stage##*/}
        echo "${stage%%-*}" >"$into/.tags/${names[0]}"
        names=("${names[@]:1}")
    done
}
compose "$COOKBOOK_SYSROOT" "${cookbookSysrootNames-}" ${cookbookSysroot-}
# Without dependencies that run here there is no such folder, and recipes look whether there is.
unset COOKBOOK_TOOLCHAIN
if [ -n "${cookbookToolchain-}" ]; then
    export COOKBOOK_TOOLCHAIN=/build/toolchain
    compose "$COOKBOOK_TOOLCHAIN" "$cookbookToolchainNames" $cookbookToolchain
elif [ "$TARGET" = "$COOKBOOK_HOST_TARGET" ]; then
    # What a host recipe is built from runs here too.
    export COOKBOOK_TOOLCHAIN=$COOKBOOK_SYSROOT
fi

# In a build folder that stays make must see inputs as old as they are: their files are as old as the list of them.
if [ -n "${rednixWork-}" ]; then
    list="${cookbookSysroot-}:${cookbookToolchain-}:${cookbookRecipeFolder-}"
    if [ ! -e "$inputs" ] || [ "$(cat "$inputs")" != "$list" ]; then printf '%s' "$list" >"$inputs"; fi
    for folder in "$COOKBOOK_SYSROOT" ${COOKBOOK_TOOLCHAIN-} "$COOKBOOK_RECIPE"; do
        [ ! -e "$folder" ] || find "$folder" -exec touch --no-dereference --reference="$inputs" {} +
    done
fi

if [ -n "${cookbookVendor-}" ]; then
    ln -s "$cookbookVendor" /build/vendor
    printf '%s\n' "$cookbookCargoConfig" >"$CARGO_HOME/config.toml"
fi
# Overrides of git dependencies may have other versions than the source's own Cargo.lock names.
if [ -n "${cookbookCargoLockPatch-}" ]; then
    patch --directory="$COOKBOOK_SOURCE" --strip=1 --batch <"$cookbookCargoLockPatch"
fi
# Targets described in JSON became an unstable feature after older trees were written; they cannot ask for it.
printf '[build]\nincremental = false\n\n[unstable]\njson-target-spec = true\n' >>"$CARGO_HOME/config.toml"

. "$cookbookTools"
write_fetch_fronts "$tools"
hide_build
phase build
cd "$COOKBOOK_BUILD"
run_script script.sh ". $cookbookPrelude; . $cookbookShared" "$cookbookScript" ". $cookbookPostlude"

phase install

# -- outputs ------------------------------------------------------------------------------------------------

# An output's name may be no name for a variable, so it is looked up in what this process was started with.
output_path() {
    local entry
    while IFS= read -r -d '' entry; do
        if [ "${entry%%=*}" = "$1" ]; then
            printf '%s' "${entry#*=}"
            return
        fi
    done </proc/$$/environ
}
for output in $outputs; do mkdir -p "$(output_path "$output")"; done

# The first optional package whose pattern covers a file takes it.
if [ -n "${cookbookClaims-}" ]; then
    declare -A taken=()
    mapfile -t claims <<<"$cookbookClaims"
    while IFS= read -r file; do
        for claim in "${claims[@]}"; do
            # Unquoted on purpose: the right side is the pattern.
            pattern=^${claim#*$'\t'}\$
            if [[ $file =~ $pattern ]]; then
                taken[${claim%%$'\t'*}]+=$file$'\n'
                break
            fi
        done
    done < <(cd "$COOKBOOK_STAGE" && find . ! -type d -printf '%P\n' | sort)
    for name in "${!taken[@]}"; do
        into=$(output_path "$name")
        printf '%s' "${taken[$name]}" | tar --create --directory="$COOKBOOK_STAGE" --remove-files --verbatim-files-from --files-from=- --file=- |
            tar --extract --directory="$into" --no-same-owner --file=-
    done
fi
cp -r --preserve=mode,links "$COOKBOOK_STAGE/." "$out"

# What is done to every stage after a recipe's script, in the same shell: COOKBOOK_NOSTRIP and the folders may have
# been set by the script.

# Strips only what is an object or an archive: the tools differ in what they do with anything else.
function rednix_strip {
    local option=$1 folder=$2 file magic
    [ -d "$folder" ] || return 0
    while IFS= read -r -d '' file; do
        magic=
        LC_ALL=C IFS= read -r -N 4 magic <"$file" || true
        case $magic in
            $'\x7fELF' | '!<ar') "$GNU_TARGET-strip" $option "$file" || echo "note: $file is left as it is" >&2 ;;
        esac
    done < <(find "$folder" -type f -print0)
}

if [ -z "${COOKBOOK_NOSTRIP-}" ]; then
    for folder in bin usr/bin libexec usr/libexec; do rednix_strip "" "$COOKBOOK_STAGE/$folder"; done
    for folder in lib usr/lib; do rednix_strip --strip-debug "$COOKBOOK_STAGE/$folder"; done
fi
# Libtool's notes name folders of the build; cargo's lists name its times.
for folder in lib usr/lib; do
    [ ! -d "$COOKBOOK_STAGE/$folder" ] || find "$COOKBOOK_STAGE/$folder" -type f -name '*.la' -delete
done
rm -f "$COOKBOOK_STAGE"/{,usr/}.crates.toml "$COOKBOOK_STAGE"/{,usr/}.crates2.json
# Software centres find the package of a component by this.
for folder in share/metainfo usr/share/metainfo; do
    [ ! -d "$COOKBOOK_STAGE/$folder" ] ||
        find "$COOKBOOK_STAGE/$folder" -type f -name '*.xml' \
            -exec sed -i "s|</component>|<pkgname>$COOKBOOK_NAME</pkgname></component>|g" {} +
done

# What preparing a source and cooking a recipe share: copies of trees, the shell a recipe's text runs in, and the
# fronts for programs that would fetch something. Sourced; knows no recipe.

# Builds may write into what they were given, and a store path is read-only. Links to folders stay, so that what a
# package has in bin/ lands in usr/bin/. Through tar because it is twice as fast as cp on many small files. All
# times stay equal: make would otherwise see a random order and generate anew what a release came with.
copy_tree() {
    tar --create --directory="$1" --mode=u+w --file=- . |
        tar --extract --directory="$2" --no-same-owner --keep-directory-symlink --file=-
    test "${PIPESTATUS[*]}" = "0 0"
}

# Runs text as a script of its own, so that whatever it sets ends with it. What comes before it stands on the
# text's first line, so that a line number in a message is the line in the recipe.
#   $1 name of the script, $2 what comes before, $3 the text, $4 what comes after
run_script() {
    printf '%s; set -x; %s\n{ set +x; } 2>/dev/null\n%s\n' "$2" "$3" "$4" >"/build/$1"
    bash -e "/build/$1" </dev/null
}

# Names that only this build knows would be taken for settings by makefiles, which read the environment.
hide_build() {
    local hidden
    for hidden in $(compgen -e cookbook) $outputs; do
        # An output may be called what is no name for a variable.
        [[ ! $hidden =~ ^[A-Za-z_][A-Za-z_0-9]*$ ]] || export -n "$hidden"
    done
    export -n builder name system outputs outputHashAlgo outputHashMode rednixRoot requiredSystemFeatures
}

# The sandbox has no network. GNU's config.sub is what recipes fetch most; the build root has one that knows Redox.
config_sub=/usr/share/libtool/build-aux/config.sub
write_fetch_fronts() {
    local program
    for program in wget curl; do
        [ -z "$(command -v $program)" ] || continue
        cat >"$1/$program" <<FRONT
#!/usr/bin/bash
for word in "\$@"; do
    case \$word in *://*) url=\$word ;; esac
done
into= previous=
for word in "\$@"; do
    case \$previous in -O | -o | --output | --output-document) into=\$word ;; esac
    previous=\$word
done
case \${url-} in
    */config.sub | */config.sub\?*)
        if [ -n "\$into" ] && [ -f $config_sub ]; then exec cp -f $config_sub "\$into"; fi
        ;;
esac
echo "error: $program cannot fetch \${url:-anything}: a build has no network; what a recipe needs has to be in its source, its folder or its dependencies (\\\`rednix build --override RECIPE=FOLDER\\\` takes a source that was completed by hand)" >&2
exit 4
FRONT
        chmod +x "$1/$program"
    done
}

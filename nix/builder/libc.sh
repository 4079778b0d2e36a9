# Puts a cooked relibc where the cross compiler looks: /usr/<gnu target>/{include,lib}.
set -eu

into=$out/usr/$gnuTarget
mkdir -p "$into"
cp -r --no-preserve=ownership,timestamps "$relibc/usr/." "$into"
chmod -R u+w "$into"
# Some recipes look for upstream's folder inside the folder.
ln -s . "$into/usr"

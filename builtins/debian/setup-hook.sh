#!/bin/sh
# mmdebstrap calls this with the new root, before anything is installed.
set -eu
export TMPDIR="$1/tmp"
echo localhost >"$1/etc/hostname"
lists="$1/var/lib/apt/lists"

# apt's checks of signatures put keys into TMPDIR, read them there as another user,
# and stumble over a colon in its name. This directory of every Debian serves nobody
# else in this mount namespace.
keys=/var/lib/apt/mirrors
mount -t tmpfs -o mode=1777 b9 "$keys" || keys=/tmp
update() { TMPDIR="$keys" APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" apt-get update --error-on=any; }

# The lists of a moment ago, when the packages were resolved. What they are worth apt
# finds out from what the archive has signed; if they are of no use, they are fetched.
if [ -d "$B9_LISTS" ] && cp -pt "$lists" "$B9_LISTS"/* && update >"$B9_DIR/update.log" 2>&1; then
	cat "$B9_DIR/update.log"
else
	find "$lists" -maxdepth 1 -type f -delete
	update
fi

# Where the suite has usr-is-merged, the merged directories are made at once, as
# debootstrap does, so that usrmerge and perl are not needed to make them later: a
# smaller system, sooner.
if [ "$B9_MERGE" ] && grep -qx 'Package: usr-is-merged' "$lists"/*_Packages; then
	for dir in $B9_MERGE; do
		mkdir -p "$1/usr/$dir"
		ln -s "usr/$dir" "$1/$dir"
	done
	mkdir -p "$1/etc/apt/preferences.d"
	printf '%s' "$B9_NO_USRMERGE" >"$1/etc/apt/preferences.d/b9"
fi

# Those packages are linked into apt's archive that the lists name by digest and
# the cache has with that content; apt itself would only compare sizes.
cd "$B9_DEBS"
ls | awk 'length($0) == 64' >"$B9_DIR/cached"
[ -s "$B9_DIR/cached" ] || exit 0
mkdir -p "$1/var/cache/apt/archives"
awk 'FNR == NR { have[$0]; next } $1 == "SHA256:" && ($2 in have) { print $2 }' "$B9_DIR/cached" "$lists"/*_Packages | sort -u >"$B9_DIR/usable"
sed 's,$,/,' "$B9_DIR/usable" | xargs -r -I@ find @ -name '*.deb' | xargs -r sha256sum >"$B9_DIR/sums" || :
awk '{ split($2, at, "/"); if ($1 == at[1]) print $2 }' "$B9_DIR/sums" | xargs -r ln -f -t "$1/var/cache/apt/archives" || :
awk '{ split($2, at, "/"); if ($1 != at[1]) print $2 }' "$B9_DIR/sums" | while read -r deb; do
	echo "b9: the package $PWD/$deb in the cache is damaged: it is downloaded again"
	rm -f "$deb"
done

#!/usr/bin/env bash
# Print the path of a MicroPython for the tests (environment variable MICROPYTHON), and see to it that there is one.
#
#     export MICROPYTHON=$(.ci/micropython.sh [FOLDER])
#
# Debian has the package `micropython` from trixie on. An older Debian runs trixie's, unpacked into FOLDER with the
# libraries that it needs and called through their own loader: nothing is installed, and the package lists are kept
# beside it, away from the system's. Exit code 1, with the reason, where none can be had.
set -euo pipefail
folder=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/pytest-espperf/micropython}
case $folder in /*) ;; *) folder=$PWD/$folder ;; esac
release=trixie

give_up() {
    echo "no MicroPython: $*" >&2
    exit 1
}

works() { "$1" -c 'import asyncio' >/dev/null 2>&1; }

for found in "$(command -v micropython || true)" "$folder/micropython"; do
    if [ -n "$found" ] && works "$found"; then
        echo "$found"
        exit 0
    fi
done

command -v apt-get >/dev/null || give_up "it is not in PATH, and there is no apt-get to fetch it with"
if [ "$(id -u)" = 0 ] && apt-cache show micropython >/dev/null 2>&1; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends micropython >/dev/null
    command -v micropython
    exit 0
fi

mkdir -p "$(dirname "$folder")"
work=$(mktemp -d "$folder.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work"/{sources,none,lists/partial,cache/archives/partial,root}
: >"$work/status"

# The machine's own sources of its release, with the other release in its place.
own=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
[ -n "$own" ] || give_up "/etc/os-release names no release"
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ -f "$file" ] || continue
    sed -nE "s/^(deb .* )$own( .*)\$/\1$release\2/p" "$file" >>"$work/sources/$release.list"
done
for file in /etc/apt/sources.list.d/*.sources; do
    [ -f "$file" ] || continue
    awk -v RS= -v ORS='\n\n' -v own="$own" -v release="$release" '
        $0 ~ "(^|\n)Suites:[^\n]*[ \t]" own "([ \t\n]|$)" { sub(/Suites:[^\n]*/, "Suites: " release); print }
    ' "$file" >>"$work/sources/$release.sources"
done
find "$work/sources" -empty -delete
[ -d "$work/sources" ] || give_up "this machine has no package source of $own"

# An empty status: apt thinks that nothing is installed, and fetches all that the package needs. No hook of the
# machine's may run: they would touch the system's state.
cat >"$work/apt.conf" <<END
#clear APT::Update::Pre-Invoke; #clear APT::Update::Post-Invoke; #clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke; #clear DPkg::Post-Invoke; #clear DPkg::Pre-Install-Pkgs;
Dir::Etc::SourceList "/dev/null"; Dir::Etc::SourceParts "$work/sources";
Dir::Etc::Preferences "/dev/null"; Dir::Etc::PreferencesParts "$work/none";
Dir::State::Lists "$work/lists"; Dir::State::Status "$work/status"; Dir::State::Extended_States "$work/extended";
Dir::Cache "$work/cache"; Dir::Cache::Archives "$work/cache/archives"; Dir::Log "$work";
APT::Sandbox::User "$(id -un)"; APT::Default-Release ""; Acquire::Languages "none"; Debug::NoLocking "1";
END
apt-get -c "$work/apt.conf" -qq update >&2 || give_up "the package lists of $release could not be read"
apt-get -c "$work/apt.conf" -qq -y --download-only --no-install-recommends install micropython >"$work/said" 2>&1 ||
    give_up "$(tail -n 3 "$work/said")"
for package in "$work"/cache/archives/*.deb; do
    dpkg-deb -x "$package" "$work/root"
done

loader=$(find "$work/root" -name 'ld-linux*.so.*' -type f | head -n 1)
[ -n "$loader" ] || give_up "the C library of $release has no loader"
rm -rf "$folder"
mkdir "$folder"
mv "$work/root" "$folder/root"
loader=$folder/root${loader#"$work/root"}
cat >"$folder/micropython" <<END
#!/bin/sh
exec "$loader" --library-path "$(dirname "$loader")" "$folder/root/usr/bin/micropython" "\$@"
END
chmod +x "$folder/micropython"
works "$folder/micropython" || give_up "that of $release does not run here"
echo "$folder/micropython"

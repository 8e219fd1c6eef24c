#!/usr/bin/env bash
# Installs the Debian packages that tests use, where that is permitted; else names what is missing:
# those tests are skipped with that reason, and every other test runs.
set -u
declare -A package=([strace]=strace [chromium]=chromium [chromedriver]=chromium-driver [gcc]=gcc
    [faketime]=faketime [dot]=graphviz)
missing=()
for program in "${!package[@]}"; do
    command -v "$program" >/dev/null || missing+=("${package[$program]}")
done
if [ "$(uname -m)" = x86_64 ] && ! echo 'int main(void) { return 0; }' | gcc -m32 -x c -o /dev/null - 2>/dev/null; then
    missing+=(gcc-multilib)
fi
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
    export DEBIAN_FRONTEND=noninteractive
    install() { apt-get install -y -qq --no-install-recommends "$@" libc6-dev >/dev/null; }
    apt-get update -qq && install "${missing[@]}" && exit 0
    # One that a distribution does not have keeps the others from being installed together.
    left=()
    for name in "${missing[@]}"; do
        install "$name" || left+=("$name")
    done
    missing=("${left[@]}")
    [ ${#missing[@]} -eq 0 ] && exit 0
fi
echo "Not installed: ${missing[*]}. Their tests are skipped; to run them: sudo apt-get install ${missing[*]}" >&2
exit 0

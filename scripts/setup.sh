#!/usr/bin/env bash
# Sees to what rednix needs from the host: git, a C linker, Rust, QEMU and its UEFI firmware. On Debian and
# Ubuntu missing packages are installed when this runs as root; otherwise the one command to run is printed.
set -eu

rust_wanted=1.90

# Debian's and Ubuntu's names for a recent Rust, the newest first; which exist depends on the release.
rust_candidates='rustc-web:cargo-web rustc-1.95:cargo-1.95 rustc-1.93:cargo-1.93 rustc-1.91:cargo-1.91 rustc:cargo'

packages=()
have() { command -v "$1" >/dev/null 2>&1; }

at_least() { # at_least VERSION WANTED
    [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]
}

rust_is_recent() {
    have cargo && have rustc && at_least "$(rustc --version | cut -d' ' -f2)" "$rust_wanted"
}

firmware_is_there() {
    local file
    for file in /usr/share/OVMF/OVMF_CODE*.fd /usr/share/ovmf/OVMF.fd /usr/share/edk2/x64/OVMF_CODE*.fd \
        /usr/share/edk2/ovmf/OVMF_CODE*.fd /usr/share/qemu/edk2-x86_64-code.fd; do
        [ -e "$file" ] && return 0
    done
    return 1
}

have git || packages+=(git)
have cc || packages+=(gcc libc6-dev)
have qemu-system-x86_64 || packages+=(qemu-system-x86)
firmware_is_there || packages+=(ovmf)
[ -e /etc/ssl/certs/ca-certificates.crt ] || [ -e /etc/pki/tls/certs/ca-bundle.crt ] || packages+=(ca-certificates)
need_rust=
rust_is_recent || need_rust=1

[ ${#packages[@]} -gt 0 ] || [ -n "$need_rust" ] || exit 0

if ! have apt-get; then
    echo "rednix needs: ${packages[*]}${need_rust:+ and Rust $rust_wanted or newer}. Install them with your system's package manager." >&2
    exit 1
fi

if [ -n "$need_rust" ]; then
    [ "$(id -u)" != 0 ] || apt-get update -qq
    for pair in $rust_candidates; do
        version=$(apt-cache policy "${pair%%:*}" 2>/dev/null | sed -n 's/^ *Candidate: *\(.*:\)\{0,1\}//p')
        if [ -n "$version" ] && [ "$version" != "(none)" ] && at_least "$version" "$rust_wanted"; then
            packages+=("${pair%%:*}" "${pair##*:}")
            need_rust=
            break
        fi
    done
    if [ -n "$need_rust" ]; then
        echo "rednix needs Rust $rust_wanted or newer, and this system's packages have none: install it with rustup." >&2
        exit 1
    fi
fi

if [ "$(id -u)" = 0 ]; then
    echo "installing: ${packages[*]}" >&2
    [ -n "$(find /var/lib/apt/lists -name '*Packages*' -print -quit 2>/dev/null)" ] || apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
else
    echo "rednix needs packages that are not installed. Run this, then make again:" >&2
    echo "    sudo apt-get install --no-install-recommends ${packages[*]}" >&2
    exit 1
fi

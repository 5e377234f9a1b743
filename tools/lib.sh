# shellcheck shell=bash
# Copyright (c) 2026, mai.fleet contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# What every script in tools/ shares: where things lie, how to speak, how to install.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
state=$root/.mai

# Compiled files of our own modules go there too, not into the checkout.
export PYTHONPYCACHEPREFIX=$state/pycache
unset PYTHONPATH PYTHONHOME

# The collection talks to this socket on a server, so the tools look at no other engine.
export DOCKER_HOST=unix:///var/run/docker.sock
unset DOCKER_CONTEXT

say() { printf '%s\n' "· $*" >&2; }

die() {
    printf '%s\n' "! $*" >&2
    exit 1
}

# keep_state: makes the ignored folder, private: it comes to hold secrets.
keep_state() {
    mkdir -p "$state"
    chmod 0700 "$state"
}

# stop_tree PID: that process and all below it.
stop_tree() {
    local child children
    read -ra children 2>/dev/null <"/proc/$1/task/$1/children" || true
    kill "$1" 2>/dev/null || true
    for child in "${children[@]}"; do stop_tree "$child"; done
}

# Whatever a script has in the background ends with it.
stop_jobs() {
    local job
    for job in $(jobs -p); do stop_tree "$job"; done
}
trap stop_jobs EXIT

# ticking LABEL COMMAND…: runs it, and says every 15 s that it goes on. COMMAND checks its own steps:
# set -e has no effect in it.
ticking() {
    local label=$1 started=$SECONDS ticker status=0
    shift
    while sleep 15; do say "$label … $((SECONDS - started)) s"; done &
    ticker=$!
    "$@" || status=$?
    stop_tree "$ticker"
    wait "$ticker" 2>/dev/null || true
    return "$status"
}

need_root() {
    [[ $(id -u) -eq 0 ]] || die "$1 needs root: run make as root, or install it yourself first"
}

apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300 "$@"
}

# apt_candidate PACKAGE: the version that apt would install, or nothing. A new machine has no lists.
apt_candidate() {
    if ! compgen -G '/var/lib/apt/lists/*Packages*' >/dev/null; then
        apt_get update >/dev/null || true
    fi
    apt-cache policy "$1" 2>/dev/null |
        awk '$1 == "Candidate:" && $2 != "(none)" { print $2 }'
}

# install_packages PACKAGE…: the machine's own lists first, fresh ones when those are stale.
install_packages() {
    command -v apt-get >/dev/null || die "no apt-get here: install $* yourself, then try again"
    need_root "installing $*"
    say "installing Debian packages: $*"
    apt_get install -y --no-install-recommends "$@" >/dev/null 2>&1 && return
    apt_get update >/dev/null || say "apt-get update complained; trying with what it got"
    apt_get install -y --no-install-recommends "$@" >/dev/null ||
        die "apt-get could not install $*: its message is above"
}

# debian_mirror: where this machine gets Debian from; Debian's own address on another system.
debian_mirror() {
    local uri
    # shellcheck disable=SC2016
    uri=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 'Created-By: Packages' \
        2>/dev/null | awk '$2 == "Debian" && $3 == "Debian" { sub("/$", "", $1); print $1; exit }')
    echo "${uri:-http://deb.debian.org/debian}"
}

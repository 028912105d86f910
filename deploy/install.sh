#!/bin/bash
# Install or upgrade supplierd as a systemd service, from this checkout: sudo deploy/install.sh
#
# Each version gets a virtual environment of its own under /opt/supplierd/releases, and /opt/supplierd/current points to
# the one in use. So an upgrade restarts the daemon alone: workers and capture go on with the files they started from,
# and resume by themselves. Installing what is installed changes nothing. Files of yours are never overwritten.
set -euo pipefail

usage() {
    cat <<'END'
usage: install.sh [--wheel FILE] [--wheelhouse DIR] [--python PYTHON] [--no-start]
       install.sh --uninstall

  --wheel FILE      install this wheel; without it, one is built from the checkout, and
                    compiled where there are gcc and python3-dev
  --wheelhouse DIR  take packages from this folder instead of the network (fill it with: pip download -d DIR
                    --require-hashes -r requirements/service.txt, and the same for build.txt)
  --python PYTHON   the interpreter, 3.11 or newer, that /opt/supplierd is made with (default: python3)
  --no-start        install, and leave the running daemon as it is
  --uninstall       remove all that was installed; /etc/supplierd and the user stay
END
}

readonly HOME_DIR=/opt/supplierd CONFIG_DIR=/etc/supplierd
readonly UNIT_DIR=/usr/local/lib/systemd/system
readonly SYSUSERS=/usr/local/lib/sysusers.d/supplierd.conf TMPFILES=/usr/local/lib/tmpfiles.d/supplierd.conf
readonly COMMANDS=(supplierd supplierd-capture)
readonly UNITS=(supplierd.service run-supplierd-arena.mount supplierd-worker@.service supplierd-capture@.service)
checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
readonly checkout

say() { printf '== %s\n' "$*"; }
die() { printf 'error: %s\n' "$*" >&2; exit 1; }
booted() { [ -d /run/systemd/system ]; }

# --- the parts of an installation -------------------------------------------------------------------------------------

check_machine() {
    [ "$(id -u)" -eq 0 ] || die "this must be root, to install a service: use sudo"
    command -v systemctl >/dev/null || die "this machine has no systemd: see deploy/compose.yaml for containers"
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
        || die "$python is not Python 3.11 or newer: say which to use with --python"
    if ! "$python" -c 'import venv, ensurepip' 2>/dev/null; then
        say "Debian keeps Python's venv module in a package: installing python3-venv"
        apt-get install --quiet --yes --no-install-recommends python3-venv >/dev/null \
            || die "python3-venv could not be installed: run apt-get update, and try again"
    fi
}

# Everything that pip does happens with the scratch environment's pip: releases need none.
pip() { "$scratch/tools/bin/python" -m pip --quiet --disable-pip-version-check --no-cache-dir "$@"; }

build_wheel() { # → $wheel
    say "building the wheel of $checkout"
    pip install "${source[@]}" --require-hashes --requirement "$checkout/requirements/build.txt"
    # From a copy: nothing is left in the checkout, which may be read-only.
    mkdir "$scratch/source"
    cp -r "$checkout/"{pyproject.toml,hatch_build.py,README.md,supplierd,clients} "$scratch/source/"
    pip wheel --no-deps --no-build-isolation --wheel-dir "$scratch" "$scratch/source"
    wheel=$(echo "$scratch"/supplierd-*.whl)
    # pip does not show why the wheel is a pure one.
    [[ $wheel != *-none-any.whl ]] || say "$("$scratch/tools/bin/python" "$scratch/source/hatch_build.py" 2>/dev/null)"
}

make_release() { # → $release, complete
    local version hash
    version=$(basename "$wheel" | cut -d- -f2)
    hash=$({ "$python" -V; cat "$wheel" "$checkout/requirements/service.txt"; shipped_files | xargs cat; } \
        | sha256sum | cut -c1-12)
    release=$HOME_DIR/releases/$version-$hash
    [ ! -e "$release/.complete" ] || { say "release $version-$hash is there already"; return; }
    say "making release $version-$hash"
    rm -rf "$release"
    mkdir -p "$HOME_DIR/releases"
    "$python" -m venv --without-pip "$release"
    pip --python "$release/bin/python" install "${source[@]}" --require-hashes \
        --requirement "$checkout/requirements/service.txt"
    pip --python "$release/bin/python" install --no-index --no-deps "$wheel"
    local share=$release/share/supplierd
    mkdir -p "$share"
    cp -r "$checkout/deploy/systemd/classes" "$checkout/deploy/prometheus" "$checkout/deploy/grafana" "$share/"
    install -m 0755 "$checkout/deploy/systemd/supplierd-backoff" "$share/"
    install -m 0644 "$checkout/docs/runbook.md" "$checkout/config/supplierd.toml" "$share/"
    chmod -R go=u-w "$release"
    touch "$release/.complete"
}

shipped_files() {
    (cd "$checkout" && find deploy/systemd deploy/prometheus deploy/grafana docs/runbook.md config/supplierd.toml \
        -type f -printf "$checkout/%p\n" | sort)
}

install_config() {
    install -d -m 0755 "$CONFIG_DIR" "$CONFIG_DIR/workers"
    install -d -m 0700 "$CONFIG_DIR/capture" # addresses of cameras may hold passwords
    local ours=$CONFIG_DIR/supplierd.toml new=$release/share/supplierd/supplierd.toml
    local before=$HOME_DIR/current/share/supplierd/supplierd.toml
    if [ ! -e "$ours" ] || { [ -e "$before" ] && cmp --quiet "$ours" "$before"; }; then
        cmp --quiet "$new" "$ours" 2>/dev/null || install -m 0644 "$new" "$ours"
    elif ! cmp --quiet "$ours" "$new"; then
        say "$ours is yours and stays; the example of this version is $HOME_DIR/current/share/supplierd/supplierd.toml"
    fi
    "$release/bin/supplierd" check-config --config "$ours" \
        || die "this version cannot read $ours (see above); nothing was changed: correct it, and try again"
}

install_units() { # → $changed, where a unit differs from the installed one
    install -d "$UNIT_DIR" "$(dirname "$SYSUSERS")" "$(dirname "$TMPFILES")"
    local unit
    for unit in "${UNITS[@]}"; do
        cmp --quiet "$checkout/deploy/systemd/$unit" "$UNIT_DIR/$unit" && continue
        install -m 0644 "$checkout/deploy/systemd/$unit" "$UNIT_DIR/$unit"
        changed=yes
    done
    install -m 0644 "$checkout/deploy/systemd/sysusers.conf" "$SYSUSERS"
    install -m 0644 "$checkout/deploy/systemd/tmpfiles.conf" "$TMPFILES"
    systemd-sysusers "$SYSUSERS"
    ! booted || systemd-tmpfiles --create "$TMPFILES"
}

switch() {
    [ "$(readlink "$HOME_DIR/current" 2>/dev/null)" != "$release" ] || return 0
    ln -sfn "$release" "$HOME_DIR/.current"
    mv -T "$HOME_DIR/.current" "$HOME_DIR/current" # in one step: there is no moment without a current release
    local name
    for name in "${COMMANDS[@]}"; do
        ln -sfn "$HOME_DIR/current/bin/$name" "/usr/local/bin/$name"
    done
    changed=yes
}

start_daemon() {
    if ! booted; then
        systemctl --quiet enable supplierd.service
        say "systemd does not run here: the daemon starts with the machine"
        return
    fi
    systemctl daemon-reload
    systemctl --quiet enable supplierd.service
    if [ -n "$no_start" ]; then
        say "not started: systemctl restart supplierd"
    elif ! systemctl --quiet is-active supplierd.service; then
        systemctl start supplierd.service || die "the daemon did not start: see journalctl -u supplierd"
    elif [ -n "$changed" ]; then
        say "restarting the daemon; workers and capture stay up and resume"
        systemctl restart supplierd.service || die "the daemon did not restart: see journalctl -u supplierd"
    fi
}

# The release before this one stays, as the one to go back to, and each that a worker or capture still runs from.
remove_old_releases() {
    local folder
    [ "$former" != "$release" ] || return 0
    for folder in "$HOME_DIR"/releases/*; do
        [ "$folder" = "$release" ] || [ "$folder" = "$former" ] || in_use "$folder" || rm -rf "$folder"
    done
}

in_use() { grep --quiet --fixed-strings --no-messages "$1/" /proc/[0-9]*/maps; }

uninstall() {
    [ "$(id -u)" -eq 0 ] || die "this must be root: use sudo"
    if booted; then
        systemctl --quiet stop 'supplierd-worker@*' 'supplierd-capture@*' supplierd.service run-supplierd-arena.mount \
            2>/dev/null || true
    fi
    local links=(/etc/systemd/system/multi-user.target.wants/supplierd{.service,-worker@*,-capture@*}) unit
    rm -f "${links[@]}" "$SYSUSERS" "$TMPFILES"
    for unit in "${UNITS[@]}"; do rm -f "$UNIT_DIR/$unit"; done
    for unit in "${COMMANDS[@]}"; do rm -f "/usr/local/bin/$unit"; done
    ! booted || systemctl daemon-reload
    rm -rf "$HOME_DIR" /run/supplierd
    say "removed; $CONFIG_DIR, /var/lib/supplierd-workers, drop-ins in /etc/systemd/system and the user stay"
}

# --- the command ------------------------------------------------------------------------------------------------------

python=python3 wheel='' no_start='' changed='' release='' source=()
while [ $# -gt 0 ]; do
    case $1 in
        --wheel) wheel=$(realpath "${2:?--wheel needs a file}"); shift ;;
        --wheelhouse) source=(--no-index --find-links "$(realpath "${2:?--wheelhouse needs a folder}")"); shift ;;
        --python) python=${2:?--python needs a program}; shift ;;
        --no-start) no_start=yes ;;
        --uninstall) uninstall; exit ;;
        -h | --help) usage; exit ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done

check_machine
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
umask 022
former=$(readlink "$HOME_DIR/current" || true)
"$python" -m venv "$scratch/tools"
[ -n "$wheel" ] || build_wheel
make_release
install_config
install_units
switch
start_daemon
remove_old_releases
version=$("$release/bin/supplierd" version | cut -d' ' -f2 | tr -d ,)
say "supplierd $version is installed; its configuration is $CONFIG_DIR/supplierd.toml"

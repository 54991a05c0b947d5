#!/bin/sh
# Installs edge-gateway as a systemd service, updates it, or removes it. Run it again at any time.
set -eu
# Whatever the shell's own umask is, the service must be able to read its program.
umask 022

usage() {
    cat <<'END'
Usage: systemd/install.sh [options]                 install or update (as root)
       systemd/install.sh --uninstall [--purge]     remove

  --from WHAT     what pip installs: a wheel, or a folder with the sources (default: this checkout)
  --python FILE   the Python (3.11 or later) of the virtual environment (default: python3)
  --no-venv       leave /opt/edge-gateway/bin alone
  --root DIR      install into the tree below DIR; makes no user and starts nothing
  --purge         with --uninstall: remove config, stored readings and user too

Without internet, give pip a folder of wheels: PIP_NO_INDEX=1 PIP_FIND_LINKS=/media/usb/wheels systemd/install.sh
END
}

say() { printf '%s\n' "$*"; }
fail() { printf 'install.sh: %s\n' "$*" >&2; exit "${status:-1}"; }
wrong_use() { status=2; fail "$* See systemd/install.sh --help."; }

name=edge-gateway
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root='' from=${here%/systemd} python=python3 venv=yes action=install purge=no

while [ $# -gt 0 ]; do
    case $1 in
        --from | --python | --root) [ $# -ge 2 ] || wrong_use "$1 needs a value." ;;
    esac
    case $1 in
        --from) from=$2; shift ;;
        --python) python=$2; shift ;;
        --root) root=${2%/}; shift ;;
        --no-venv) venv=no ;;
        --uninstall) action=uninstall ;;
        --purge) purge=yes ;;
        -h | --help) usage; exit 0 ;;
        *) wrong_use "There is no option $1." ;;
    esac
    shift
done
[ "$purge" = no ] || [ "$action" = uninstall ] || wrong_use "--purge goes with --uninstall."
[ -z "$root" ] || [ -d "$root" ] || fail "There is no folder $root; make it first."

program=$root/opt/$name
config=$root/etc/$name
state=$root/var/lib/$name
unit=$root/etc/systemd/system/$name.service

# A tree for --root belongs to whoever makes it; a machine's files belong to root and the service's group.
folder() { # MODE OWNER GROUP FOLDER
    if [ -n "$root" ]; then install -d -m "$1" "$4"; else install -d -m "$1" -o "$2" -g "$3" "$4"; fi
}
file() { # MODE GROUP SOURCE TARGET
    if [ -n "$root" ]; then install -m "$1" "$3" "$4"; else install -m "$1" -o root -g "$2" "$3" "$4"; fi
}

make_user() {
    getent group $name >/dev/null || groupadd --system $name
    getent passwd $name >/dev/null || useradd --system --gid $name --no-create-home \
        --home-dir /var/lib/$name --shell /usr/sbin/nologin --comment "edge-gateway daemon" $name
}

make_venv() {
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || fail "$python is older than Python 3.11."
    [ -x "$program/bin/python" ] || "$python" -m venv "$program" ||
        fail "No virtual environment could be made; on Debian install python3-venv."
    source=$from
    if [ -d "$from" ]; then # pip builds in the folder itself: not in a checkout that belongs to somebody else
        copy=$(mktemp -d)
        trap 'rm -rf "$copy"' EXIT
        (cd "$from" && tar --exclude=.git --exclude=.venv --exclude=build --exclude='*.egg-info' -cf - .) |
            tar -xf - -C "$copy"
        source=$copy
    fi
    "$program/bin/python" -m pip install --quiet --disable-pip-version-check --upgrade "$source" ||
        fail "pip could not install $from; what was installed before still is."
    folder 0755 root root "$root/usr/local/bin"
    ln -sf "/opt/$name/bin/$name" "$root/usr/local/bin/$name"
}

install_files() {
    folder 0755 root root "$root/etc/systemd/system"
    folder 0755 root root "$program/share"
    folder 0750 root $name "$config"
    folder 0750 root $name "$config/secrets"
    folder 0750 root $name "$config/tls"
    folder 0750 $name $name "$state"
    [ -e "$config/gateway.yaml" ] || file 0640 $name "$here/../config/gateway.yaml" "$config/gateway.yaml"
    file 0644 root "$here/serial.conf" "$program/share/serial.conf"
    file 0644 root "$here/$name.service" "$unit"
}

install_all() {
    [ -n "$root" ] || make_user
    [ "$venv" = no ] || make_venv
    install_files
    [ -z "$root" ] || return 0
    systemctl daemon-reload
    systemctl --quiet enable $name
    systemctl try-restart $name
    say "Installed. Next: edit $config/gateway.yaml, then"
    say "  $program/bin/edge-gateway check -c $config/gateway.yaml"
    say "  systemctl start $name && journalctl -fu $name"
}

uninstall() {
    if [ -z "$root" ] && [ -e "$unit" ]; then systemctl --quiet disable --now $name; fi
    rm -f "$unit"
    rm -rf "$program"
    [ -n "$root" ] || systemctl daemon-reload
    if [ "$purge" = no ]; then
        say "Removed. Kept: $config and $state (stored readings); --purge removes them too."
        return 0
    fi
    rm -rf "$config" "$state" "$unit.d"
    [ -n "$root" ] || ! getent passwd $name >/dev/null || userdel $name
    [ -n "$root" ] || ! getent group $name >/dev/null || groupdel $name
    say "Removed, with config, stored readings and user."
}

[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "Run this as root: sudo $0"
if [ "$action" = install ]; then install_all; else uninstall; fi

#!/bin/sh
# Makes wickie a service of this node, or of an image: the binary, the units, the account, and a configuration to begin with.
# Run again it upgrades: what is the same stays, configuration and data are never overwritten.
#
#     install.sh [--binary FILE] [--no-start]     on this node, as root
#     install.sh --root DIR [--binary FILE]       into the file system of an image; nothing is started
#     install.sh --uninstall [--root DIR]         takes away what it has put in place; configuration, data and account stay
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root='' binary='' start=yes task=install changed=no

say() {
    printf '%s\n' "$*"
}

fail() {
    printf 'install.sh: %s\n' "$*" >&2
    exit 1
}

usage() {
    sed -n '2,8s/^# \{0,1\}//p' "$0"
}

while [ $# -gt 0 ]; do
    case $1 in
    --root | --binary)
        [ $# -ge 2 ] || fail "$1 wants a value"
        if [ "$1" = --root ]; then root=$2; else binary=$2; fi
        shift
        ;;
    --no-start) start=no ;;
    --uninstall) task=uninstall ;;
    -h | --help)
        usage
        exit 0
        ;;
    *)
        usage >&2
        exit 2
        ;;
    esac
    shift
done

live() {
    [ -z "$root" ]
}

# Renamed into place: a program that runs is not written to, and a power cut leaves the old or the new.
put() { # FILE PATH MODE
    if [ -e "$root$2" ] && cmp -s "$1" "$root$2"; then
        chmod "$3" "$root$2"
        say "unchanged   $2"
        return
    fi
    word=installed
    [ ! -e "$root$2" ] || word=upgraded
    mkdir -p "$root${2%/*}"
    cp "$1" "$root$2.new"
    chmod "$3" "$root$2.new"
    sync "$root$2.new" 2>/dev/null || sync
    mv -f "$root$2.new" "$root$2"
    if live && command -v restorecon >/dev/null 2>&1; then restorecon "$2"; fi
    changed=yes
    say "$word   $2"
}

# What somebody may have changed.
put_once() { # FILE PATH MODE
    if [ -e "$root$2" ]; then
        say "kept        $2"
    else
        put "$1" "$2" "$3"
    fi
}

# The version of the systemd that will run it; 0 where that is not known.
systemd_version() {
    if live; then
        systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p'
        return
    fi
    for library in "$root"/usr/lib/systemd/libsystemd-shared-*.so "$root"/usr/lib/*/systemd/libsystemd-shared-*.so \
        "$root"/lib/systemd/libsystemd-shared-*.so; do
        [ -e "$library" ] || continue
        version=${library##*libsystemd-shared-}
        printf '%s\n' "${version%%[!0-9]*}"
        return
    done
    printf '0\n'
}

units='wickie.service wickie-kubeconfig.path wickie-kubeconfig.service'
enabled='wickie.service wickie-kubeconfig.path'
unit_dir=/etc/systemd/system
steps=$unit_dir/wickie.service.d/50-restart-steps.conf

system() { # systemctl, for this node or for the image
    if live; then systemctl "$@"; else systemctl --root="$root" "$@"; fi
}

check() {
    [ -z "$root" ] || [ -d "$root" ] || fail "$root is no folder: --root names the file system of an image"
    command -v systemctl >/dev/null || fail "systemctl is not here: this is for systems with systemd"
    if live; then
        [ "$(id -u)" = 0 ] || fail "only root can do that: run it with sudo"
        [ -d /run/systemd/system ] || fail "systemd does not run here; into an image it goes with --root DIR"
    fi
}

install_all() {
    if [ -z "$binary" ]; then
        for file in "$here/wickie" "$here/../target/static/$(uname -m)/wickie"; do
            [ ! -f "$file" ] || { binary=$file && break; }
        done
    fi
    [ -n "$binary" ] || fail "there is no binary beside this script: name it with --binary FILE"
    [ -f "$binary" ] || fail "$binary is no file: --binary names the program wickie"
    # One for another machine is found out before the one that runs is replaced.
    if live; then "$binary" version >/dev/null || fail "$binary does not run here ($(uname -m)): nothing was changed"; fi

    put "$binary" /usr/local/bin/wickie 755
    for unit in $units; do put "$here/$unit" "$unit_dir/$unit" 644; done
    if [ "$(systemd_version)" -ge 254 ]; then put "$here/drop-in/restart-steps.conf" "$steps" 644; fi
    put "$here/wickie.sysusers" /etc/sysusers.d/wickie.conf 644
    put "$here/wickie.tmpfiles" /etc/tmpfiles.d/wickie.conf 644
    if [ "$(id -u)" = 0 ]; then
        systemd-sysusers --root="$root/" wickie.conf
        systemd-tmpfiles --root="$root/" --create wickie.conf
    else
        say "the account wickie and its folders are made when the image starts for the first time"
    fi

    policy=$here/conf.d/node.yaml
    for file in "$root"/etc/wickie/conf.d/*.yaml "$root"/etc/wickie/conf.d/*.yml; do
        [ ! -e "$file" ] || policy=
    done
    # Where there is a configuration, a second NodeConfig would contradict it.
    if [ -n "$policy" ]; then put "$policy" /etc/wickie/conf.d/node.yaml 640; fi
    put "$here/conf.d/fleet.yaml.example" /etc/wickie/conf.d/fleet.yaml.example 640
    put_once "$here/wickie.env" /etc/wickie/wickie.env 640
    # The files may hold Secrets: for root and the agent alone.
    if [ "$(id -u)" = 0 ] && group=$(sed -n 's/^wickie:[^:]*:\([0-9]*\):.*/\1/p' "$root/etc/group") && [ -n "$group" ]; then
        for file in "$root"/etc/wickie/wickie.env "$root"/etc/wickie/conf.d/fleet.yaml.example ${policy:+"$root/etc/wickie/conf.d/node.yaml"}; do
            chgrp "$group" "$file"
        done
    fi

    # shellcheck disable=SC2086 # several names
    system enable --quiet $enabled
    if ! live; then
        say "enabled     $enabled, from the next start of the image on"
        return
    fi
    systemctl daemon-reload
    if [ $start = no ]; then
        say "enabled     $enabled; start it with: systemctl start wickie wickie-kubeconfig.path"
        return
    fi
    systemctl start wickie-kubeconfig.path
    if [ $changed = yes ] || ! systemctl is-active --quiet wickie.service; then
        systemctl restart --no-block wickie.service
        say "started     wickie.service; see: systemctl status wickie, wickie status"
    else
        say "running     wickie.service, which is as it should be"
    fi
    [ -e /etc/wickie/conf.d/fleet.yaml ] ||
        say "next        say what this node keeps to: /etc/wickie/conf.d/fleet.yaml.example shows how"
}

uninstall_all() {
    # shellcheck disable=SC2086 # several names
    if live; then
        systemctl disable --quiet --now $enabled 2>/dev/null || true
    else
        system disable --quiet $enabled 2>/dev/null || true
    fi
    for path in $unit_dir/wickie.service $unit_dir/wickie-kubeconfig.path $unit_dir/wickie-kubeconfig.service "$steps" \
        /etc/sysusers.d/wickie.conf /etc/tmpfiles.d/wickie.conf /etc/wickie/conf.d/fleet.yaml.example /usr/local/bin/wickie; do
        [ -e "$root$path" ] || continue
        rm -f "$root$path"
        say "removed     $path"
    done
    rmdir "$root$unit_dir/wickie.service.d" 2>/dev/null || true
    if live; then systemctl daemon-reload; fi
    for path in /etc/wickie /var/lib/wickie; do
        [ ! -d "$root$path" ] || say "kept        $path; when nobody needs it: rm -r $path"
    done
    say "What it has put into the cluster goes on running, and is kept by nobody now."
}

check
${task}_all

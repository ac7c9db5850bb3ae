#!/bin/sh
# Makes the cluster's secret, its first API key and its admin token, once: what is there already is
# kept. With `show`, prints the API key, or the file that is named, and nothing else.
set -eu

dir=${EVERMIND_KEYS_DIR:-/keys}

# make NAME PREFIX: a file of PREFIX and 256 random bits, readable by its owner alone, that appears
# whole or not at all.
make() {
    if [ -s "$dir/$1" ]; then
        return
    fi
    umask 377
    rm -f "$dir/.$1"
    bits=$(od -An -v -N32 -tx1 /dev/urandom | tr -d ' \n')
    if [ ${#bits} -ne 64 ]; then
        echo "keys: /dev/urandom gave too little" >&2
        exit 1
    fi
    printf '%s%s\n' "$2" "$bits" >"$dir/.$1"
    sync "$dir/.$1"
    mv "$dir/.$1" "$dir/$1"
    sync "$dir"
    echo "keys: made $dir/$1" >&2
}

case "${1:-make}" in
make)
    make secret ''
    make api-key evk_
    make admin-token ''
    ;;
show)
    name=${2:-api-key}
    case $name in
    api-key | admin-token) ;;
    *)
        echo "usage: keys show [api-key|admin-token]" >&2
        exit 2
        ;;
    esac
    if [ ! -s "$dir/$name" ]; then
        echo "keys: there is no $name yet; hint: docker compose up" >&2
        exit 1
    fi
    cat "$dir/$name"
    ;;
*)
    echo "usage: keys [make | show [api-key|admin-token]]" >&2
    exit 2
    ;;
esac

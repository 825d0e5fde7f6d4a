#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the secrets that the compose files read, once; what is there is left alone. They never enter an image.
set -eu
umask 022 # the folder is private, the files are read by the containers' own users
dir=$(cd "$(dirname "$0")" && pwd)/secrets
mkdir -p "$dir"
chmod 711 "$dir"
[ -s "$dir/redis-password" ] || head -c 24 /dev/urandom | base64 | tr -d '\n' | tr '+/' '-_' >"$dir/redis-password"

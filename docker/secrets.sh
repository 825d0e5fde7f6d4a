#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes the secrets that the compose files read, once; what is there is left alone. They never enter an image.
set -eu
umask 022 # the folder is private, the files are read by the containers' own users
dir=$(cd "$(dirname "$0")" && pwd)/secrets
mkdir -p "$dir"
chmod 711 "$dir"
[ -s "$dir/redis-password" ] || head -c 24 /dev/urandom | base64 | tr -d '\n' | tr '+/' '-_' >"$dir/redis-password"
# compose.server.yml: Redis has no default user; this one may do what the tier does, on the tier's keys.
[ -s "$dir/redis-users.acl" ] || printf 'user default off\nuser millrace on #%s ~kvt1:* resetchannels -@all %s\n' \
  "$(tr -d '\n' <"$dir/redis-password" | sha256sum | cut -d' ' -f1)" \
  '+auth +ping +select +info +get +set +touch +unlink +scan' >"$dir/redis-users.acl"

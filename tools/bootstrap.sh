#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what tools/packages.txt lists, only what is missing, without a question. Debian 12, root or sudo.
# usage: tools/bootstrap.sh build|test
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
level=${1:?usage: tools/bootstrap.sh build|test}
pattern=build
[ "$level" = test ] && pattern='build|test'

mapfile -t wanted < <(awk -v p="^($pattern)\$" '$1 ~ p {print $2}' "$here/packages.txt")
missing=()
for package in "${wanted[@]}"; do
  state=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
  [ "$state" = installed ] || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

root=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "millrace: run as root, or install sudo: missing packages: ${missing[*]}" >&2; exit 69; }
  root=(sudo)
fi
# Installing redis-server would start a service that nobody asked for.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' | "${root[@]}" tee $policy >/dev/null
  "${root[@]}" chmod 755 $policy
  trap '"${root[@]}" rm -f $policy' EXIT
fi
echo "installing ${#missing[@]} Debian packages: ${missing[*]}" >&2
apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 -o APT::Acquire::Retries=3)
log=$(mktemp)
if ! { "${apt[@]}" update && "${apt[@]}" install --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -20 "$log" >&2
  echo "millrace: apt-get could not install the packages above (log: $log)" >&2
  exit 69
fi
rm -f "$log"

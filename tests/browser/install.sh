#!/usr/bin/env bash
# Debian's Chromium, when there is none. For a container or a CI machine.
set -euo pipefail

command -v chromium > /dev/null && exit 0
command -v chromium-browser > /dev/null && exit 0
if ! command -v apt-get > /dev/null; then
  echo "Install Chromium first (Debian: chromium); there is no apt-get here." >&2
  exit 1
fi
if [ "$(id -u)" != 0 ]; then
  echo "The browser test needs Chromium, which only root can install:  sudo apt-get install chromium" >&2
  exit 1
fi
log=$(mktemp)
{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } > "$log" 2>&1 \
  || { tail -n 20 "$log" >&2; echo "Could not install chromium." >&2; exit 1; }
rm -f "$log"

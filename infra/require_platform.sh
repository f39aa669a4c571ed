#!/bin/sh
# Usage: infra/require_platform.sh PYTHON
# Prints why nnclr cannot be installed on this machine and exits with 1. Prints nothing and exits with 0 if it can.
set -eu
python=$1

refuse() {
    printf '%s\n' "$@" >&2
    exit 1
}

[ "$(uname -s) $(uname -m)" = "Linux x86_64" ] || refuse \
    "nnclr needs Linux on x86-64, and this is $(uname -s) on $(uname -m): ML Metadata, which TFX needs, has no build for it." \
    "Use a Linux machine with an Intel or AMD processor, or run the container image on one (infra/README.md)."

command -v "$python" >/dev/null || refuse \
    "nnclr needs Python 3.11, and $python is not on the PATH: install it, or run make PYTHON=/path/to/python3.11."

"$python" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || refuse \
    "nnclr needs Python 3.11, and $python is $("$python" --version 2>&1): ML Metadata, which TFX needs, has no build for it." \
    "Install Python 3.11 and run make PYTHON=/path/to/python3.11."

"$python" -c '
import os, sys
libc = os.confstr("CS_GNU_LIBC_VERSION").split()[1]
sys.exit([int(number) for number in libc.split(".")] < [2, 28])
' 2>/dev/null || refuse \
    "nnclr needs glibc 2.28 or newer, as in Debian 10, RHEL 8 and Ubuntu 20.04, and this system has an older glibc or musl."

"$python" -c 'import ensurepip, venv' 2>/dev/null || refuse \
    "$python cannot create virtual environments: install its venv module (on Debian and Ubuntu: apt install python3.11-venv)."

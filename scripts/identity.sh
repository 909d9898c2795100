#!/usr/bin/env bash
# Plays one recorded history through two builds and compares what they say and write: the proof that a move changed nothing.
# usage: scripts/identity.sh BUILD_BEFORE BUILD_AFTER        folders that hold accrete and lib/accrete; under two minutes
#        scripts/identity.sh --self-test BUILD               spoils one thing at a time, and wants each to be found
# Exit status: 0 the same, 1 something differs (it is named), 2 it cannot be run.
set -euo pipefail
exec python3 -B "$(dirname "$0")/identity.py" "$@"

#!/usr/bin/env bash
# Installs ollamad into a virtual environment beside this file and lets the demo model answer a question.
#
#   ./install.sh            install, then `ollamad hello`
#   ./install.sh --test     install with what the tests need, then run the tests
#   ./install.sh --lint     the same, then the linters instead of the tests
#   ./install.sh --only     install, run nothing
#
# VENV=DIR chooses another place, PYTHON=PATH another interpreter. Nothing outside VENV is changed.
set -euo pipefail
cd "$(dirname "$0")"

mode=${1:---hello}
venv=${VENV:-$PWD/.venv}
need_mib=2500

fail() {
    echo "install.sh: $1" >&2
    exit 1
}

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    return 1
}

case $mode in
--hello | --test | --lint | --only) ;;
*) fail "unknown option $mode; allowed: --test --lint --only, or none" ;;
esac

python=$(find_python) ||
    fail "Python 3.11 or newer is missing (found: $(${PYTHON:-python3} --version 2>/dev/null || echo none)); on Debian: apt-get install python3 python3-venv"
"$python" -c 'import ensurepip, venv' 2>/dev/null ||
    fail "Python's venv module is missing for $python; on Debian: apt-get install python3-venv"
if [ -z "${CXX:-}" ] && ! command -v c++ >/dev/null && ! command -v g++ >/dev/null && ! command -v clang++ >/dev/null; then
    fail "a C++ compiler is missing (llama.cpp is built from source); on Debian: apt-get install g++"
fi
mkdir -p "$venv" 2>/dev/null || fail "cannot write to $venv; choose another place with VENV=DIR"
for place in "$venv" "${TMPDIR:-/tmp}"; do
    free_mib=$(df -Pm "$place" | awk 'NR == 2 { print $4 }')
    [ "$free_mib" -ge $need_mib ] ||
        fail "only $free_mib MiB are free at $place, $need_mib MiB are needed to build; free some, or set VENV or TMPDIR"
done

[ -x "$venv/bin/pip" ] || "$python" -m venv "$venv"
export PIP_DISABLE_PIP_VERSION_CHECK=1
case $mode in
--test | --lint) target='.[test]' ;;
*) target='.' ;;
esac
if ! "$venv/bin/python" -c 'import llama_cpp' 2>/dev/null; then
    echo "install.sh: building llama.cpp, this takes some minutes"
fi
"$venv/bin/pip" install --quiet --use-pep517 --editable "$target"

case $mode in
--hello)
    "$venv/bin/ollamad" hello
    echo "install.sh: done. Start the server with: $venv/bin/ollamad serve"
    ;;
--test) exec "$venv/bin/python" -m pytest ;;
--lint)
    "$venv/bin/ruff" check .
    "$venv/bin/ruff" format --check .
    exec "$venv/bin/mypy"
    ;;
esac

#!/usr/bin/env bash
# Expected: Mistral's client and python-jsonpath (RFC 9535) live in one environment; pip knows both and finds nothing wrong.
# Happens: mistralai depends on jsonpath-python, another project, whose import package has the same name, jsonpath. The one that is
#   installed last writes its files over those of the other, and `pip check` sees no conflict. Code that imported python-jsonpath has
#   another library in its hands then: its functions (findall, finditer, match) are gone.
# Versions: mistralai 3.7.0 (jsonpath-python 1.1.6), python-jsonpath 2.2.2, Python 3.11. Exits 1 if that changes.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip --quiet --disable-pip-version-check "$@"; }
look() { "$folder/venv/bin/python" -c 'import jsonpath; print(callable(getattr(jsonpath, "findall", None)))'; }
pip install 'python-jsonpath==2.2.2' >&2
alone="$(look)"
pip install 'mistralai==3.7.0' 'jsonpath-python==1.1.6' >&2
beside="$(look)"
pip check >/dev/null 2>&1 && check=clean || check=complains
echo "jsonpath.findall: alone $alone, beside mistralai $beside; pip check: $check"
[ "$alone/$beside/$check" = True/False/clean ]

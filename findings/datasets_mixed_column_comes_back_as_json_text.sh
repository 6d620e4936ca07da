#!/usr/bin/env bash
# Expected: a data set that `datasets` wrote to Parquet comes back from pyarrow as the values that were written: a str as that str.
# Happens: a column that holds values of several types is written as the extension type arrow.json, and pyarrow's to_pylist() gives the
#   JSON *text* of each value: a str comes back in quotes and with escapes, a list as a str, and nothing says so. A column of strs
#   beside it is as it was. `datasets` itself reads its file back rightly.
# Versions: datasets 5.2.0, pyarrow 26.0.1, Python 3.11. Exits 1 if that changes.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'datasets==5.2.0' 'pyarrow==26.0.1' >&2
cd "$folder"
HF_DATASETS_DISABLE_PROGRESS_BARS=1 HF_HUB_OFFLINE=1 HF_HOME="$folder/cache" "$folder/venv/bin/python" -W ignore - <<'PYTHON'
import pyarrow.parquet
from datasets import Dataset

rows = [{"id": "a", "reason": 'It says "yes".'}, {"id": "b", "reason": ["one step", "another"]}]
Dataset.from_list(rows, on_mixed_types="use_json").to_parquet("rows.parquet")
table = pyarrow.parquet.read_table("rows.parquet")
read = table.to_pylist()
print("type of the column:", table.schema.field("reason").type)
print("written:", [row["reason"] for row in rows])
print("read by pyarrow:", [row["reason"] for row in read])
back = list(Dataset.from_parquet("rows.parquet"))
print("read by datasets:", [row["reason"] for row in back])
assert [row["id"] for row in read] == ["a", "b"]
assert [row["reason"] for row in read] == ['"It says \\"yes\\"."', '["one step","another"]']
assert back == rows
PYTHON

"""What an accident makes of the files that say where a training stands: named, and no internal error."""

from __future__ import annotations

import pytest

from guardreasoner_sdk import InputError
from guardreasoner_sdk.data.atomic import read_json
from guardreasoner_sdk.data.run_folder import FIGURES, RECORD, open_stage
from guardreasoner_sdk.evaluation.audit.decisions import read_decisions
from guardreasoner_training.mining.pairs import read_pairs

DAMAGES = ["[" * 100_000 + "]" * 100_000, '{"x": 1e999}', '{"x": NaN}', '{"x": ' + "9" * 5_000 + "}", "{", "7", ""]


@pytest.mark.parametrize("damage", DAMAGES)
def test_records_of_a_stage(tmp_path, damage):
    folder = tmp_path / "out"
    with open_stage("s", folder, inputs={}, settings={}) as stage:
        stage.finish({"rows": 1})
    for name, call in ((FIGURES, lambda: read_json(folder / FIGURES)), (RECORD, lambda: _open(folder))):
        whole = (folder / name).read_text("utf-8")
        (folder / name).write_text(damage, "utf-8")
        with pytest.raises(InputError, match=f"{name} is damaged"):
            call()
        (folder / name).write_text(whole, "utf-8")
    _open(folder)


def _open(folder):
    with open_stage("s", folder, inputs={}, settings={}):
        pass


@pytest.mark.parametrize("damage", DAMAGES[:4])
def test_decisions_of_an_audit(tmp_path, damage):
    path = tmp_path / "decisions.jsonl"
    good = '{"audit": "x", "key": "1:prompt_harmfulness", "decision": "accept"}'
    path.write_text(f"{good}\n{damage}\n{good}\n", "utf-8")
    with pytest.raises(InputError, match="line 2: is not a decision"):
        read_decisions(path, "x")


@pytest.mark.parametrize("alpha", ["1e999", "NaN", "[" * 100_000 + "]" * 100_000, "9" * 400])
def test_pairs_name_their_line(tmp_path, alpha):
    path = tmp_path / "pairs.jsonl"
    path.write_text(f'{{"prompt": "a", "response": null, "chosen": "b", "rejected": "c", "alpha": {alpha}}}\n', "utf-8")
    with pytest.raises(InputError, match=r"pairs.jsonl:1"):
        list(read_pairs(path))

"""The paper's benchmarks (arXiv:2501.18492, section 4.1) as a table, and labelled rows from wherever they lie."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from guardreasoner_sdk._arguments import did_you_mean
from guardreasoner_sdk.data.columns import Columns, RawRow
from guardreasoner_sdk.data.readers import records_of
from guardreasoner_sdk.data.records import Record
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation.benchmarks import schemas as schemas
from guardreasoner_sdk.evaluation.benchmarks.fetch import DatasetSource, fetch, local_file
from guardreasoner_sdk.evaluation.rows import LabelledRow
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import TASKS, Task

__all__ = ["BENCHMARKS", "Benchmark", "find_benchmark", "read_benchmark", "read_file", "read_rows"]

_log = logging.getLogger(__name__)

_PROMPT, _REFUSAL, _RESPONSE = TASKS


def _harmbench(file: str) -> DatasetSource:
    return DatasetSource("github", "centerforaisafety/HarmBench", "8e1604d1171fe8a48d8febecd22f600e462bdcdd", file)


def _hub(repo: str, revision: str, file: str) -> DatasetSource:
    return DatasetSource("hub", repo, revision, file)


def _xstest(file: str) -> DatasetSource:
    # allenai/xstest-response is read at "main": no commit of it is known here that two sources agree on.
    return _hub("allenai/xstest-response", "main", file)


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One of the paper's data sets.

    Args:
        name: as in the paper's tables.
        tasks: the tasks it is labelled for; together they are the paper's 13 task sets.
        authors_file: its file in the authors' repository, which the paper's figures were made on.
        source: where the data set itself is published.
        schema: how a row of that becomes a labelled one.

    Example:
        >>> from guardreasoner_sdk.evaluation import BENCHMARKS
        >>> BENCHMARKS["HarmBenchResponse"].tasks
        ('response_harmfulness',)
    """

    name: str
    tasks: tuple[Task, ...]
    authors_file: str
    source: DatasetSource
    schema: schemas.Schema


BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "ToxicChat",
            (_PROMPT,),
            "0_8_toxic_chat.json",
            _hub("lmsys/toxic-chat", "29df8e4dba60e1f4af4b4075c0705c5b313548a8", "data/0124/toxic-chat_annotation_test.csv"),
            schemas.toxic_chat,
        ),
        Benchmark(
            "HarmBenchPrompt",
            (_PROMPT,),
            "0_3_harmbench_prompt.json",
            _harmbench("data/behavior_datasets/harmbench_behaviors_text_test.csv"),
            schemas.harmbench_prompts,
        ),
        Benchmark(
            "OpenAIModeration",
            (_PROMPT,),
            "0_2_OpenAIModeration.json",
            _hub(
                "mmathys/openai-moderation-api-evaluation", "84e5cf3bcd6acb3dfc70b6760451645872218a3e", "samples-1680.jsonl.gz"
            ),
            schemas.moderation,
        ),
        Benchmark(
            "AegisSafetyTest",
            (_PROMPT,),
            "0_1_AegisSafetyTest.json",
            _hub(
                "nvidia/Aegis-AI-Content-Safety-Dataset-1.0",
                "bd96d862068e47630197de64eb91f8d1481ff3e0",
                "Content Moderation Extracted Annotations 02.08.24_test_release_0418_v1.parquet",
            ),
            schemas.aegis,
        ),
        Benchmark(
            "SimpleSafetyTests",
            (_PROMPT,),
            "0_0_SimpleSafetyTests.json",
            _hub("Bertievidgen/SimpleSafetyTests", "98223c5d8c4059c8f4d8fe2fec8720ee8a20d3c5", "sst_test_cases.csv"),
            schemas.simple_safety_tests,
        ),
        Benchmark(
            "WildGuardTest",
            TASKS,
            "0_4_wild_guard_test.json",
            _hub("allenai/wildguardmix", "d29c47f41c8b51348b5c8e8c81c039b3132b66d1", "test/wildguard_test.parquet"),
            schemas.wildguard,
        ),
        Benchmark(
            "HarmBenchResponse",
            (_RESPONSE,),
            "0_5_harmbench_response.json",
            _harmbench("data/classifier_val_sets/text_behaviors_val_set.json"),
            schemas.harmbench_responses,
        ),
        Benchmark(
            "SafeRLHF",
            (_RESPONSE,),
            "0_9_safe_rlhf.json",
            _hub("PKU-Alignment/PKU-SafeRLHF", "ff7ba91063016c78a225b0f74e1c0860bb18230f", "round0/test.jsonl.xz"),
            schemas.safe_rlhf,
        ),
        Benchmark(
            "BeaverTails",
            (_RESPONSE,),
            "0_A_beaver_tails.json",
            _hub("PKU-Alignment/BeaverTails", "8401fe609d288129cc684a9b3be6a93e41cfe678", "round0/30k/test.jsonl.gz"),
            schemas.beavertails,
        ),
        Benchmark(
            "XSTestResponseHarmful",
            (_RESPONSE,),
            "0_6_xstest_response_harmful.json",
            _xstest("data/response_harmfulness-00000-of-00001.parquet"),
            partial(schemas.xstest, task=_RESPONSE),
        ),
        Benchmark(
            "XSTestResponseRefusal",
            (_REFUSAL,),
            "0_7_xstest_response_refusal.json",
            _xstest("data/response_refusal-00000-of-00001.parquet"),
            partial(schemas.xstest, task=_REFUSAL),
        ),
    )
}
"""The paper's data sets by name, in the order of its tables: 11 sets, 13 task sets (WildGuardTest has three)."""


_NO_LETTER = re.compile(r"[^a-z]")
_NUMBER = re.compile(r"^0_[0-9A]_")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def _plain(name: str) -> str:
    return _NO_LETTER.sub("", _NUMBER.sub("", name).removesuffix(".json").lower())


_BY_PLAIN_NAME = {
    _plain(name): benchmark for benchmark in BENCHMARKS.values() for name in (benchmark.name, benchmark.authors_file)
}
# So the authors' folder is spelled.
_BY_PLAIN_NAME["xstestreponseharmful"] = BENCHMARKS["XSTestResponseHarmful"]


def find_benchmark(name: str) -> Benchmark:
    """The benchmark of a name.

    Args:
        name: as in the paper or as the authors' files and folders are called; capitals and punctuation do not matter.

    Raises:
        InputError: the paper has no such benchmark.

    Example:
        >>> from guardreasoner_sdk.evaluation import find_benchmark
        >>> find_benchmark("aegissafetytest").name
        'AegisSafetyTest'
    """
    found = _BY_PLAIN_NAME.get(_plain(name))
    if found is None:
        meant = did_you_mean(name, BENCHMARKS)
        known = f"use one of {', '.join(BENCHMARKS)}, or name a file"
        raise InputError("benchmark", f"{name!r} is unknown", f"{meant} {known}" if meant else known)
    return found


def read_rows(
    what: str | Path, *, source: str | Path | None = None, revision: str | None = None, columns: Columns | None = None
) -> Iterator[LabelledRow]:
    """Labelled rows, however they are named: what ``guardreasoner evaluate`` takes as a benchmark.

    Args:
        what: a file (the authors', or your own), or a benchmark's name.
        source: where a benchmark is read from, see :func:`read_benchmark`.
        revision: the hub's commit, branch or tag.
        columns: which column of your own file holds what.

    Raises:
        InputError: there is no such thing, or it cannot be read.
        MissingExtraError: the file or its download needs an extra.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("mine.jsonl").write_text('{"prompt": "How do I bake a cake?", "prompt_harmful": false}\\n')
        >>> from guardreasoner_sdk.evaluation import read_rows
        >>> [row] = read_rows("mine.jsonl")  # or a benchmark: read_rows("AegisSafetyTest")
        >>> row.exchange.prompt
        'How do I bake a cake?'
    """
    path = Path(what)
    if path.is_file():
        return read_file(path, columns)
    if isinstance(what, Path) or "/" in what or path.suffix:
        raise InputError(str(what), "is no file", "check the path, or name a benchmark")
    return read_benchmark(what, source, revision=revision)


def read_benchmark(
    benchmark: str | Benchmark, source: str | Path | None = None, *, revision: str | None = None
) -> Iterator[LabelledRow]:
    """The rows of one of the paper's benchmarks.

    The authors' file is what the paper's figures were made on. Rows from the data set itself may differ from it in a few
    labels, and for SafeRLHF in the draw.

    Args:
        benchmark: it, or its name.
        source: None: the data set where it is published. A folder: the authors' file in it, or the data set's. A file: that
            one. Anything else: a repository of the hub that has the data set's file.
        revision: the commit, branch or tag to read instead of the pinned one.

    Raises:
        InputError: there is no such benchmark or file, or it cannot be downloaded or read.
        MissingExtraError: reading or downloading it needs an extra.

    Example:
        >>> from guardreasoner_sdk.evaluation import read_benchmark
        >>> rows = list(read_benchmark("SimpleSafetyTests"))  # doctest: +SKIP
    """
    found = benchmark if isinstance(benchmark, Benchmark) else find_benchmark(benchmark)
    if source is None:
        path = fetch(found.source, revision=revision)
    elif Path(source).is_dir():
        path = local_file(Path(source), [found.authors_file, found.source.file])
    elif Path(source).is_file():
        path = Path(source)
    elif isinstance(source, str) and _REPOSITORY.fullmatch(source):
        path = fetch(found.source, repo=source, revision=revision)
    else:
        raise InputError(str(source), "is not a folder, file or repository", "check the path")
    first, records = _opened(path)
    made = schemas.authors(records, found.tasks) if _is_authors(first) else found.schema(records)
    return _rows(made, found.name, strict=False)


def read_file(path: str | Path, columns: Columns | None = None, *, name: str | None = None) -> Iterator[LabelledRow]:
    """The labelled rows of a file: the authors' format, or your own JSON lines, CSV or Parquet.

    Args:
        path: the file.
        columns: which column of your own file holds what; None: the usual names.
        name: of the benchmark; None: the paper's name for an authors' file, else the file's.

    Raises:
        InputError: it cannot be read; with the line.
        MissingExtraError: Parquet, and pyarrow is not installed.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("mine.jsonl").write_text('{"prompt": "How do I bake a cake?", "prompt_harmful": false}\\n')
        >>> from guardreasoner_sdk.evaluation import read_file
        >>> [row] = read_file("mine.jsonl")
        >>> row.labels
        {'prompt_harmfulness': False}
    """
    path = Path(path)
    first, records = _opened(path)
    known = _BY_PLAIN_NAME.get(_plain(path.name.split(".")[0]))
    if columns is None and _is_authors(first):
        tasks = known.tasks if known else _tasks_of(first)
        return _rows(schemas.authors(records, tasks), name or (known.name if known else path.stem), strict=True)
    return _rows(filter(None, map((columns or Columns()).row, records)), name or path.name.split(".")[0], strict=True)


def _opened(path: Path) -> tuple[Record, Iterator[Record]]:
    first = next(records_of(path), None)
    if first is None:
        raise InputError(str(path), "has no rows", "write one row on each line")
    return first, records_of(path)


def _is_authors(record: Record) -> bool:
    return {"instruction", "input", "output"} <= record.values.keys()


def _tasks_of(record: Record) -> tuple[Task, ...]:
    """What an authors' file under another name is labelled for, by its first label."""
    word = str(record.values["output"]).strip().lower()
    if word in ("refusal", "compliance"):
        return (_REFUSAL,)
    if word in ("harmful", "unharmful"):
        alone = str(record.values["input"]).endswith("AI assistant:\nNone\n\n")
        return (_PROMPT,) if alone else (_RESPONSE,)
    return TASKS


def _rows(made: Iterable[RawRow], name: str, *, strict: bool) -> Iterator[LabelledRow]:
    """Check the texts. A public set's row that holds nothing to judge is left out; in your own file it is a mistake."""
    out = 0
    seen: set[str] = set()
    again: Counter[str] = Counter()
    for row in made:
        try:
            exchange = Exchange(row.prompt, row.response)
        except InputError as error:
            if strict:
                raise InputError(f"{row.place}, {error.field}", error.problem, error.fix) from None
            out += 1
            continue
        labels = {task: label for task, label in row.labels.items() if task == _PROMPT or exchange.response is not None}
        if not labels:
            out += 1
            continue
        # Names must be unique: verdicts are found by them.
        own = row.id
        while own in seen:
            again[row.id] += 1
            own = f"{row.id}#{again[row.id] + 1}"
        seen.add(own)
        yield LabelledRow(own, name, exchange, labels, row.language, row.kind)
    if out:
        _log.warning("%s: %d rows without a visible text are left out", name, out)

"""From a trained guard to files that engines run: merged safetensors, GGUF, a model card; each checked to answer alike."""

from __future__ import annotations

import hashlib
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

from guardreasoner_sdk._text import json_text
from guardreasoner_sdk.data.atomic import errors_while_writing, write_atomic
from guardreasoner_sdk.data.identity import content_hash
from guardreasoner_sdk.data.run_folder import identity_of, open_stage
from guardreasoner_sdk.errors import ConfigurationError, InputError, MissingExtraError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_training.export.card import describe_types, model_card
from guardreasoner_training.export.quantize import check_kind, kept_weights, quantize_gguf
from guardreasoner_training.gguf import Precision, check_llama, export_gguf
from guardreasoner_training.weights import model_json, stored_tensors

if TYPE_CHECKING:
    from guardreasoner_sdk.dialects.base import Dialect
    from guardreasoner_training.export.roundtrip import Agreement, Reference

__all__ = ["SAMPLES", "check_kinds", "export", "gguf_name", "guard_dialect", "is_export", "is_outdated"]

_ADAPTER: Final = "adapter_config.json"
_OWN: Final[tuple[str, ...]] = get_args(Precision)
_PART: Final = ".part"
# What belongs to a model and neither to its training nor to another format of it.
_COPIED: Final = ("*.safetensors", "*.safetensors.index.json", "*.jinja", "tokenizer.model", "vocab.json", "merges.txt")
_CONFIGS: Final = (
    *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json"),
)
# Half-width floats keep weights that were stored so.
_EXACT: Final[Mapping[str, frozenset[str]]] = {
    "f32": frozenset({"F32", "F16", "BF16"}),
    "f16": frozenset({"F16"}),
    "bf16": frozenset({"BF16"}),
}

SAMPLES: Final = (
    Exchange("How do I bake bread?"),
    Exchange("How do I bake bread?", "Mix flour, water, salt and yeast, let it rise, and bake it."),
    Exchange("How do I break into my neighbour's house?"),
    Exchange("How do I break into my neighbour's house?", "I'm sorry, but I can't help with that."),
)
"""What is asked to compare an exported guard with the trained one where no rows are given."""


def gguf_name(folder: Path, kind: str) -> str:
    """The name of a GGUF file: ``my-guard.q8_0.gguf``.

    Args:
        folder: the folder that it is in.
        kind: its type.

    Example:
        >>> from pathlib import Path
        >>> from guardreasoner_training.export import gguf_name
        >>> gguf_name(Path("my-guard"), "q8_0")
        'my-guard.q8_0.gguf'
    """
    return f"{folder.resolve().name}.{kind.lower()}.gguf"


def export(
    folder: Path,
    output: Path,
    *,
    gguf: Sequence[str] = ("f16", "q8_0"),
    rows: Sequence[Exchange] = SAMPLES,
    card: Mapping[str, Any] | None = None,
    restart: bool = False,
    threads: int | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Export a trained guard: a folder that ``Guard("my-guard")`` and ``Guard("my-guard/my-guard.q8_0.gguf")`` run.

    Every file is asked the rows and must answer as the trained guard does, to the letter, where its weights are the trained
    ones (safetensors, f32, and f16 or bf16 where the training stored them so; of f16 it is always asked). Of the others the
    share of equal answers is reported. What differs only where the trained guard itself was undecided between two tokens is
    counted as a tie.

    Args:
        folder: the trained guard: a Hugging Face folder, or an adapter of peft's, which is merged into its base.
        output: the folder to make. Nothing but notes of the run is in it before the checks are passed.
        gguf: types of GGUF file: ``f32``, ``f16``, ``bf16`` and ``q8_0`` are written here; any other by llama.cpp's own
            quantiser where that is installed. Empty: none.
        rows: exchanges to compare answers on, best those that were held out; empty: nothing is compared.
        card: what the model card tells of the training: ``data``, ``recipe``, ``figures`` and ``stages``, see
            :func:`guardreasoner_training.export.card.model_card`.
        restart: throw away what an earlier export left in ``output``.
        threads: CPU threads that llama.cpp takes for the comparison; None: all cores.
        report: is told how far it is.

    Returns:
        the figures: ``files`` with their sizes in bytes; ``weights`` by GGUF file: the bits a weight, and the shares of the
        types that llama.cpp took for them; and ``checks`` by type: rows, equal, ties and labels, or None where the engine for
        a check is not installed.

    Raises:
        ConfigurationError: the folder cannot be exported so, or an exported file answers differently; nothing is exported.
        InputError: ``output`` holds something else, or cannot be written.
        MissingExtraError: the extra ``train`` is not installed.

    Example:
        >>> from pathlib import Path
        >>> from guardreasoner_training.export import export
        >>> made = export(Path("my-guard"), Path("exported"), gguf=["q8_0"])  # doctest: +SKIP
    """
    kinds = check_kinds(gguf)
    dialect = guard_dialect(folder)
    with open_stage("export", output, inputs={"folder": folder}, settings=_settings(kinds, rows), restart=restart) as stage:
        figures = stage.figures
        if figures is None or any(not (output / name).is_file() for name in figures["files"]):
            _check_installed()
            figures = _exported(folder, output, kinds, dialect, rows, threads, report)
        # Always: what it tells of the training may have grown since.
        write_atomic(output / "README.md", model_card(output.resolve().name, figures, dialect.name, card or {}).encode())
        return stage.finish(figures)


def is_export(output: Path) -> bool:
    """Whether a folder is that of an export, complete or not.

    Args:
        output: the folder.
    """
    with suppress(InputError):
        return (identity_of(output) or {}).get("stage") == "export"
    return False


def is_outdated(folder: Path, output: Path, *, gguf: Sequence[str], rows: Sequence[Exchange]) -> bool:
    """Whether an earlier export is one of another model, of other types, or was compared on other rows.

    Args:
        folder: the trained guard's.
        output: of the export; one that is not there, or no export's, is not outdated.
        gguf: as in :func:`export`.
        rows: as in :func:`export`.

    Raises:
        ConfigurationError: a type cannot be written here.
        InputError: a file of the trained guard cannot be read.
    """
    kept = identity_of(output) if is_export(output) else None
    if kept is None:
        return False
    made_of = {"folder": content_hash("folder", folder)}
    return (kept["inputs"], kept["settings"]) != (made_of, _settings(check_kinds(gguf), rows))


def _settings(kinds: Sequence[str], rows: Sequence[Exchange]) -> dict[str, Any]:
    asked = hashlib.sha256(json_text([row.model_dump(mode="json") for row in rows]).encode()).hexdigest()
    return {"gguf": list(kinds), "rows": len(rows), "asked": asked}


def guard_dialect(folder: Path) -> Dialect:
    """How a trained guard is asked and read, from its ``guard.json``.

    Args:
        folder: the trained guard's.

    Raises:
        ConfigurationError: there is no such folder or file, or it names an unknown dialect.
    """
    from guardreasoner_sdk.dialects.families import FAMILIES, find_dialect

    if not folder.is_dir():
        raise ConfigurationError(f"model: there is no folder {str(folder)!r}; name one that a training made")
    note = model_json(folder / "guard.json")
    name = str(note.get("dialect"))
    chat = f"{name}-chat"
    return find_dialect(chat if note.get("rendering") == "chat" and chat in FAMILIES else name)


def check_kinds(gguf: Sequence[str]) -> list[str]:
    """Types of GGUF file in llama.cpp's spelling, after a look whether they can be written here.

    Args:
        gguf: the types.

    Raises:
        ConfigurationError: one is named twice, or unknown, or needs llama.cpp's quantiser, which is not installed.
        MissingExtraError: the package ``gguf`` is not installed.
    """
    kinds = [kind.lower() for kind in gguf]
    if twice := [kind for kind in kinds if kinds.count(kind) > 1]:
        raise ConfigurationError(f"gguf: {twice[0]!r} is named twice; name it once")
    if kinds and find_spec("gguf") is None:
        raise MissingExtraError("train", "GGUF files")
    for kind in kinds:
        if kind not in _OWN:
            check_kind(kind)
    return kinds


def _check_installed() -> None:
    from guardreasoner_training.trainers.arguments import require_training

    require_training("Exports")


def _exported(
    folder: Path,
    output: Path,
    kinds: Sequence[str],
    dialect: Dialect,
    rows: Sequence[Exchange],
    threads: int | None,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Make the files aside, and put them into the folder when all of them have passed."""
    part = output / _PART
    # The name is that of the folder: GGUF files carry it.
    made = part / output.resolve().name
    try:
        with errors_while_writing(part):
            shutil.rmtree(part, ignore_errors=True)
            made.mkdir(parents=True)
        checks = _make(folder, made, kinds, dialect, rows, threads, report)
        files = sorted(made.iterdir())
        weights = {path.name: kept_weights(path) for path in files if path.suffix == ".gguf"}
        sizes = {path.name: path.stat().st_size for path in files}
        with errors_while_writing(output):
            for path in files:
                path.replace(output / path.name)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return {"files": sizes, "weights": weights, "checks": checks}


def _make(
    folder: Path,
    made: Path,
    kinds: Sequence[str],
    dialect: Dialect,
    rows: Sequence[Exchange],
    threads: int | None,
    report: Callable[[str], None],
) -> dict[str, Any]:
    """Write every file but the card, and check each."""
    from guardreasoner_sdk.backends.transformers import TransformersBackend

    adapter = (folder / _ADAPTER).is_file()
    with errors_while_writing(made):
        if adapter:
            report("merging the adapter into its base")
            _merge(folder, made)
        else:
            _copy(folder, made)
        _write_note(folder, made)
    if kinds:  # what no file can hold is said before the guard is asked for an hour
        check_llama(model_json(made / "config.json"), model_json(made / "tokenizer.json"))
    reference = _reference(folder, dialect, rows, report) if rows else None
    checks: dict[str, Any] = {}
    stored = {tensor.dtype for tensor in stored_tensors(made).values()}
    if reference is not None:
        same = TransformersBackend(str(made), dtype=reference.dtype, device=reference.device, batch_size=1)
        found = reference.compare(same)
        # An adapter merged into half-width weights is rounded to them.
        checks["safetensors"] = _settled("safetensors", found, exact=not adapter or stored == {"F32"}, report=report)
    for kind in kinds:
        report(f"writing {gguf_name(made, kind)}")
        with errors_while_writing(made):
            file = _write_gguf(made, kind, stored)
        report(f"{kind}: {describe_types(kept_weights(file))}")
        if reference is None:
            continue
        if find_spec("llama_cpp") is None:
            report(f"{kind}: not checked, llama-cpp-python is not installed")
            checks[kind] = None
            continue
        from guardreasoner_sdk.backends.llama_cpp import LlamaCppBackend

        exact = kind == "f16" or stored <= _EXACT.get(kind, frozenset())
        checks[kind] = _settled(
            kind, reference.compare(LlamaCppBackend(str(file), threads=threads)), exact=exact, report=report
        )
    return checks


def _reference(folder: Path, dialect: Dialect, rows: Sequence[Exchange], report: Callable[[str], None]) -> Reference:
    from guardreasoner_training.export.roundtrip import Reference

    report(f"asking the trained guard {len(rows):,} rows")
    return Reference(folder, dialect, rows, report=report)


def _settled(kind: str, found: Agreement, *, exact: bool, report: Callable[[str], None]) -> dict[str, int]:
    if exact and found.differing:
        number, place = found.differing[0]
        raise ConfigurationError(
            f"export: {kind} answers differently from the trained guard on {len(found.differing)} of {found.rows} rows "
            f"(row {number}, from character {place}); nothing is exported: please report it, or leave that type out"
        )
    ties = f", {found.ties} with a tie" if found.ties else ""
    report(f"{kind}: {found.equal} of {found.rows} answers equal to the letter{ties}; {found.labels} with equal labels")
    return found.figures()


def _copy(folder: Path, made: Path) -> None:
    if not (folder / "config.json").is_file():
        raise ConfigurationError(f"model: {folder} holds no model: neither config.json nor {_ADAPTER}; name a trained guard")
    names = {path.name for pattern in _COPIED for path in folder.glob(pattern)}
    names |= {name for name in _CONFIGS if (folder / name).is_file()}
    for name in sorted(names):
        shutil.copyfile(folder / name, made / name)


def _merge(folder: Path, made: Path) -> None:
    """Base and adapter as one, in the base's own precision."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from guardreasoner_training.trainers.merging import merge_adapter

    base = model_json(folder / _ADAPTER).get("base_model_name_or_path")
    loader: Any = AutoModelForCausalLM
    tokenizers: Any = AutoTokenizer
    with _quiet("transformers"):
        try:
            tokenizer = tokenizers.from_pretrained(str(folder), local_files_only=True)
            model = loader.from_pretrained(str(base), dtype="auto")
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigurationError(f"model: the adapter's base {base!r} cannot be loaded: {reason}") from error
        if len(tokenizer) > model.get_input_embeddings().num_embeddings:
            model.resize_token_embeddings(len(tokenizer))
        merge_adapter(model, folder).save_pretrained(made)
        tokenizer.save_pretrained(made, save_jinja_files=False)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before, logger.level = logger.level, logging.ERROR
    try:
        yield
    finally:
        logger.setLevel(before)


def _write_note(folder: Path, made: Path) -> None:
    """guard.json, as ``Guard`` reads it: only the family of GuardReasoner has renderings."""
    note = model_json(folder / "guard.json")
    if note.get("dialect") != "guardreasoner":
        note.pop("rendering", None)
    (made / "guard.json").write_text(json_text(note, indent=2) + "\n", encoding="utf-8")


def _write_gguf(made: Path, kind: str, stored: set[str]) -> Path:
    file = made / gguf_name(made, kind)
    if kind in _OWN:
        export_gguf(made, file, dtype=kind)  # type: ignore[arg-type]  # one of its words
        return file
    whole = made / "whole.gguf"
    try:
        export_gguf(made, whole, dtype="bf16" if stored == {"BF16"} else "f16" if stored == {"F16"} else "f32")
        quantize_gguf(whole, file, kind)
    finally:
        whole.unlink(missing_ok=True)
    return file

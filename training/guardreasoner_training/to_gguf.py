"""``python -m guardreasoner_training.to_gguf FOLDER FILE``: turns a folder of Llama weights into a file for llama.cpp."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from guardreasoner_sdk.errors import GuardError
from guardreasoner_training.gguf import Precision, export_gguf

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: the command line; None for that of the process.

    Returns:
        The exit status: 0, or 1 where the folder cannot be converted or the file not be written.
    """
    parser = argparse.ArgumentParser(
        prog="python -m guardreasoner_training.to_gguf", description="Turn a folder of Llama weights into a file for llama.cpp."
    )
    parser.add_argument("folder", type=Path, help="config.json, weights in safetensors, tokenizer.json")
    parser.add_argument("file", type=Path, help="the GGUF file to write")
    parser.add_argument("--dtype", choices=get_args(Precision), default="f16", help="how the matrices are kept")
    given = parser.parse_args(arguments)
    try:
        export_gguf(given.folder, given.file, dtype=given.dtype)
    except (GuardError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

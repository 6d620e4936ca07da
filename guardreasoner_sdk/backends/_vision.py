"""Images for a model in this process: what stands for one in its prompt, and the tensors that it sees."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from guardreasoner_sdk._failures import config_errors
from guardreasoner_sdk.errors import BackendError, ConfigurationError
from guardreasoner_sdk.images import Image

__all__ = ["ImageEncoder", "SeenImages"]

_OF_TOKENS = frozenset(
    {"input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids", "text_replacement_offsets", "special_tokens_mask"}
)
"""What a processor gives beside what a model sees of the images."""


@dataclass(frozen=True, slots=True)
class SeenImages:
    """Images as a model takes them.

    Args:
        texts: for each image, what its token in the prompt becomes: as many tokens as the model has places for it.
        tensors: by the name of the model's argument, for all of them.
    """

    texts: tuple[str, ...]
    tensors: dict[str, Any]


class ImageEncoder:
    """The processor of a model, for images alone: texts go another way, by which none of them can become an image's place.

    Args:
        processor: one of transformers, with an image processor.
        name: the model's name, for errors.

    Attributes:
        token: what the chat template writes where an image stands.
    """

    def __init__(self, processor: Any, name: str) -> None:
        token = getattr(processor, "image_token", None)
        if not isinstance(token, str):
            raise ConfigurationError(f"model: the processor of {name} names no token for images; use vllm or a server")
        self.token = token
        self._processor = processor
        self._name = name

    @classmethod
    def from_folder(cls, folder: Path, tokenizer: Any, name: str) -> ImageEncoder | None:
        """Load what a checkpoint brings for images; None where it brings nothing.

        Args:
            folder: of the checkpoint.
            tokenizer: of transformers, which is loaded already.
            name: the model's name, for errors.

        Raises:
            ConfigurationError: it cannot be loaded.
        """
        settings = _read_settings(folder)
        if settings is None:
            return None
        with config_errors(
            lambda error: (
                f"model: the image processor of {name} cannot be loaded ({type(error).__name__}: {error}); some need "
                "torchvision: pip install torchvision"
            )
        ):
            return cls(_load(folder, settings, tokenizer), name)

    def encode(self, images: Sequence[Image]) -> SeenImages:
        """Make tensors of images.

        Raises:
            BackendError: one of them cannot be decoded, or has a shape that the model does not take.
            MissingExtraError: Pillow is not installed.
        """
        pictures = [image.decode() for image in images]
        try:
            made = self._processor(
                images=[pictures],
                text=[self.token * len(pictures)],
                return_tensors="pt",
                return_text_replacement_offsets=True,
            )
        except (ValueError, TypeError) as error:
            raise BackendError(f"{self._name} does not take such an image ({type(error).__name__})") from None
        replaced = made.get("text_replacement_offsets")
        if replaced is None:
            raise ConfigurationError("transformers: this version does not say what stands for an image; upgrade it")
        texts = tuple(one["replacement"] for one in replaced[0])
        return SeenImages(texts, {name: value for name, value in made.items() if name not in _OF_TOKENS})

    def kinds(self, ids: Sequence[int]) -> list[int]:
        """For each token whether it is a part of an image (1) or of the text (0), as some models want to be told."""
        own = frozenset(self._processor.image_token_ids)
        return [int(number in own) for number in ids]


def _read_settings(folder: Path) -> dict[str, Any] | None:
    """What the checkpoint says of its processor: which class, and with what."""
    found: dict[str, Any] = {}
    there = False
    for name in ("preprocessor_config.json", "processor_config.json"):
        if (folder / name).is_file():
            there = True
            found |= json.loads((folder / name).read_text("utf-8"))
    return found if there else None


def _load(folder: Path, settings: dict[str, Any], tokenizer: Any) -> Any:
    """The processor without its part for films: that needs torchvision, and no film is judged."""
    transformers: Any = import_module("transformers")  # only a part of it is typed
    known: Any = import_module("transformers.models.auto.processing_auto")
    kind = settings.get("processor_class")
    if kind is None:
        config = transformers.AutoConfig.from_pretrained(str(folder), local_files_only=True)
        kind = known.PROCESSOR_MAPPING_NAMES[config.model_type]
    if kind == "ShieldGemma2Processor":
        kind = "Gemma3Processor"  # which it is, but for asking its three policies by itself
    whole: Any = known.processor_class_from_name(kind)
    parts = {
        "tokenizer": tokenizer,
        "image_processor": transformers.AutoImageProcessor.from_pretrained(str(folder), local_files_only=True),
    }

    class _Images(whole):  # type: ignore[misc]
        """Takes None for a part that is not there."""

        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> Any:
            return None if argument is None else super().check_argument_for_proper_class(argument_name, argument)

    arguments = [parts.get(attribute) for attribute in whole.get_attributes()]
    own, _ = whole.get_processor_dict(str(folder), local_files_only=True)
    return _Images.from_args_and_dict(arguments, own)

"""Typed options of the engines: validated where they are made, and the same as the mapping."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest

from guardreasoner_sdk import VLLM, Classifier, ConfigurationError, Guard, LlamaCpp, Onnx, Remote, Transformers
from guardreasoner_sdk.backends.options import EngineOptions
from guardreasoner_sdk.catalog import BACKENDS

URL = "http://localhost:1/v1"
KINDS = (VLLM, LlamaCpp, Transformers, Remote, Classifier, Onnx)


def test_every_engine_has_its_options() -> None:
    assert {kind.engine_name for kind in KINDS} == set(BACKENDS) - {"embedded", "hosted"}


@pytest.mark.parametrize("kind", KINDS)
def test_options_are_frozen_and_made_of_a_mapping_too(kind: type[EngineOptions]) -> None:
    assert kind.of({}) == kind()
    name = fields(kind)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(kind(), name, None)


def test_what_vllm_alone_knows_is_handed_on() -> None:
    options = VLLM.of({"tensor_parallel_size": 2, "enforce_eager": True, "engine": {"seed": 1}})
    assert options == VLLM(tensor_parallel_size=2, engine={"seed": 1, "enforce_eager": True})


@pytest.mark.parametrize(
    ("kind", "values", "told"),
    [
        (VLLM, {"tensor_parallel_size": 0}, "tensor_parallel_size: must be a whole number from 1, not 0"),
        (VLLM, {"data_parallel_size": None}, "data_parallel_size: must be a whole number from 1, not None"),
        (VLLM, {"batch_size": True}, "batch_size: must be a whole number from 1, not True"),
        (VLLM, {"max_model_len": "8k"}, "max_model_len: must be a whole number from 1, not '8k'"),
        (VLLM, {"gpu_memory_utilization": 90}, "gpu_memory_utilization: must be a share above 0 and up to 1, not 90"),
        (VLLM, {"engine": {"dtype": "half"}}, "engine: 'dtype' is an option of its own; pass dtype=... beside engine="),
        (VLLM, {"engine": ["seed"]}, "engine: must be a mapping of vLLM's options, not list"),
        (LlamaCpp, {"threads": 0}, "threads: must be a whole number from 1, not 0"),
        (LlamaCpp, {"n_gpu_layers": -2}, "n_gpu_layers: must be a whole number from -1, not -2"),
        (Transformers, {"dtype": "int3"}, "dtype: 'int3' is unknown; use one of auto, bfloat16, float16, float32"),
        (Transformers, {"context": 1}, "context: must be a whole number from 2, not 1"),
        (
            Transformers,
            {"device": "cpu", "device_map": "auto"},
            "device: is given together with device_map; leave one of them out",
        ),
        (Remote, {"retries": -1}, "retries: must be a whole number from 0, not -1"),
        (Remote, {"request_timeout": float("nan")}, "request_timeout: must be seconds above 0, not nan"),
    ],
)
def test_a_value_that_cannot_work_is_named(kind: type[EngineOptions], values: dict[str, Any], told: str) -> None:
    for make in (lambda: kind(**values), lambda: kind.of(values)):
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert str(caught.value) == told


def test_options_name_the_engine_of_a_guard() -> None:
    typed = Guard("m", backend=Remote(retries=0, max_connections=3), base_url=URL)
    mapped = Guard("m", backend="remote", options={"retries": 0, "max_connections": 3}, base_url=URL)
    engines = [guard.judge.engine for guard in (typed, mapped)]  # type: ignore[attr-defined]
    assert [engine._connection._options for engine in engines] == [Remote(retries=0, max_connections=3)] * 2


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"backend": Remote(), "options": {"retries": 1}}, "options: are given in backend=Remote"),
        ({"backend": 3}, "backend: must be a name, or the options of an engine such as VLLM"),
        ({"backend": VLLM()}, "base_url .*: 'vllm' calls no server"),
        ({"options": {"retrys": 1}}, "options: 'retrys' is unknown to this backend; did you mean 'retries'"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Guard("m", base_url=URL, **options)

"""What a recipe can say. Every setting has the paper's value as its default where the paper has one."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

__all__ = [
    "DataSettings",
    "EnsembleMember",
    "EvaluateSettings",
    "ExportSettings",
    "HSDPOSettings",
    "LoraSettings",
    "MineSettings",
    "PaperFigures",
    "RSFTSettings",
    "Recipe",
    "ScratchSettings",
    "SynthesisSettings",
    "TrainerSettings",
]

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0.0)]


# Settings that a secret is easily mistaken for: a recipe is written to manifests, and its errors to logs.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _address(value: object) -> str:
    # Behind a user name or in a query there may be a key. What is no text is no address either.
    return value if isinstance(value, str) and not set("@?#") & set(value) else ""


def _name(value: object) -> str:
    return value if isinstance(value, str) and _NAME.fullmatch(value) else ""


def _checked_address(value: str) -> str:
    if not value:
        raise ValueError(
            "must be an address with neither user name, password nor query (no '@', '?' or '#'), such as "
            "http://localhost:8000/v1; put the key into an environment variable, and its name into api_key_env"
        )
    return value


def _checked_name(value: str) -> str:
    if not value:
        raise ValueError(
            "must be the name of an environment variable (letters, digits and _), not the key itself; put the key into a "
            "variable, and its name here"
        )
    return value


# What may be a secret is taken away first and refused afterwards: pydantic's errors show the value that was refused.
Address = Annotated[str, AfterValidator(_checked_address), BeforeValidator(_address)]
"""Where a server is."""

VariableName = Annotated[str, AfterValidator(_checked_name), BeforeValidator(_name)]
"""An environment variable."""


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ScratchSettings(_Settings):
    """A base model that is made here: a Llama with random weights, and a tokenizer learnt on the rows.

    Args:
        vocabulary: most tokens, the special ones included.
        hidden: width of the layers.
        layers: how many of them.
        heads: attention heads; they divide the width.
        kv_heads: key and value heads; they divide the heads.
        intermediate: width of the feed-forward part.
        positions: longest text in tokens.
    """

    vocabulary: Annotated[int, Field(ge=300)] = 4096
    hidden: Count = 256
    layers: Count = 6
    heads: Count = 8
    kv_heads: Count = 4
    intermediate: Count = 688
    positions: Count = 1024

    @model_validator(mode="after")
    def _divides(self) -> Self:
        if self.hidden % (2 * self.heads) or self.heads % self.kv_heads:
            raise ValueError("hidden must be an even multiple of heads, and heads a multiple of kv_heads")
        return self


class DataSettings(_Settings):
    """Which rows there are, and what becomes of them before training.

    Args:
        source: repository of the hub, folder or file with the rows.
        revision: commit, branch or tag of the hub's repository.
        splits: rows expected of each split of the hub's repository; the splits are read in this order.
        source_from_file: whether a row's source is the name of its file, and not its own ``source``.
        dev_share: share of the groups of near-duplicate prompts that is kept out of training.
        response_dev_share: the same for groups with labels of responses; None: ``dev_share``.
        duplicates: what becomes of the second row with the same exchange and labels.
        contradictions: what becomes of rows with the same exchange and another label.
        broken: whether a broken line stops everything, or is counted and left out.
        incomplete: what becomes of rows with a response that lack a label: ``drop``; ``prompt`` trains on the prompt alone
            where that is labelled; ``fill`` does so where nothing is known of the response, and else asks a guard for the other
            labels, by default the embedded one.
        steps: where rows without reasoning get it from: ``derive`` writes short steps from labels and evidence; ``require``
            stops; ``drop`` leaves them out.
        evidence: what derived steps point at: passages found by leaving them out and asking the guard again (``guard``), the
            words that go with the label in the rows (``words``), or, with ``auto``, the first for at most 1,000 rows.
        too_long: what becomes of rows with more than ``max_tokens``; what is cut off is the end of the output.
        max_characters: longest prompt with its response to train on; None: any. What is left out makes room for others, unlike
            ``too_long``, which is known only when the output is written.
        max_rows: most rows to train on, drawn at random; None: all.
        per_source: most rows of one source.
        per_prompt: most rows of one prompt.
        per_labels: most rows with the same labels, so that a rare kind is not lost among the others.
        benchmarks: files that training must not have seen, for the leakage check.
        leaks: whether a row of theirs stops the training, is left out, or is counted and trained on all the same (``keep``).
    """

    source: str | None = None
    revision: str = "main"
    splits: dict[str, Count] = {}
    source_from_file: bool = False
    dev_share: Share = 0.02
    response_dev_share: Share | None = None
    duplicates: Literal["drop", "keep"] = "drop"
    contradictions: Literal["drop", "keep", "error"] = "drop"
    broken: Literal["error", "drop"] = "error"
    incomplete: Literal["drop", "prompt", "fill"] = "drop"
    steps: Literal["derive", "require", "drop"] = "require"
    evidence: Literal["auto", "guard", "words"] = "auto"
    too_long: Literal["drop", "cut"] = "drop"
    max_characters: Count | None = None
    max_rows: Count | None = None
    per_source: Count | None = None
    per_prompt: Count | None = None
    per_labels: Count | None = None
    benchmarks: tuple[str, ...] = ()
    leaks: Literal["error", "drop", "keep"] = "error"


class LoraSettings(_Settings):
    """Low-rank adapters (arXiv:2106.09685), for ``tuning = "lora"`` and ``"qlora"``.

    Args:
        rank: of the adapters.
        alpha: their scale is alpha / rank.
        dropout: in front of them.
        targets: the layers that get one: names, or ``all-linear``; not the head.
    """

    rank: Count = 64
    alpha: Positive = 128.0
    dropout: Share = 0.0
    targets: str | tuple[str, ...] = "all-linear"


class TrainerSettings(_Settings):
    """What R-SFT and HS-DPO have in common.

    Args:
        learning_rate: the highest of the run.
        schedule: how it falls.
        warmup_ratio: share of the steps in which it rises first.
        epochs: passes over the rows.
        batch: rows of one device at a time.
        accumulation: such batches to a step.
        devices: how many devices the recipe is made for.
        optimizer: of the weights.
        weight_decay: its decay.
        clip: largest norm of the gradient.
        precision: of the arithmetic.
        tuning: all weights, adapters, or adapters on a base of 4 bits.
        lora: the adapters.
        deepspeed: ``zero3`` spreads weights, gradients and optimiser over the devices.
        gradient_checkpointing: compute activations again instead of keeping them.
        attention: kernel of the attention; ``auto`` takes the fastest that is installed.
        liger: the fused kernels of liger-kernel.
        save_steps: steps between two checkpoints; below 1, the share of the run.
        keep_checkpoints: how many stay on the disk.
        logging_steps: steps between two entries of the log.
        threads: of the CPU; None: all cores.
        group_by_length: steps of about equally long rows, which are padded less; the paper draws them at random.
        report_to: ``tensorboard``, ``wandb``.
    """

    learning_rate: Positive
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: Share = 0.0
    epochs: Positive
    batch: Count
    accumulation: Count
    devices: Count = 4
    optimizer: Literal["adamw_torch", "adamw_torch_fused", "adamw_8bit"] = "adamw_torch"
    weight_decay: Annotated[float, Field(ge=0.0)] = 0.0
    clip: Positive = 1.0
    precision: Literal["bf16", "fp32", "fp16"] = "bf16"
    tuning: Literal["full", "lora", "qlora"] = "full"
    lora: LoraSettings = LoraSettings()
    deepspeed: Literal["zero3"] | None = None
    gradient_checkpointing: bool = True
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3"] = "auto"
    liger: bool = False
    save_steps: Positive = 0.1
    keep_checkpoints: Count = 2
    logging_steps: Count = 10
    threads: Count | None = None
    group_by_length: bool = False
    report_to: tuple[Literal["tensorboard", "wandb"], ...] = ()

    @property
    def effective_batch(self) -> int:
        """Rows to a step, over all devices."""
        return self.batch * self.accumulation * self.devices

    @model_validator(mode="after")
    def _works(self) -> Self:
        targets = self.lora.targets
        if any(name.endswith("lm_head") for name in ([targets] if isinstance(targets, str) else targets)):
            raise ValueError("lora.targets must not hold lm_head: TRL computes with its weights and would not train an adapter")
        if self.save_steps > 1 and self.save_steps != int(self.save_steps):
            raise ValueError("save_steps must be a whole number of steps, or a share below 1")
        return self


class RSFTSettings(TrainerSettings):
    """Reasoning supervised fine-tuning: next token, on the output only (paper, section 3.2).

    Args:
        packing: several rows to a sequence; the paper has one.
    """

    learning_rate: Positive = 5e-5
    epochs: Positive = 3.0
    batch: Count = 6
    accumulation: Count = 16
    packing: bool = False


class HSDPOSettings(TrainerSettings):
    """Hard-sample DPO: alpha x DPO loss + SFT loss on the chosen answer (paper, section 3.3).

    Args:
        beta: how strongly the policy may leave its reference.
        sft_weight: weight of the SFT loss.
        sft_average: whether the SFT loss is a mean over each chosen answer's tokens, or over the batch's.
        precompute_reference: the reference's log-probabilities first, so that one model is in memory instead of two.
    """

    learning_rate: Positive = 5e-6
    epochs: Positive = 2.0
    batch: Count = 1
    accumulation: Count = 64
    beta: Positive = 0.01
    sft_weight: Annotated[float, Field(ge=0.0)] = 2.0
    sft_average: Literal["sequence", "token"] = "sequence"
    precompute_reference: bool = False


class EnsembleMember(_Settings):
    """One more model for H_ensemble.

    Args:
        name: of the model.
        sources: patterns of the sources that it is trained on, ``WildGuard*``; capitals do not matter.
    """

    name: str
    sources: Annotated[tuple[str, ...], Field(min_length=1)]


_ENSEMBLE = (
    EnsembleMember(name="wildguard-aegis-beavertails", sources=("WildGuard*", "Aegis*", "BeaverTails*")),
    EnsembleMember(name="wildguard-aegis-toxicchat", sources=("WildGuard*", "Aegis*", "ToxicChat*")),
    EnsembleMember(name="wildguard-beavertails-toxicchat", sources=("WildGuard*", "BeaverTails*", "ToxicChat*")),
)


class MineSettings(_Settings):
    """Hard-sample mining (paper, section 3.3).

    Args:
        k: generations of each row.
        temperature: of the sampling; the paper's 1.0 (the authors' script has 0.7).
        top_p: of the sampling.
        pair: whether one right and one wrong generation are drawn at random (the paper), or the longest taken (the script).
        gamma: weights are in [1 - gamma, 1 + gamma].
        unreadable: what a generation is that gives no readable label, or was cut off: it counts neither way, as in the
            authors' script, or it is a wrong one. It is never the chosen one.
        strict_chosen: whether the chosen generation must be right on all labelled tasks, and not on the pair's alone.
        max_rows: rows to write about, drawn from all; None: all of them, as in the paper.
        engine: what generates; ``auto`` takes vllm where it and a GPU are there, else transformers.
        max_new_tokens: longest generation.
        batch: rows handed to the engine at a time.
        seed: of sampling and drawing.
        ensemble: the further models; empty: H_self.
        own_sources: patterns of the sources whose pairs H_ensemble takes from the R-SFT model itself.
    """

    k: Annotated[int, Field(ge=2)] = 4
    temperature: Positive = 1.0
    top_p: Annotated[float, Field(gt=0.0, le=1.0)] = 0.95
    pair: Literal["random", "longest"] = "random"
    gamma: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.2
    unreadable: Literal["skip", "wrong"] = "skip"
    strict_chosen: bool = False
    max_rows: Count | None = None
    engine: Literal["auto", "vllm", "transformers"] = "auto"
    max_new_tokens: Count = 2048
    batch: Count = 256
    seed: int = 0
    ensemble: tuple[EnsembleMember, ...] = _ENSEMBLE
    own_sources: tuple[str, ...] = ("WildGuard*",)


class SynthesisSettings(_Settings):
    """Reasoning data synthesis: the teacher that writes the steps (paper, section 3.1).

    Args:
        model: the teacher's name.
        base_url: of an OpenAI-compatible endpoint; None: OpenAI's own.
        api_key_env: the environment variable that holds its key.
        concurrency: requests at a time.
        attempts: how often a row is asked at most: refused, broken and contradicting answers are asked again.
        temperature: of the teacher.
        max_tokens: longest answer.
        timeout: seconds for one request.
        budget_tokens: most tokens to spend; None: no limit.
        budget_money: most money to spend, in the unit of the prices; None: no limit.
        price_input: of a million tokens read.
        price_output: of a million tokens written.
        least_accepted: share of the rows asked about that must have a good answer; with fewer, the run fails.
    """

    model: str = "gpt-4o-2024-08-06"
    base_url: Address | None = None
    api_key_env: VariableName = "OPENAI_API_KEY"
    concurrency: Count = 16
    attempts: Count = 3
    temperature: Annotated[float, Field(ge=0.0)] = 1.0
    max_tokens: Count = 2048
    timeout: Positive = 120.0
    budget_tokens: Count | None = None
    budget_money: Positive | None = None
    price_input: Annotated[float, Field(ge=0.0)] = 0.0
    price_output: Annotated[float, Field(ge=0.0)] = 0.0
    least_accepted: Share = 0.5


class EvaluateSettings(_Settings):
    """How the trained models are measured.

    Args:
        benchmarks: names of the paper's benchmarks, or files.
        data: folder with the benchmarks' files; None: they are downloaded.
        engine: what runs them; ``auto`` takes vllm with a GPU, else llama_cpp where it can, else transformers.
        reasoning: how much they reason.
        batch: rows at a time.
        limit: most rows of each benchmark; None: all.
        dev_rows: most rows of the development part.
    """

    benchmarks: tuple[str, ...] = ()
    data: str | None = None
    engine: Literal["auto", "vllm", "transformers", "llama_cpp"] = "auto"
    reasoning: Literal["full", "brief", "off", "auto"] = "full"
    batch: Count = 64
    limit: Count | None = None
    dev_rows: Count | None = None


class ExportSettings(_Settings):
    """What is made of the trained model.

    Args:
        gguf: types of GGUF file; beyond ``f16`` and ``q8_0`` llama.cpp's own quantiser is needed.
        check_rows: how many rows the exported model must answer as the trained one does.
    """

    gguf: tuple[str, ...] = ("f16", "q8_0")
    check_rows: Annotated[int, Field(ge=0)] = 16


class PaperFigures(_Settings):
    """What the paper reports, to compare with; nothing is computed from it.

    Args:
        rows: of the training data.
        pairs: of hard samples.
        teacher: who wrote the reasoning. No recipe asks it by itself: that costs money.
        hardware: what it ran on.
        rsft_gpu_hours: GPU hours of R-SFT.
        hsdpo_gpu_hours: GPU hours of HS-DPO.
    """

    rows: Count
    pairs: Count
    teacher: str
    hardware: str
    rsft_gpu_hours: Positive
    hsdpo_gpu_hours: Positive


class Recipe(_Settings):
    """A training from its data to its export.

    Args:
        name: of the recipe.
        base: a model of the hub, a folder, or a model made here.
        format: what the model writes.
        rendering: how it is asked: ``chat`` as R-SFT does, ``raw`` as a plain completion prompt.
        max_tokens: longest row, prompt and output together.
        seed: of everything that is drawn.
        data: the rows.
        rsft: supervised fine-tuning.
        mine: hard samples.
        hsdpo: preference training.
        synthesize: the teacher; None: rows bring their reasoning.
        evaluate: measuring.
        export: files for the engines.
        paper: what the paper reports of such a training.

    Example:
        >>> from guardreasoner_training.recipe import load_recipe
        >>> load_recipe("guardreasoner-1b").base
        'meta-llama/Llama-3.2-1B'
    """

    name: str
    base: ScratchSettings | str
    format: Literal["guardreasoner", "thinkguard", "labels"] = "guardreasoner"
    rendering: Literal["chat", "raw"] = "chat"
    max_tokens: Count = 2048
    seed: int = 0
    data: DataSettings = DataSettings()
    rsft: RSFTSettings = RSFTSettings()
    mine: MineSettings = MineSettings()
    hsdpo: HSDPOSettings = HSDPOSettings()
    synthesize: SynthesisSettings | None = None
    evaluate: EvaluateSettings = EvaluateSettings()
    export: ExportSettings = ExportSettings()
    paper: PaperFigures | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.format == "thinkguard" and self.rendering == "raw":
            raise ValueError("rendering must be 'chat' with the format 'thinkguard'")
        if isinstance(self.base, ScratchSettings) and self.base.positions < self.max_tokens:
            raise ValueError("base.positions must be at least max_tokens")
        return self

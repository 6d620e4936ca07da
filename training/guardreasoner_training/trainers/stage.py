"""A stage that trains, from its data to its figures: R-SFT and HS-DPO say what is their own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from guardreasoner_sdk.data.atomic import read_json
from guardreasoner_sdk.data.run_folder import Stage, open_stage
from guardreasoner_training.formats import end_id
from guardreasoner_training.recipe import Recipe, TrainerSettings
from guardreasoner_training.trainers.arguments import Layout, check_machine, identity, layout, usable_devices
from guardreasoner_training.trainers.launch import idle_devices, spread_over
from guardreasoner_training.trainers.model import load_tokenizer, save_guard
from guardreasoner_training.trainers.training import (
    figures_of,
    from_main,
    on_this_machine,
    processes,
    quiet,
    run_training,
    spread_note,
)

__all__ = ["TrainingStage"]

Settings = TypeVar("Settings", bound=TrainerSettings)


class TrainingStage(ABC, Generic[Settings]):
    """Encodes data once, trains on it, and saves the guard and its figures; in one process or in many.

    A stage of its own names itself and its data, and has three methods; :meth:`run` does the rest.

    Args:
        data: the file to learn from.
        base: the model that it starts from: a folder, or a model of the hub.
        output: the stage's folder.
        recipe: every setting.
    """

    name: ClassVar[str]
    """The recipe's section of its settings; the function's name in the module of the same name."""
    title: ClassVar[str]
    """Of the picture of the loss."""
    unit: ClassVar[str]
    """What the data is counted in, and the argument's name."""
    values: ClassVar[tuple[str, ...]] = ()
    """Names in the log that are reported beside the loss."""

    def __init__(self, data: Path, base: str | Path, output: Path, recipe: Recipe) -> None:
        self.data, self.base, self.output, self.recipe = data, base, output, recipe

    @property
    def asked(self) -> Settings:
        """The recipe's settings of the stage."""
        settings: Settings = getattr(self.recipe, self.name)
        return settings

    @property
    def made_of(self) -> Mapping[str, Any]:
        """What changes the outcome beside the settings that every stage has."""
        return {}

    @abstractmethod
    def arguments(self, settings: Settings, spread: Layout) -> Any:
        """The trainer's arguments, for the settings and the spread on this machine."""

    @abstractmethod
    def encode(self, folder: Path, tokenizer: Any) -> None:
        """Write the data to a folder, as token ids."""

    @abstractmethod
    def trainer(self, args: Any, encoded: Path, tokenizer: Any, settings: Settings) -> Any:
        """Make the trainer, from its arguments and the file of the encoded data."""

    def run(self, *, restart: bool, report: Callable[[str], None]) -> dict[str, Any]:
        """Train, or go on with a training that was cut off; what is done is not done again.

        Raises:
            InputError: the data cannot be used, or the folder cannot.
            ConfigurationError: the model or the machine cannot do what the recipe says, or memory ran out.
        """
        settings = on_this_machine(self.asked)
        spread = layout(self.name, settings, processes())
        with self._begun(settings, spread, restart, report) as (stage, args):
            if stage.figures is not None:
                return stage.figures
            state = args.distributed_state
            if state.is_main_process and (note := spread_note(settings, spread)):
                report(note)
            tokenizer = load_tokenizer(self.base, self.recipe)
            folder = self.output / "encoded"
            data = folder / "rows.arrow"
            with state.main_process_first():
                if not data.exists():
                    self.encode(folder, tokenizer)
            counts = read_json(folder / "counts.json")
            if state.is_main_process:
                learnt, left_out = (f"{counts[of]:,} {self.unit}" for of in ("rows", "too_long"))
                report(f"{learnt}, {counts['tokens']:,} tokens; {left_out} too long")
            ends = [end_id(tokenizer, self.recipe.rendering)]
            log = run_training(
                lambda: self.trainer(args, data, tokenizer, settings),
                lambda done: save_guard(done, self.output, base=self.base, recipe=self.recipe, settings=settings, ends=ends),
                *(args, self.name, self.recipe, settings, report),
            )
            figures = None
            if state.is_main_process:
                told = figures_of(log, self.output, self.title, self.values)
                figures = stage.finish({**counts, "epochs": settings.epochs, **told})
            return dict(from_main(state, figures))

    def _begun(
        self, settings: Settings, spread: Layout, restart: bool, report: Callable[[str], None]
    ) -> AbstractContextManager[tuple[Stage, Any]]:
        """The stage's folder, opened once for all processes, and the trainer's arguments unless nothing is left to do.

        One process that sees several GPUs has a process for each do the stage, and nothing is left to do then.
        """
        if processes() > 1:
            return self._among_others(settings, spread, restart)
        if (devices := idle_devices()) > 1:
            return nullcontext((self._by_others(devices, settings, restart, report), None))
        return self._alone(settings, spread, restart)

    def _opened(self, restart: bool) -> AbstractContextManager[Stage]:
        own = {**self.recipe.model_dump(include={"format", "rendering", "max_tokens", "seed"}), **self.made_of}
        return open_stage(
            self.name,
            self.output,
            inputs=self._inputs,
            settings={**own, self.name: identity(self.asked)},
            restart=restart,
        )

    @property
    def _inputs(self) -> dict[str, Path | str]:
        return {self.unit: self.data, "base": self.base}

    @contextmanager
    def _made(self, settings: Settings, spread: Layout) -> Iterator[Any]:
        """The trainer's arguments, if the machine can do it. Processes can talk to each other from then on."""
        check_machine(self.name, settings)
        with quiet(settings.threads):
            yield self.arguments(settings, spread)

    @contextmanager
    def _alone(self, settings: Settings, spread: Layout, restart: bool) -> Iterator[tuple[Stage, Any]]:
        """In this process, which has one device."""
        with self._opened(restart) as stage, ExitStack() as stack:
            yield stage, None if stage.figures is not None else stack.enter_context(self._made(settings, spread))

    @contextmanager
    def _among_others(self, settings: Settings, spread: Layout, restart: bool) -> Iterator[tuple[Stage, Any]]:
        """In this process and others that somebody started; the first one opens the folder, and tells the others of it."""
        with self._made(settings, spread) as args, ExitStack() as stack:
            state = args.distributed_state
            stage = stack.enter_context(self._opened(restart)) if state.is_main_process else Stage(self.output, None)
            stage.figures = from_main(state, stage.figures)
            yield stage, args

    def _by_others(self, devices: int, settings: Settings, restart: bool, report: Callable[[str], None]) -> Stage:
        """In processes that are started here, one for each device."""
        with self._opened(restart) as stage:
            figures = stage.figures
        if figures is None:  # the processes take the lock of the folder themselves
            used = usable_devices(settings, devices)
            if used < devices:
                report(
                    f"{used} of the {devices} devices train: the {settings.effective_batch} rows of a step cannot be spread "
                    f"evenly over more; {self.name}.accumulation changes how many they are"
                )
            figures = spread_over(
                used, self.name, self.recipe, restart=False, output=self.output, report=report, **self._inputs
            )
        return Stage(self.output, figures)

"""A server that is asked over HTTP, with what holds for all that ask one: limits, retries, a circuit breaker, the deadline."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import SecretStr

from guardreasoner_sdk._deadline import Deadline
from guardreasoner_sdk._forks import abandon, renew_after_fork
from guardreasoner_sdk.backends._breaker import Breaker
from guardreasoner_sdk.backends._remote_client import Address, open_client, split_address
from guardreasoner_sdk.backends._remote_errors import ServerError, UnreadableError, explain
from guardreasoner_sdk.backends.options import ServerOptions
from guardreasoner_sdk.errors import BackendError, ClosedError, ConfigurationError, DeadlineError, GuardError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["Connection"]

T = TypeVar("T")


class Connection:
    """Calls a server. Nothing is opened before the first call; it is used on one event loop, the guard's.

    Args:
        address: where the server is, and what it is told about who calls.
        options: its limits.
        model: what is asked for there, for messages.
        missing: what the message says where the server has no such thing; None: that it has no such model.
        authorize: is handed each request on its way, every try of it, and puts headers on it.
    """

    def __init__(
        self,
        address: Address,
        options: ServerOptions,
        *,
        model: str,
        missing: str | None = None,
        authorize: Callable[[Any], Awaitable[None]] | None = None,
    ) -> None:
        self.address = address
        self.retries = options.retries
        self._options = options
        self._model = model
        self._missing = missing
        self._authorize = authorize
        self._closed = False
        self._start()
        renew_after_fork(self)

    @classmethod
    def of_service(
        cls,
        url: str,
        options: ServerOptions,
        *,
        model: str,
        missing: str,
        headers: Mapping[str, SecretStr],
        sign: Callable[[Any], Awaitable[None]] | None = None,
    ) -> Self:
        """A connection to what speaks HTTP and JSON of its own, and no API of OpenAI's.

        Args:
            url: where its API begins.
            headers: what says who calls; they go nowhere else.
            sign: puts further headers on each request.

        Raises:
            ConfigurationError: no such address, or a header that cannot be one.
        """
        parts, host = split_address(url)
        if parts.username is not None:
            raise ConfigurationError("base_url: must hold no user name; pass the key as api_key")
        for name, value in headers.items():
            said = value.get_secret_value()
            key = said.removeprefix("Bearer ")
            if not key or " " in key or not key.isascii() or not key.isprintable():
                told = f"is empty, or holds blanks or characters that the header {name} cannot"
                raise ConfigurationError(f"api_key: {told}; copy it again")

        async def authorize(request: Any) -> None:
            request.headers.pop("authorization", None)  # the client's own, which would be sent to everybody
            for name, value in headers.items():
                request.headers[name] = value.get_secret_value()
            if sign is not None:
                await sign(request)

        clean = f"{parts.scheme}://{host}{parts.path.rstrip('/')}"
        address = Address(clean, host, SecretStr("Bearer none"), own=False)
        return cls(address, options, model=model, missing=missing, authorize=authorize)

    def after_fork(self) -> None:
        """Leave connections, locks and the loop they belong to to the parent: closing them here would end them there."""
        abandon(self._client, self._tasks)
        self._start()

    def _start(self) -> None:
        """What belongs to this process and its event loop."""
        self._client: AsyncOpenAI | None = None
        self._opening = asyncio.Lock()
        self._slots = asyncio.Semaphore(self._options.max_connections)
        self._breaker = Breaker(self._options.breaker_failures, self._options.breaker_recovery)
        self._tasks: set[asyncio.Task[Any]] = set()

    def check_open(self) -> None:
        """Refuse to go on.

        Raises:
            ClosedError: it was closed.
        """
        if self._closed:
            raise ClosedError("the engine is closed; make a new guard")

    async def open(self) -> AsyncOpenAI:
        """The client, made if it is not there yet."""
        async with self._opening:
            if self._client is None:
                # In a thread: the client's import and its certificates take up to a second.
                self._client = await asyncio.to_thread(
                    open_client, self.address, self.retries, self._options.max_answer_bytes, authorize=self._authorize
                )
            return self._client

    async def gather(self, calls: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
        """Make the calls side by side; their results in order. Closing ends them.

        Raises:
            ClosedError: it was closed.
        """
        calls = list(calls)
        if self._closed:
            for call in calls:
                call.close()
            self.check_open()
        tasks = [asyncio.create_task(call) for call in calls]
        self._tasks.update(tasks)
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            self._tasks.difference_update(tasks)
            for task in tasks:
                task.cancel()

    async def run(self, work: Callable[[AsyncOpenAI], Awaitable[T]], deadline: float | None) -> T | BackendError:
        """Do what asks the server, unless the breaker is open, until the deadline. What fails comes back in its place.

        Args:
            work: is handed the client, and enters :meth:`slot` to ask.
            deadline: time on ``time.monotonic()``, in seconds; None for no limit.

        Raises:
            ConfigurationError: the server refuses the key, or has nothing of that name.
            ClosedError: it was closed meanwhile.
        """
        late = DeadlineError()
        if Deadline.of(deadline).passed:
            return late
        try:
            self._breaker.check()
            async with Deadline.of(deadline).scope():
                return await work(await self.open())
        except BackendError as error:
            return error
        except TimeoutError:
            return late
        except asyncio.CancelledError:
            if self._closed:
                raise ClosedError("the guard was closed before it decided") from None
            raise

    @asynccontextmanager
    async def slot(self, deadline: float | None) -> AsyncIterator[None]:
        """Wait until a call may go out, and watch it."""
        async with self._slots:
            with self._breaker.call(deadline):
                yield

    async def send(
        self, client: AsyncOpenAI, path: str, body: Any, *, retries: int | None = None, query: Mapping[str, str] | None = None
    ) -> str:
        """Send a request, again where that may help; the text of the answer.

        Args:
            body: of the request, as JSON has it.
            retries: how often it may be sent again; None: as the options say.
            query: of its URL.

        Raises:
            BackendError: there is no answer, or one that says no.
            ConfigurationError: the server refuses the key, or has nothing of that name.
        """
        from openai import OpenAIError

        options: Any = {"timeout": self._options.request_timeout, "max_retries": self.retries if retries is None else retries}
        if query:
            options["params"] = dict(query)
        try:
            # The plain text: typed answers would take long to make of so many probabilities, and repair what is broken.
            return await client.post(path, cast_to=str, body=body, options=options)
        except GuardError:
            raise  # what cannot sign a request says so itself
        except (OpenAIError, UnreadableError) as error:
            # Some versions of the client wrap what was raised in it.
            own = error.__cause__ if isinstance(error.__cause__, GuardError) else None
            problem = own or explain(error, host=self.address.host, model=self._model, missing=self._missing)
        except Exception as error:
            # A foreign error's message may quote the judged text; its class cannot.
            problem = BackendError(f"the request to the server at {self.address.host} failed with {type(error).__name__}")
        raise problem

    async def ask(
        self, path: str, body: Any, read: Callable[[Any], T], *, query: Mapping[str, str] | None = None, deadline: float | None
    ) -> T | BackendError:
        """Send JSON, and read the JSON that comes back. What fails comes back in its place.

        Args:
            read: makes something of the answer; what it raises (``LookupError``, ``TypeError``, ``ValueError``) means that the
                server does not answer as it should. Its messages quote nothing that the server said.
            query: of the URL.
            deadline: time on ``time.monotonic()``, in seconds; None for no limit.

        Raises:
            ConfigurationError: the server refuses the key, or has nothing of that name.
            ClosedError: it was closed meanwhile.
        """

        async def work(client: AsyncOpenAI) -> T:
            async with self.slot(deadline):
                answer = await self.send(client, path, body, query=query)
                try:
                    return read(json.loads(answer))
                except RecursionError:
                    why = "it is nested too deeply"
                except json.JSONDecodeError:
                    why = "it is no JSON"
                except (LookupError, TypeError):
                    why = "it lacks what every answer has"
                except ValueError as error:
                    why = str(error)
                raise ServerError(f"unreadable answer from the server at {self.address.host}: {why}")

        return await self.run(work, deadline)

    async def aclose(self) -> None:
        """Close the connections. What is under way fails."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.close()

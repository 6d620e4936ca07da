"""Running the server: sockets, worker processes, and an end that loses no request."""

from __future__ import annotations

import asyncio
import logging.config
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING

import uvicorn

from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.guard import Guard
from guardreasoner_sdk.server.app import create_app
from guardreasoner_sdk.server.logs import log_config
from guardreasoner_sdk.server.metrics import MULTIPROCESS
from guardreasoner_sdk.server.settings import ServerSettings

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

__all__ = ["serve"]

logger = logging.getLogger("guardreasoner_sdk.server")

_BACKLOG = 2048
_LINGER = 1.0
"""Seconds without a request after which a connection counts as idle when the server ends: what is on its way arrives before."""

_RESTART = 1.0
"""Least seconds between two starts of a worker in the same place: one that dies at once must not eat the machine."""

_UNUSABLE = 2


def serve(make_guard: Callable[[], Guard], settings: ServerSettings | None = None) -> None:
    """Serve until SIGTERM or SIGINT. It then stops to listen, answers what has come, and ends.

    Args:
        make_guard: makes the guard, in each worker; with several workers it has to be picklable: a function of a module.
        settings: address, keys and limits; None: those of ``GUARDREASONER_SERVER_*``.

    Raises:
        ConfigurationError: an address that cannot be listened on, or that others can reach without a key; a guard that cannot
            work.

    Example:
        >>> from guardreasoner_sdk import Guard
        >>> from guardreasoner_sdk.server import ServerSettings, serve
        >>> serve(Guard, ServerSettings(host="0.0.0.0"))
        Traceback (most recent call last):
        guardreasoner_sdk.errors.ConfigurationError: host: 0.0.0.0 can be reached by other machines, and there are no keys; ...
    """
    settings = ServerSettings() if settings is None else settings
    settings.check_exposed()
    logging.config.dictConfig(log_config(settings.log_level))
    listener = _listen(settings)
    host, port = listener.getsockname()[:2]
    fields = {"host": host, "port": port, "workers": settings.workers}
    logger.info("listening on %s", f"http://{f'[{host}]' if ':' in host else host}:{port}", extra={"fields": fields})
    try:
        if settings.workers == 1:
            _work(make_guard, settings, listener)
        else:
            _Workers(make_guard, settings, listener).run()
    finally:
        listener.close()


def _listen(settings: ServerSettings) -> socket.socket:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((settings.host, settings.port))
    except OSError as error:
        raise ConfigurationError(
            f"host, port: cannot listen on {settings.host} port {settings.port}: {error.strerror}"
        ) from None
    listener.listen(_BACKLOG)
    listener.setblocking(False)
    return listener


def _work(
    make_guard: Callable[[], Guard],
    settings: ServerSettings,
    listener: socket.socket,
    watch: Callable[[Callable[[], None]], None] = lambda end: None,
) -> None:
    """One process that serves.

    Args:
        watch: told how to end the server, for whoever has a reason besides signals.
    """
    with make_guard() as guard:
        unusable: list[ConfigurationError] = []

        def give_up(error: ConfigurationError) -> None:
            unusable.append(error)
            server.should_exit = True

        app = create_app(guard, settings, on_unusable=give_up)
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                backlog=_BACKLOG,
                server_header=False,
                timeout_keep_alive=30,
                timeout_graceful_shutdown=int(settings.drain) or 1,
                ws="none",
            ),
            lambda: setattr(app.state, "draining", True),
            settings.drain,
        )
        watch(lambda: setattr(server, "should_exit", True))
        server.run(sockets=[listener])
        if unusable:
            raise unusable[0]


class _Server(uvicorn.Server):
    """uvicorn's, which closes idle connections at once when it ends: a request on its way on one of them would be lost."""

    def __init__(self, config: uvicorn.Config, drain: Callable[[], None], most: float) -> None:
        super().__init__(config)
        self._drain = drain
        self._most = most

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Note the signal. It is not raised again when all is done: an end that was asked for is no failure."""
        super().handle_exit(sig, frame)
        self._captured_signals = []

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop to listen, answer what comes on connections that there are, and close them when nothing comes any more."""
        self._drain()
        logger.info("draining")
        await asyncio.sleep(0)  # what has connected by now is accepted before the listener goes
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        until = time.monotonic() + self._most
        quiet_since, answered = time.monotonic(), self.server_state.total_requests
        while self.server_state.connections and time.monotonic() < min(until, quiet_since + _LINGER) and not self.force_exit:
            await asyncio.sleep(0.02)
            if self.server_state.tasks or self.server_state.total_requests != answered:
                quiet_since, answered = time.monotonic(), self.server_state.total_requests
        await super().shutdown(sockets)


def _worker(make_guard: Callable[[], Guard], settings: ServerSettings, listener: socket.socket) -> None:
    """What runs in a process of its own."""
    logging.config.dictConfig(log_config(settings.log_level))
    try:
        _work(make_guard, settings, listener, _end_with_parent)
    except ConfigurationError as error:
        logger.error("%s", error)
        raise SystemExit(_UNUSABLE) from None


def _end_with_parent(end: Callable[[], None]) -> None:
    """Nobody would end the workers of a parent that was killed, and they would keep its port."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101 - this is a worker

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        end()

    threading.Thread(target=watch, name="guardreasoner-parent", daemon=True).start()


class _Workers:
    """Processes that share a listener. One that dies is replaced; the others go on meanwhile.

    Started by ``spawn``: nothing of the parent's threads and locks is copied in a state of its own.
    """

    def __init__(self, make_guard: Callable[[], Guard], settings: ServerSettings, listener: socket.socket) -> None:
        self._make_guard = make_guard
        self._settings = settings
        self._listener = listener
        self._spawn = multiprocessing.get_context("spawn")
        self._processes: list[SpawnProcess] = []
        self._wake, self._woken = socket.socketpair()
        self._ending = False

    def run(self) -> None:
        """Keep them running until a signal, and wait for their end."""
        own = MULTIPROCESS not in os.environ
        if own:
            os.environ[MULTIPROCESS] = tempfile.mkdtemp(prefix="guardreasoner-metrics-")
        before = {number: signal.signal(number, self._end) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            self._processes = [self._started() for _ in range(self._settings.workers)]
            self._watch()
            self._listener.close()  # or what connects now would wait for workers that do not accept any more
            for process in self._processes:
                process.terminate()
            for process in self._processes:
                process.join(self._settings.drain + 10)
                process.kill()
                process.join()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            if own:
                shutil.rmtree(os.environ.pop(MULTIPROCESS), ignore_errors=True)

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._ending = True
        self._wake.send(b".")

    def _watch(self) -> None:
        started = [time.monotonic()] * len(self._processes)
        while not self._ending:
            multiprocessing.connection.wait([self._woken, *(process.sentinel for process in self._processes)])
            for place, process in enumerate(self._processes):
                if self._ending or process.is_alive():
                    continue
                process.join()
                if process.exitcode == _UNUSABLE:
                    self._ending = True
                    raise ConfigurationError("the workers cannot work as configured; the log says why")
                logger.error("worker %s ended with %s and is replaced", process.pid, process.exitcode)
                _forget_metrics(process.pid)
                time.sleep(max(0.0, started[place] + _RESTART - time.monotonic()))
                self._processes[place], started[place] = self._started(), time.monotonic()

    def _started(self) -> SpawnProcess:
        process = self._spawn.Process(
            target=_worker, args=(self._make_guard, self._settings, self._listener), name="guardreasoner-worker", daemon=True
        )
        process.start()
        logger.info("worker %s started", process.pid, extra={"fields": {"pid": process.pid}})
        return process


def _forget_metrics(pid: int | None) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid)  # type: ignore[no-untyped-call]

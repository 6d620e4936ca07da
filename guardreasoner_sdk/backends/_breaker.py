"""A circuit breaker: a server that fails again and again is left alone for a while, and then tried by one call."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from circuitbreaker import STATE_HALF_OPEN, STATE_OPEN, CircuitBreaker

from guardreasoner_sdk._deadline import Deadline
from guardreasoner_sdk.backends._remote_errors import RefusedError, ServerError
from guardreasoner_sdk.errors import BackendError

__all__ = ["Breaker"]


class Breaker:
    """Opens after so many failures in a row, half-opens after a while, closes on success. For one event loop.

    Args:
        failures: how many calls in a row must fail.
        recovery: seconds after which one call may try again.
    """

    def __init__(self, failures: int, recovery: float) -> None:
        self._circuit = CircuitBreaker(failure_threshold=failures, recovery_timeout=recovery, expected_exception=ServerError)
        self._trying = False

    def check(self) -> None:
        """Say whether a call may go out.

        Raises:
            BackendError: not now.
        """
        failed = f"the server failed {self._circuit.failure_count} times in a row"
        if self._circuit.state == STATE_OPEN:
            raise BackendError(f"{failed}; not asked again for {max(1, self._circuit.open_remaining)} s")
        if self._circuit.state == STATE_HALF_OPEN and self._trying:
            raise BackendError(f"{failed}; another call is trying it")

    @contextmanager
    def call(self, deadline: float | None) -> Iterator[None]:
        """Watch a call: :class:`ServerError` counts against the server, and so does a deadline that passes meanwhile.

        A call that its caller cancels before the deadline says nothing about the server.

        Args:
            deadline: time on ``time.monotonic()``, in seconds, or None.

        Raises:
            BackendError: the breaker is open.
        """
        self.check()
        trial = self._circuit.state == STATE_HALF_OPEN
        self._trying = self._trying or trial
        try:
            yield
        except ServerError as error:
            self._fail(str(error))
            raise
        except RefusedError:
            self._circuit.reset()
            raise
        except asyncio.CancelledError:
            if Deadline.of(deadline).passed:
                self._fail("no answer before the deadline")
            raise
        else:
            self._circuit.reset()
        finally:
            if trial:
                self._trying = False

    def _fail(self, why: str) -> None:
        # A new exception: the library keeps it, and the one at hand holds on to the call's frames and their texts.
        with suppress(ServerError), self._circuit:
            raise ServerError(why)

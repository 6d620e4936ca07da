"""What a teacher may cost: no request begins that could go beyond it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from guardreasoner_sdk.errors import ConfigurationError

__all__ = ["Budget", "Prices", "TokenCost"]


@dataclass(frozen=True, slots=True)
class TokenCost:
    """Tokens of a request, or of many.

    Args:
        input: tokens read.
        output: tokens written.
    """

    input: int = 0
    output: int = 0

    def __add__(self, other: TokenCost) -> TokenCost:
        return TokenCost(self.input + other.input, self.output + other.output)

    def __sub__(self, other: TokenCost) -> TokenCost:
        return TokenCost(self.input - other.input, self.output - other.output)

    @property
    def tokens(self) -> int:
        """All of them."""
        return self.input + self.output


@dataclass(frozen=True, slots=True)
class Prices:
    """Of a million tokens, in any unit of money.

    Args:
        input: of those read.
        output: of those written.
    """

    input: float = 0.0
    output: float = 0.0

    def of(self, cost: TokenCost) -> float:
        """What some tokens cost."""
        return (cost.input * self.input + cost.output * self.output) / 1e6


class Budget:
    """Lets requests begin while the dearest that they can be fits in.

    A request is let in where what is spent, what those under way can cost at most and what it can cost itself stay within the
    limits. Where they do not, it waits for those under way, most of which cost less than they could.

    Args:
        tokens: most tokens; None: no limit.
        money: most money, in the unit of the prices; None: no limit.
        prices: of a million tokens.
        spent: what was spent before.

    Raises:
        ConfigurationError: money is limited and there are no prices.

    Attributes:
        spent: what answers have cost so far.
    """

    def __init__(self, tokens: int | None, money: float | None, prices: Prices, *, spent: TokenCost) -> None:
        if money is not None and not (prices.input or prices.output):
            raise ConfigurationError(
                "synthesize.budget_money: needs prices; set synthesize.price_input and synthesize.price_output (of a million "
                "tokens), or limit synthesize.budget_tokens"
            )
        self._tokens = tokens
        self._money = money
        self.prices = prices
        self.spent = spent
        self._reserved = TokenCost()
        self._under_way = 0
        self._changed = asyncio.Condition()

    async def enter(self, most: TokenCost) -> bool:
        """Wait until a request may begin; False where it never may.

        Args:
            most: what it can cost at most.
        """
        async with self._changed:
            await self._changed.wait_for(lambda: self._fits(most) or not self._under_way)
            if not self._fits(most):
                return False
            self._reserved += most
            self._under_way += 1
            return True

    async def leave(self, most: TokenCost, cost: TokenCost) -> None:
        """Say what a request has cost."""
        async with self._changed:
            self._reserved -= most
            self._under_way -= 1
            self.spent += cost
            self._changed.notify_all()

    def reached(self) -> tuple[str, str]:
        """The limit that is in the way, and what was spent of it."""
        money, tokens = self.prices.of(self.spent), self.spent.tokens
        if self._money is not None and (self._tokens is None or money / self._money >= tokens / self._tokens):
            return "synthesize.budget_money", f"{money:.4f} of {self._money:g} are spent"
        return "synthesize.budget_tokens", f"{tokens:,} of {self._tokens or 0:,} are spent"

    def _fits(self, most: TokenCost) -> bool:
        total = self.spent + self._reserved + most
        in_money = self._money is None or self.prices.of(total) <= self._money * (1 + 1e-9)
        return in_money and (self._tokens is None or total.tokens <= self._tokens)

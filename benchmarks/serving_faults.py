"""Whether the server keeps its promises under load: every request gets its own answer or an honest refusal, whatever dies.

    python benchmarks/serving_faults.py [--clients 500] [--seconds 60] [--workers 2] [--output FILE]

Three parts, each with a server of its own and the embedded guard. Clients send texts whose verdicts are known from
``check_many``, no two of them with the same score, so that an answer that belongs to somebody else is told.

1. load: so many clients for so long; 5 % of the requests are malformed, 5 % are broken off by the client. Counted are right
   answers, 503s with ``Retry-After``, and what should not be: wrong answers, other statuses, connections cut.
2. kill -9 of one of the workers in the middle of the load: requests in its hands are cut, and nothing else may be wrong.
3. SIGTERM in the middle of the load: every request that was sent is answered; connections that come later are refused.

Ends with 1 where something is not as it should be.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardreasoner_sdk import Guard

MALFORMED, ABORTED = 0.05, 0.05
SUBJECTS = ("bread", "bombs", "gardens", "poison", "rivers", "malware", "bridges", "kittens", "fraud", "soup", "weapons")
TEXTS = [f"How do I make {subject} number {number} at home?" for subject in SUBJECTS for number in range(8)]
BROKEN = (b"{", b'{"prompt": 3}', b'{"promt": "hi"}', b"[]", b'{"prompt": "\\ud800"}', b"\xff\xfe")


@dataclass
class Load:
    """Clients, and what became of their requests."""

    port: int
    scores: dict[str, float]
    counts: Counter[str] = field(default_factory=Counter)
    over: bool = False

    async def client(self, number: int) -> None:
        """Ask again and again, on one connection after the other."""
        chance = random.Random(number)
        connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        while not self.over:
            if connection is None:
                try:
                    connection = await asyncio.open_connection("127.0.0.1", self.port)
                except OSError:
                    self.counts["connections refused"] += 1
                    await asyncio.sleep(0.1)
                    continue
            try:
                open_still = await self.ask(chance, *connection)
            except (OSError, asyncio.IncompleteReadError):
                self.counts["cut"] += 1
                open_still = False
            if not open_still:
                connection[1].close()
                connection = None
        if connection is not None:
            connection[1].close()

    async def ask(self, chance: random.Random, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection is still open."""
        texts = chance.sample(TEXTS, chance.randint(1, 3))
        way = chance.random()
        body = chance.choice(BROKEN) if way < MALFORMED else json.dumps([{"prompt": text} for text in texts]).encode()
        head = f"POST /v1/check HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        if MALFORMED <= way < MALFORMED + ABORTED:
            await writer.drain()
            await asyncio.sleep(chance.random() / 10)
            self.counts["aborted"] += 1
            return False
        answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(answer.partition("content-length: ")[2].partition("\r\n")[0])
        said = json.loads(await reader.readexactly(length))
        status = int(answer.split()[1])
        if way < MALFORMED:
            self.counts["malformed, refused" if 400 <= status < 500 and "error" in said else "malformed, WRONG"] += 1
        elif status == 503:
            self.counts["503" if "retry-after: " in answer else "503 WITHOUT retry-after"] += 1
        elif status != 200:
            self.counts[f"status {status}, WRONG"] += 1
        else:
            right = [verdict["prompt_harmfulness"]["score"] for verdict in said] == [self.scores[text] for text in texts]
            self.counts["right" if right else "answers, WRONG"] += 1
        return "connection: close" not in answer


def wait_until_ready(port: int) -> None:
    """Return when the server's model is loaded."""
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/readyz")
        if connection.getresponse().status == 200:
            return
        connection.close()
        time.sleep(0.1)


@contextmanager
def served(workers: int) -> Iterator[tuple[int, int, subprocess.Popen[str]]]:
    """A server: its port, the process of one of its workers, and its own process."""
    command = [sys.executable, "-P", "-m", "guardreasoner_sdk", "serve", "--port", "0", "--workers", str(workers)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = map(json.loads, process.stderr)
        port = next(line["port"] for line in lines if "port" in line)
        worker = next(line["pid"] for line in lines if "pid" in line) if workers > 1 else process.pid
        wait_until_ready(port)
        with subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL):
            try:
                yield port, worker, process
            finally:
                process.terminate()
                process.wait()


async def under_load(load: Load, clients: int, seconds: float, disturb: Any = None) -> None:
    """Run the clients, and disturb them after a third of the time."""
    running = [asyncio.create_task(load.client(number)) for number in range(clients)]
    await asyncio.sleep(seconds / 3)
    if disturb is not None:
        disturb()
    await asyncio.sleep(2 * seconds / 3)
    load.over = True
    await asyncio.gather(*running)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The three parts."""
    with Guard() as guard:
        verdicts = guard.check_many(TEXTS)
    scores = {text: verdict.prompt_harmfulness.score for text, verdict in zip(TEXTS, verdicts, strict=True)}
    assert len(set(scores.values())) == len(scores), "two texts have the same score: an exchanged answer would not be told"
    found: dict[str, Any] = {"clients": options.clients, "seconds": options.seconds, "workers": options.workers}
    for name, workers, seconds in (("load", 1, options.seconds), ("kill", options.workers, 30.0), ("end", 1, 15.0)):
        with served(workers) as (port, worker, process):
            load = Load(port, scores)
            asyncio.run(under_load(Load(port, scores), 1, 3.0))  # the models are loaded
            disturb = {
                "load": None,
                "kill": lambda worker=worker: os.kill(worker, signal.SIGKILL),
                "end": process.terminate,
            }[name]
            began = time.monotonic()
            asyncio.run(under_load(load, options.clients if name == "load" else 64, seconds, disturb))
            found[name] = {**dict(sorted(load.counts.items())), "took_s": round(time.monotonic() - began, 1)}
            if name == "end":
                found[name]["exit"] = process.wait()
        print(name, found[name], flush=True)
    return found


def main() -> int:
    """Measure, print, and say whether all is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=500, help="of the first part (default: 500)")
    parser.add_argument("--seconds", type=float, default=60, help="of the first part (default: 60)")
    parser.add_argument("--workers", type=int, default=2, help="of the second part (default: 2)")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    found = measure(options)
    if options.output is not None:
        options.output.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    wrong = [
        f"{part}: {name}" for part in ("load", "kill", "end") for name in found[part] if name.endswith(("WRONG", "WITHOUT"))
    ]
    wrong += [f"{part}: cut" for part in ("load", "end") if found[part].get("cut")]
    wrong += ["end: exit"] if found["end"]["exit"] else []
    print(json.dumps(found, indent=1), f"not as it should be: {', '.join(wrong) or 'nothing'}", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

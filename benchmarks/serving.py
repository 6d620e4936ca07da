"""What the server costs: checks a second over HTTP beside ``check_many`` in a process of its own, on the same cores, in turns.

    python benchmarks/serving.py [--seconds 10] [--rounds 3] [--workers 1] [--requests 50000] [--output FILE]

The embedded guard judges texts of 60 words, no two alike. Clients are coroutines of one process, which sends and reads HTTP by
hand: it runs on the cores of the server, and a usual client would cost as much as a check. Each way has two ratios: by the
clock, and by CPU time (that of ``check_many`` for a check, through that of server and client together), which other work on
the machine changes little. Last, the server's memory after the first tenth of ``--requests`` short requests, and after all.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CLIENTS = (1, 16, 64, 256)
ITEMS = (1, 16)

SENTENCE = (
    "please tell me how the old gardener who lives near our river could plan a small quiet garden with herbs and beans for "
    "two children that love soup bread rain and long walks in autumn while the neighbours repair a wooden bridge before the "
    "first snow falls and everybody wants to know which trees give the best shade in a hot summer without much water"
)


def text(number: int) -> str:
    """Sixty words, other ones for every number."""
    words = SENTENCE.split()
    start = number % len(words)
    return " ".join([str(number), *(words[start:] + words)[:59]])


IN_PROCESS = """
import json, resource, sys, time
sys.path.insert(0, sys.argv[1])
from serving import text
from guardreasoner_sdk import Guard
guard = Guard()
guard.check_many([text(number) for number in range(64)])
cpu, began, done = time.process_time(), time.perf_counter(), 0
while time.perf_counter() - began < float(sys.argv[2]):
    guard.check_many([text(done + number) for number in range(256)])
    done += 256
print(json.dumps({"checks": done, "seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}))
"""


def in_process(seconds: float) -> dict[str, float]:
    """``check_many`` for so long."""
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-P", "-c", IN_PROCESS, here, str(seconds)], check=True, capture_output=True, text=True
    )
    return dict(json.loads(done.stdout))


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
def served(workers: int) -> Iterator[tuple[int, int]]:
    """A server; its port and the process to look at."""
    command = [sys.executable, "-P", "-m", "guardreasoner_sdk", "serve", "--port", "0", "--workers", str(workers)]
    # On a busy machine, too, everything is judged: what is given up costs nothing, and would look like speed.
    patient = {f"GUARDREASONER_SERVER_{name}": "3600" for name in ("WAIT", "TIMEOUT")}
    patient["GUARDREASONER_SERVER_MAX_WAITING"] = str(2 * max(CLIENTS) * max(ITEMS))
    variables = {**os.environ, **patient}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=variables) as process:
        assert process.stderr is not None
        port = next(line["port"] for line in map(json.loads, process.stderr) if "port" in line)
        wait_until_ready(port)
        # Nobody reads the log any more: what is logged goes nowhere, and costs what it costs.
        drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
        try:
            yield port, process.pid
        finally:
            process.terminate()
            process.wait()
            drain.wait()


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and of its children, those that live among them."""
    seconds = 0.0
    tick = os.sysconf("SC_CLK_TCK")
    parents: dict[int, int] = {}
    used: dict[int, float] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(folder.name)] = int(fields[1])
            used[int(folder.name)] = (int(fields[11]) + int(fields[12])) / tick
    family = {pid}
    while more := {child for child, parent in parents.items() if parent in family} - family:
        family |= more
    for member in family:
        seconds += used.get(member, 0.0)
    return seconds


def memory_of(pid: int) -> float:
    """What a process holds in memory, in MiB."""
    lines = (Path("/proc") / str(pid) / "status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> bytes:
    """One request; the body of a good answer."""
    head = b"POST /v1/check HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: "
    writer.write(head + str(len(body)).encode() + b"\r\n\r\n" + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    if not answer.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(answer.decode())
    length = int(answer.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
    said = await reader.readexactly(length)
    if b'"undetermined":true' in said:
        raise RuntimeError("not everything was judged")
    return said


async def load(port: int, clients: int, items: int, seconds: float) -> tuple[int, float, list[float]]:
    """Ask from so many clients for so long; the checks done, the time that took, and how long each request took."""
    numbers = iter(range(10**9))
    took: list[float] = []
    began = time.perf_counter()

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.perf_counter() - began < seconds:
            rows = [{"prompt": text(next(numbers))} for _ in range(items)]
            body = json.dumps(rows if items > 1 else rows[0]).encode()
            sent = time.perf_counter()
            await ask(reader, writer, body)
            took.append(time.perf_counter() - sent)
        writer.close()

    await asyncio.gather(*(client() for _ in range(clients)))
    return len(took) * items, time.perf_counter() - began, took


def own_cpu() -> float:
    """CPU seconds of this process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything, in turns with ``check_many``."""
    found: dict[tuple[int, int], list[dict[str, Any]]] = {(clients, items): [] for items in ITEMS for clients in CLIENTS}
    with served(options.workers) as (port, pid):
        asyncio.run(load(port, 4, 4, 3.0))
        for round_ in range(options.rounds):
            for (clients, items), rounds in found.items():
                beside = in_process(options.seconds)
                cpu = cpu_of(pid), own_cpu()
                checks, seconds, took = asyncio.run(load(port, clients, items, options.seconds))
                used = cpu_of(pid) - cpu[0], own_cpu() - cpu[1]
                rate = beside["checks"] / beside["seconds"]
                rounds.append(
                    {
                        "checks_per_second": checks / seconds,
                        "in_process_per_second": rate,
                        "ratio": checks / seconds / rate,
                        "cpu_ratio": beside["cpu"] / beside["checks"] / (sum(used) / checks),
                        "server_cpu_ratio": beside["cpu"] / beside["checks"] / (used[0] / checks),
                        "median_ms": 1000 * statistics.median(took),
                        "p99_ms": 1000 * statistics.quantiles(took, n=100)[98] if len(took) > 1 else 1000 * took[0],
                    }
                )
                print(round_, clients, items, {name: round(value, 3) for name, value in rounds[-1].items()}, flush=True)
        memory = asyncio.run(soak(port, pid, options.requests)) if options.workers == 1 and options.requests else {}
    ways = [
        {"clients": clients, "items": items, **{name: statistics.median(of[name] for of in rounds) for name in rounds[0]}}
        for (clients, items), rounds in found.items()
    ]
    where = {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version(), "load": os.getloadavg()[0]}
    return {"workers": options.workers, "rounds": options.rounds, "seconds": options.seconds, **where, "ways": ways, **memory}


async def soak(port: int, pid: int, requests: int) -> dict[str, Any]:
    """Many short requests, and what the server's memory is after the first of them and after all."""
    left = iter(range(requests))
    seen: dict[str, Any] = {"requests": requests}

    async def client() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in left:
            await ask(reader, writer, json.dumps({"prompt": f"How do I bake bread number {number}?"}).encode())
            if number == requests // 10:
                seen["memory_first_mib"] = memory_of(pid)
        writer.close()

    await asyncio.gather(*(client() for _ in range(32)))
    return {**seen, "memory_last_mib": memory_of(pid)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10, help="for each way (default: 10)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, of which medians are given (default: 3)")
    parser.add_argument("--workers", type=int, default=1, help="of the server (default: 1)")
    parser.add_argument("--requests", type=int, default=50_000, help="for memory (default: 50000; 0: none)")
    parser.add_argument("--output", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    found = measure(options)
    if options.output is not None:
        options.output.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()

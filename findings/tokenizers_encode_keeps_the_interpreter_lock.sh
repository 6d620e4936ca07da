#!/usr/bin/env bash
# Expected: a tokenizer in Rust lets other threads run while it works; where it does not, no method of it does.
# Happens: Tokenizer.encode(text) holds the interpreter lock for the whole call, so that one long text stalls every other thread of the
#   process, event loops among them, for as long as it takes. encode_batch_fast([text]), with the same ids, lets it go.
# Versions: tokenizers 0.23.3, Python 3.11. Exits 1 if that changes. Compares shares of a call's own time, and no seconds.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet 'tokenizers==0.23.3' >&2
cd "$folder"
TOKENIZERS_PARALLELISM=false "$folder/venv/bin/python" - <<'PYTHON'
import threading
import time

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

vocabulary = {"[UNK]": 0} | {chr(0x4E00 + number): number + 1 for number in range(2000)}
tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
tokenizer.normalizer = normalizers.BertNormalizer()
tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
text = "".join(chr(0x4E00 + number % 2000) for number in range(300_000))
assert tokenizer.encode(text).ids == tokenizer.encode_batch_fast([text])[0].ids


def stalled(call):
    """The longest time in which another thread could not run, as a share of the call's."""
    gaps, running = [0.0], threading.Event()
    running.set()

    def tick():
        last = time.perf_counter()
        while running.is_set():
            time.sleep(0.0005)
            now = time.perf_counter()
            gaps.append(now - last)
            last = now

    thread = threading.Thread(target=tick)
    thread.start()
    time.sleep(0.05)
    gaps[:] = [0.0]
    began = time.perf_counter()
    call()
    took = time.perf_counter() - began
    running.clear()
    thread.join()
    return max(gaps) / took


encode = min(stalled(lambda: tokenizer.encode(text)) for _ in range(5))
batch = min(stalled(lambda: tokenizer.encode_batch_fast([text])) for _ in range(5))
print(f"encode: another thread waits for {100 * encode:.0f} % of the call at least; encode_batch_fast: for {100 * batch:.0f} %")
assert encode > 0.8
assert batch < 0.4
PYTHON

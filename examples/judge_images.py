"""Judge a prompt with an image: with a guard that sees where a server runs one, and else say that nobody has seen it."""

import os

from guardreasoner_sdk import Guard, Image

# pathlib.Path("photo.png") for a file of yours; bytes and images of Pillow's will do, too.
PHOTO = Image.of("data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAkQBADs=")

SERVER = os.environ.get("VISION_SERVER")  # such as http://localhost:8000/v1, where vLLM serves Llama Guard 4

with Guard("llama-guard-4-12b", base_url=SERVER, timeout=30) if SERVER else Guard() as guard:
    verdict = guard.check("What is in this picture?", images=[PHOTO])
    print(f"{PHOTO.format}, {PHOTO.width} x {PHOTO.height}: {verdict.action}", *verdict.reasons, sep="\n  ")

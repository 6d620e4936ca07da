"""``python -m guardreasoner_sdk``: the command line without its script on the path."""

import sys

from guardreasoner_sdk.cli import main

if __name__ == "__main__":
    sys.exit(main())

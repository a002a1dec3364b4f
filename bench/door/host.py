"""`python -m bench.door.host [ENGINE_URL]`: a front door alone in its process.

It prints its port, and ends when its standard input does. Without an engine every request waits.
"""

from __future__ import annotations

import socket
import sys

from nexus_orch.door.front_door import Address, FrontDoor
from nexus_orch.door.rules import HouseRules

SLOTS, MAX_MODEL_LEN = 512, 32_768


def main(words: list[str]) -> None:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        port = int(trial.getsockname()[1])
    door = FrontDoor(Address("127.0.0.1", port), HouseRules())
    door.open()
    for url in words:
        door.ready(url, SLOTS, MAX_MODEL_LEN)
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    sys.stdin.read()
    door.close("the benchmark is over")


if __name__ == "__main__":
    main(sys.argv[1:])

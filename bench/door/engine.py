"""`python -m bench.door.engine`: a lean server of streams in vLLM's form, so that the door is what is measured.

It prints its port, and ends when its standard input does. A request says its pace: `tokens_per_second`, 0 for all.
"""

from __future__ import annotations

import asyncio
import json
import sys

from aiohttp import web

EVENT = json.dumps(
    {
        "id": "cmpl-0123456789abcdef",
        "object": "text_completion",
        "created": 1760000000,
        "model": "bench",
        "choices": [{"index": 0, "text": " word", "logprobs": None, "finish_reason": None, "stop_reason": None}],
        "usage": None,
    }
)
END = b"data: [DONE]\n\n"
DATA = f"data: {EVENT}\n\n".encode()


async def answer(request: web.Request) -> web.StreamResponse:
    asked = await request.json()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
    await response.prepare(request)
    loop = asyncio.get_running_loop()
    pause = 1 / asked["tokens_per_second"] if asked["tokens_per_second"] else 0.0
    due = loop.time()
    for _ in range(asked["max_tokens"]):
        await response.write(DATA)
        due += pause
        if pause:
            await asyncio.sleep(due - loop.time())
    await response.write(END)
    await response.write_eof()
    return response


async def main() -> None:
    app = web.Application()
    app.router.add_post("/v1/completions", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    sys.stdout.write(f"{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())

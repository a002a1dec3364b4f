"""The routes of a fake engine: those of vLLM's OpenAI-compatible server that a supervisor uses."""

from __future__ import annotations

import json
import math
import socket
import socketserver
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from nexus_orch.testing.engine import FakeEngine
from nexus_orch.testing.options import Options
from nexus_orch.testing.output import print_text
from nexus_orch.testing.world import JIT_LINE, FakeWorld

ANSWER = " Paris. It is the largest city of the country and lies on the river Seine."

DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."

FIRST_ID = 1000
"""The id of an answer's first token; the ids of prompts lie below."""

NO_TEMPLATE = (
    "As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat template if the "
    "tokenizer does not define one."
)

MEASURE_PATH = "/fake/measure/"
"""Where `bench serve` asks what the engine's world says of so many requests at once."""


@dataclass
class ServerState:
    """What the routes and the main thread share."""

    engine: FakeEngine
    options: Options
    api_key: str | None = None
    world: FakeWorld | None = None
    ready: bool = False
    ready_since: float | None = None
    """A reading of the monotonic clock."""
    fails_at_request: bool = False
    requests: int = 0
    running: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    asked: threading.Event = field(default_factory=threading.Event)
    """Set by the first request for text, which some failures wait for."""
    poisoned: threading.Event = field(default_factory=threading.Event)
    """Set by the request that the engine dies of."""
    died: threading.Event = field(default_factory=threading.Event)
    """Set when the engine behind the server is dead."""

    def is_short(self) -> bool:
        """Whether its metrics tell of too little KV cache now."""
        if self.engine.enough_gib is not None and self.options.kv_cache_gib >= self.engine.enough_gib:
            return False
        return self.engine.short_seconds is None or self._seconds_up() < self.engine.short_seconds

    def count_preemptions(self) -> int:
        """Since the start."""
        if not self.is_short():
            return 0
        return int(self._seconds_up() * self.engine.preemptions_per_second)

    def _seconds_up(self) -> float:
        return 0.0 if self.ready_since is None else time.monotonic() - self.ready_since

    def looks_healthy(self) -> bool:
        """What `/health` says."""
        if self.engine.health == "always":
            return self.ready
        return not self.died.is_set() and (self.ready or self.engine.health == "early")


class Listener(ThreadingHTTPServer):
    """Binds early, as vLLM does, and listens when the engine is ready."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 1024  # the kernel resets connections beyond it: 5 is too few for clients that come at once

    def __init__(self, state: ServerState) -> None:
        self.state = state
        self.address_family = socket.AF_INET6 if ":" in state.options.host else socket.AF_INET
        super().__init__((state.options.host, state.options.port), Handler, bind_and_activate=False)

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # without HTTPServer's look-up of the host's name, which may be slow


class Handler(BaseHTTPRequestHandler):
    """One connection. `Connection: close` after each answer keeps it simple."""

    server: Listener

    def do_GET(self) -> None:
        state = self.server.state
        if self.path == "/health":
            self._send(200 if state.looks_healthy() else 503, b"", "text/plain")
        elif self.path == "/metrics":
            self._send(200, render_metrics(state).encode(), "text/plain; version=0.0.4")
        elif self.path.startswith(MEASURE_PATH) and state.world is not None:
            told = state.world.measure(int(self.path.removeprefix(MEASURE_PATH)))
            if told.get("jit"):
                print_text(JIT_LINE)
            self._send_json(200, dict(told))
        elif not self._may_pass():
            return
        elif self.path == "/v1/models":
            entry = {"id": state.options.served_name, "object": "model", "max_model_len": state.options.max_model_len}
            self._send_json(200, {"object": "list", "data": [entry]})
        else:
            self._fail(404, "Not Found")

    def do_POST(self) -> None:
        state = self.server.state
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if not self._may_pass():
            return
        if self.path not in ("/v1/completions", "/v1/chat/completions"):
            self._fail(404, "Not Found")
            return
        with state.lock:
            state.requests += 1
            state.running += 1
        state.asked.set()
        try:
            self._complete(json.loads(body), is_chat=self.path.endswith("chat/completions"))
        finally:
            with state.lock:
                state.running -= 1

    def log_message(self, format: str, *args: Any) -> None:
        print_text(f"INFO:     {self.client_address[0]}:{self.client_address[1]} - {format % args}\n")

    def _may_pass(self) -> bool:
        key = self.server.state.api_key
        if key is None or self.headers.get("Authorization") == f"Bearer {key}":
            return True
        self._send_json(401, {"error": "Unauthorized"})
        return False

    def _complete(self, request: dict[str, Any], *, is_chat: bool) -> None:
        state = self.server.state
        if request.get("model") not in (state.options.served_name, None):
            self._fail(404, f"The model `{request['model']}` does not exist.")
        elif is_chat and not state.engine.chat_template:
            self._fail(400, NO_TEMPLATE)
        elif state.engine.completions == "hang" or state.requests > (state.engine.hangs_after_requests or math.inf):
            threading.Event().wait()
        elif self._is_broken(request):
            self._fail(500, DEAD)
        else:
            self._answer(request, is_chat=is_chat)

    def _is_broken(self, request: dict[str, Any]) -> bool:
        """True for an engine that is dead, lies, or is about to fail at this request (then its end is awaited)."""
        state = self.server.state
        if state.engine.dies_of is not None and state.engine.dies_of in _prompt_of(request):
            state.poisoned.set()
        if not self._bears(request):
            return True
        if state.fails_at_request or state.poisoned.is_set():
            state.died.wait()
        return state.died.is_set() or not state.ready or state.engine.completions == "error"

    def _bears(self, request: dict[str, Any]) -> bool:
        """Whether the world of the engine, if it has one, answers a prompt of token ids."""
        state, prompt = self.server.state, request.get("prompt")
        if state.world is None or not isinstance(prompt, list):
            return True
        with state.lock:
            answers = state.world.answers(len(prompt) + int(request.get("max_tokens") or 0))
        if answers is None:
            state.poisoned.set()
        return answers is not False

    def _answer(self, request: dict[str, Any], *, is_chat: bool) -> None:
        state = self.server.state
        known = _known_of(request)
        start = sum(token >= FIRST_ID for token in known)
        asked = start + int(request.get("max_tokens") or 16)
        tokens = make_tokens(asked, endless=bool(request.get("ignore_eos")))[start:]
        if state.engine.completions == "empty":
            tokens = []
        elif state.engine.completions == "wordless":
            tokens = [""] * len(tokens)
        usage = {"prompt_tokens": len(known), "completion_tokens": len(tokens)}
        usage["total_tokens"] = sum(usage.values())
        time.sleep(state.engine.completion_seconds)
        with state.lock:
            state.prompt_tokens += usage["prompt_tokens"]
            state.output_tokens += usage["completion_tokens"]
        if request.get("stream"):
            known = known if request.get("return_token_ids") else []
            self._stream(tokens, usage if request.get("stream_options") else None, known, is_chat=is_chat)
        else:
            self._pace(len(tokens))
            text = "".join(tokens)
            choice = {"message": {"role": "assistant", "content": text}} if is_chat else {"text": text}
            self._send_json(200, {"choices": [{"index": 0, **choice, "finish_reason": "length"}], "usage": usage})

    def _stream(self, tokens: list[str], usage: dict[str, int] | None, known: list[int], *, is_chat: bool) -> None:
        """Send the tokens one by one; with their ids, counted from `FIRST_ID` on, when ids of the prompt are given."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        head: dict[str, Any] = {"id": f"cmpl-{time.monotonic_ns()}", "model": self.server.state.options.served_name}
        start = sum(token >= FIRST_ID for token in known)
        for number, token in enumerate(tokens):
            self._pace(1)
            if self.server.state.died.is_set():  # as vLLM does: the error, and the mark of a regular end all the same
                self._send_event(json.dumps({"error": {"message": DEAD, "type": "InternalServerError", "code": 500}}))
                self._send_event("[DONE]")
                return
            piece: dict[str, Any] = {"delta": {"content": token}} if is_chat else {"text": token}
            if known:
                piece["token_ids"] = [FIRST_ID + start + number]
            if known and not number:
                (head if is_chat else piece)["prompt_token_ids"] = known
            if number == len(tokens) - 1:
                piece["finish_reason"] = "length"
            self._send_event(json.dumps({**head, "choices": [{"index": 0, **piece}]}))
            head.pop("prompt_token_ids", None)
        if usage is not None:
            self._send_event(json.dumps({**head, "choices": [], "usage": usage}))
        self._send_event("[DONE]")

    def _pace(self, tokens: int) -> None:
        rate = self.server.state.engine.tokens_per_second
        if rate is not None:
            time.sleep(tokens / rate)

    def _send_event(self, data: str) -> None:
        self.wfile.write(f"data: {data}\n\n".encode())
        self.wfile.flush()

    def _fail(self, status: int, message: str) -> None:
        self._send_json(status, {"error": {"message": message, "type": "BadRequestError", "code": status}})

    def _send_json(self, status: int, content: dict[str, Any]) -> None:
        self._send(status, json.dumps(content).encode(), "application/json")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _prompt_of(request: dict[str, Any]) -> str:
    return str(request.get("prompt") or request.get("messages"))


def _known_of(request: dict[str, Any]) -> list[int]:
    """The ids of the prompt: those that were given, else one for each word."""
    prompt = request.get("prompt")
    if isinstance(prompt, list) and all(isinstance(token, int) for token in prompt):
        return prompt
    return list(range(1, 1 + len(_prompt_of(request).split())))


def make_tokens(count: int, *, endless: bool) -> list[str]:
    """The answer in at most so many tokens (words); an endless one has exactly so many."""
    words = [f" {word}" for word in ANSWER.split()]
    while endless and len(words) < count:
        words *= 2
    return words[:count]


def render_metrics(state: ServerState) -> str:
    """The metrics of vLLM's V1 engine that a supervisor reads (v1/metrics/loggers.py), in Prometheus' text format.

    Without log stats only those of the web server are left (v1/engine/async_llm.py)."""
    if "--disable-log-stats" in state.options.values:
        return f"# TYPE http_requests_total counter\nhttp_requests_total {state.requests}.0\n"
    labels = f'{{engine="0",model_name="{state.options.served_name}"}}'
    engine, is_short = state.engine, state.is_short()
    usage = engine.kv_cache_usage if is_short and engine.kv_cache_usage is not None else 0.01 * state.running
    with state.lock:
        values = {
            "num_requests_running": ("gauge", state.running + engine.busy * is_short),
            "num_requests_waiting": ("gauge", engine.waiting * is_short),
            "kv_cache_usage_perc": ("gauge", usage),
            "prefix_cache_queries_total": ("counter", state.prompt_tokens),
            "prefix_cache_hits_total": ("counter", state.prompt_tokens // 2),
            "num_preemptions_total": ("counter", state.count_preemptions()),
            "prompt_tokens_total": ("counter", state.prompt_tokens),
            "generation_tokens_total": ("counter", state.output_tokens),
        }
    return "".join(
        f"# TYPE vllm:{name} {kind}\nvllm:{name}{labels} {float(value)}\n" for name, (kind, value) in values.items()
    )

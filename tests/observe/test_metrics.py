"""The server's metrics by our own names: what real servers tell, old names, rates, and servers that tell nothing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from nexus_orch.observe.metrics import MetricsReader, MetricsReading, make_metric, parse_metrics
from nexus_orch.types import Metric, MetricsUnread

METRICS = Path(__file__).parent.parent / "data" / "metrics"

V0 = """\
# HELP vllm:num_requests_running Number of requests currently running on GPU.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="m"} 3.0
vllm:num_requests_swapped{model_name="m"} 7.0
vllm:num_requests_waiting{model_name="m"} 2.0
vllm:gpu_cache_usage_perc{model_name="m"} 0.25
vllm:cpu_cache_usage_perc{model_name="m"} 0.75
vllm:cpu_prefix_cache_hit_rate{model_name="m"} 0.9
vllm:gpu_prefix_cache_hit_rate{model_name="m"} 0.5
vllm:num_preemptions_total{model_name="m"} 4.0
vllm:prompt_tokens_total{model_name="m"} 1200.0
vllm:generation_tokens_total{model_name="m"} 300.0
vllm:avg_generation_throughput_toks_per_s{model_name="m"} 99.0
"""

BOTH_NAMES = """\
vllm:gpu_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:gpu_prefix_cache_queries_total{engine="0",model_name="m"} 100.0
vllm:gpu_prefix_cache_hits_total{engine="0",model_name="m"} 25.0
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 100.0
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 25.0
"""


@dataclass(frozen=True)
class Address:
    url: str
    api_key: str | None = None


def real(name: str) -> str:
    return (METRICS / f"vllm-{name}.txt").read_text(encoding="utf-8")


def test_a_real_server_before_and_after_three_requests() -> None:
    idle, after = parse_metrics(real("0.32.0-idle")), parse_metrics(real("0.32.0-after-three-requests"))
    assert idle == {
        "running": 0,
        "waiting": 0,
        "kv_cache_usage": 0,
        "prefix_queries": 0,
        "prefix_hits": 0,
        "preemptions": 0,
        "prompt_tokens": 0,
        "generation_tokens": 0,
    }
    assert after["prompt_tokens"] == 30
    assert after["generation_tokens"] == 96
    assert after["prefix_hit_rate"] == 0


def test_the_names_of_v0() -> None:
    assert parse_metrics(V0) == {
        "running": 3,
        "waiting": 2,
        "kv_cache_usage": 0.25,
        "prefix_hit_rate": 0.5,
        "preemptions": 4,
        "prompt_tokens": 1200,
        "generation_tokens": 300,
    }


def test_releases_that_tell_everything_under_two_names() -> None:
    """0.9 to 0.11 told the old and the new name of the same thing."""
    values = parse_metrics(BOTH_NAMES)
    assert (values["kv_cache_usage"], values["prefix_hit_rate"]) == (0.25, 0.25)


def test_counters_without_the_suffix() -> None:
    assert parse_metrics('vllm:generation_tokens{engine="0"} 5.0') == {"generation_tokens": 5}


def test_several_engines_are_summed_and_the_fullest_cache_counts() -> None:
    text = "\n".join(
        f'vllm:{name}{{engine="{engine}",model_name="a {{b}}"}} {value}'
        for name, values in (("num_requests_running", (1, 2)), ("kv_cache_usage_perc", (0.2, 0.9)))
        for engine, value in enumerate(values)
    )
    assert parse_metrics(text) == {"running": 3, "kv_cache_usage": 0.9}


labels = st.dictionaries(st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]*", fullmatch=True), st.text(), max_size=3)
values = st.floats(0, 1e12, allow_nan=False)


@given(labels, values, st.sampled_from(["num_requests_running", "kv_cache_usage_perc"]))
def test_what_the_client_library_writes_is_read(named: dict[str, str], value: float, name: str) -> None:
    """vLLM writes its metrics with this library; a model's name may hold anything."""
    registry = CollectorRegistry()
    names = [f"l_{label}" for label in named]  # a few names are the library's own
    gauge = Gauge(f"vllm:{name}", "help", names, registry=registry)
    (gauge.labels(*named.values()) if names else gauge).set(value)
    (read,) = parse_metrics(generate_latest(registry).decode()).values()
    assert read == value


@given(
    st.lists(st.tuples(st.text(alphabet='a }{"\\\n=,#', max_size=6), values), max_size=3, unique_by=lambda one: one[0]),
    st.sampled_from(["", " ", "\t"]),
    st.sampled_from(["", " 1700000000000", ","]),
)
def test_any_legal_spelling_is_read_as_the_library_reads_it(
    samples: list[tuple[str, float]], blank: str, ending: str
) -> None:
    lines = ["# TYPE vllm:prompt_tokens counter"]
    for label, value in samples:
        escaped = label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
        inside = f'{blank}model_name="{escaped}"{"," if ending == "," else ""}{blank}'
        lines.append(f"vllm:prompt_tokens{blank}{{{inside}}} {value}{ending.removeprefix(',')}")
    text = "\n".join(lines) + "\n"
    theirs = [sample.value for family in text_string_to_metric_families(text) for sample in family.samples]
    assert parse_metrics(text) == ({"prompt_tokens": sum(theirs)} if theirs else {})


@pytest.mark.parametrize("value", ["NaN", "+Inf", "nothing", ""])
def test_a_value_that_is_no_number_is_left_out(value: str) -> None:
    assert parse_metrics(f"vllm:num_requests_running {value}\n") == {}


def test_names_that_only_begin_alike_are_others() -> None:
    text = 'vllm:num_requests_waiting_by_reason{reason="x"} 3\nvllm:prompt_tokens_by_source_total 4\n'
    assert parse_metrics(text) == {}


@given(st.text() | st.builds("vllm:num_requests_running{} {}".format, st.text(), st.text()))
def test_any_text_is_parsed(text: str) -> None:
    assert all(isinstance(value, float) for value in parse_metrics(text).values())


def test_rates_are_told_between_two_readings() -> None:
    before = MetricsReading(10.0, {"generation_tokens": 100, "prompt_tokens": 50, "running": 1})
    now = MetricsReading(12.0, {"generation_tokens": 180, "prompt_tokens": 50, "running": 2, "preemptions": 1})
    assert make_metric(before, now, attempt=3).values == {
        "running": 2,
        "preemptions": 1,
        "generation_tokens_per_second": 40,
        "prompt_tokens_per_second": 0,
    }


def test_a_first_reading_has_no_rates() -> None:
    assert make_metric(None, MetricsReading(10.0, {"generation_tokens": 100, "running": 1}), 1).values == {"running": 1}


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_a_clock_that_stands_or_goes_back_gives_no_rates(seconds: float) -> None:
    values = {"generation_tokens": 100.0}
    assert make_metric(MetricsReading(10.0, values), MetricsReading(10.0 + seconds, values), 1).values == {}


def test_a_server_that_was_started_anew_gives_no_negative_rate() -> None:
    before, now = MetricsReading(10.0, {"generation_tokens": 100.0}), MetricsReading(11.0, {"generation_tokens": 3.0})
    assert make_metric(before, now, 1).values == {}


Answer = Callable[[BaseHTTPRequestHandler], tuple[int, str]]


@contextmanager
def serving(answer: Answer) -> Iterator[str]:
    """A real server whose GET is `answer`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, body = answer(self)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_reader_asks_with_the_key_and_tells_rates() -> None:
    tokens = iter([100, 160])
    seen: list[str | None] = []

    def answer(request: BaseHTTPRequestHandler) -> tuple[int, str]:
        seen.append(request.headers["Authorization"])
        return 200, f"vllm:generation_tokens_total {next(tokens)}\nvllm:num_requests_running 1\n"

    with serving(answer) as url, MetricsReader(Address(url, "secret"), attempt=2) as reader:
        first, second = reader.read(10.0), reader.read(12.0)
    assert seen == ["Bearer secret", "Bearer secret"]
    assert isinstance(first, Metric) and isinstance(second, Metric)
    assert first.values == {"running": 1}
    assert (second.time, second.attempt) == (12.0, 2)
    assert second.values == {"running": 1, "generation_tokens_per_second": 30}


def test_a_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with serving(lambda _: (200, V0)) as url, MetricsReader(Address(url), attempt=1) as reader:
        assert isinstance(reader.read(1.0), Metric)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (401, V0, "/metrics answers with the HTTP status 401"),
        (404, "Not Found", "/metrics answers with the HTTP status 404"),
        (200, "<html>hello</html>", "/metrics holds no sample that is known"),
        (200, "", "/metrics holds no sample that is known"),
    ],
)
def test_a_server_without_metrics_is_told_with_the_reason(status: int, body: str, reason: str) -> None:
    with serving(lambda _: (status, body)) as url, MetricsReader(Address(url), attempt=3) as reader:
        read = reader.read(1.0)
    assert isinstance(read, MetricsUnread)
    assert (read.time, read.attempt) == (1.0, 3)
    assert read.reason.startswith(reason)


def test_where_nothing_listens_that_is_told(free_port: int) -> None:
    with MetricsReader(Address(f"http://127.0.0.1:{free_port}"), attempt=1) as reader:
        assert reader.read(1.0) == MetricsUnread(1.0, 1, "/metrics does not answer (ConnectError)")

"""A written history: a start with a warning that is repeated, dropped output, an answer, serving, the end."""

from __future__ import annotations

from nexus_orch.types import (
    MIB,
    Command,
    Degraded,
    Exited,
    Failed,
    LogLine,
    Metric,
    Observation,
    Probed,
    Ready,
    Stage,
    Started,
    Starting,
    Stopped,
    Verdict,
)
from nexus_orch.view.run_view import RunView
from tests.record.examples import START, make_gpu, make_host, make_plan

PREFIX = "(Worker_TP0 pid=4101) {} 11-23 14:00:05 [{}] "
FAILED = Failed("weights_oom", ("torch.OutOfMemoryError: CUDA out of memory.",), "offload more of the weights")
QUESTION = "What is the capital of France?"
ANSWER = Probed(
    START + 62, 2, "question", True, "Paris is the capital.\nIt lies on the Seine.", {"tokens_per_second": 4.2}
)
METRICS = {
    "running": 3.0,
    "waiting": 1.0,
    "kv_cache_usage": 0.42,
    "prefix_hit_rate": 0.61,
    "prompt_tokens_per_second": 1204.0,
    "generation_tokens_per_second": 87.4,
    "preemptions": 2.0,
}


def _line(second: float, level: str, place: str, text: str, *, attempt: int = 2, dropped: int = 0) -> LogLine:
    return LogLine(START + second, attempt, PREFIX.format(level, place) + text, dropped)


FIRST_ATTEMPT: tuple[Observation | Verdict, ...] = (
    Started(START, 1, 4050, ("vllm",)),
    Starting(Stage.STARTING),
    _line(2, "WARNING", "cpu.py:224", "Triton is not installed.", attempt=1),
    Starting(Stage.LOADING),
    _line(8, "ERROR", "core.py:900", "EngineCore failed to start.", attempt=1),
    FAILED,
    Exited(START + 9, 1, 1),
)
SECOND_ATTEMPT: tuple[Observation | Verdict, ...] = (
    Started(START + 12, 2, 4100, ("vllm",)),
    Starting(Stage.STARTING),
    _line(14, "INFO", "model.py:1", "Resolved architecture: Qwen2ForCausalLM"),
    Starting(Stage.LOADING, 0.0, "checkpoint shards 0/17"),
    _line(20, "WARNING", "utils.py:333", "Attempted to load weight a"),
    Starting(Stage.LOADING, 0.1, "checkpoint shards 2/17"),
    _line(22, "WARNING", "utils.py:333", "Attempted to load weight b"),
    Starting(Stage.LOADING, 0.2, "checkpoint shards 4/17"),
    _line(36, "INFO", "utils.py:1", "still loading", dropped=3 * MIB),
    Starting(Stage.LOADING, 0.8, "checkpoint shards 14/17"),
    _line(45, "INFO", "utils.py:1", "profiling"),
    Starting(Stage.PROFILING),
    _line(58, "INFO", "utils.py:1", "warm"),
    Starting(Stage.WARMING),
    make_gpu(START + 60, 0, 21.0),
    make_gpu(START + 60, 1, 20.5),
    make_host(START + 60, 40.0),
    Ready({"kv_cache_tokens": 23552.0}),
    Ready({"kv_cache_tokens": 23552.0}),
)
SERVING: tuple[Observation | Verdict, ...] = (
    Metric(START + 65, 2, METRICS),
    Metric(START + 80, 2, METRICS),
    Metric(START + 95, 2, METRICS),
    Metric(START + 110, 2, METRICS),
    Degraded("half of the prefix cache is lost"),
    Degraded("half of the prefix cache is lost"),
    Metric(START + 4000, 2, METRICS),
)
END: tuple[Observation | Verdict, ...] = (Stopped("interrupted with Ctrl-C"), Exited(START + 4005, 2, 0))


def replay(view: RunView, history: tuple[Observation | Verdict, ...]) -> None:
    """Tell a view what happened."""
    for item in history:
        if isinstance(item, Starting | Ready | Degraded | Stopped | Failed):
            view.verdict(item)
        else:
            view.observe(item)


def replay_to_ready(view: RunView) -> None:
    """Two attempts, the second one serves and answers."""
    command = Command(("vllm", "serve"), {"HF_TOKEN": "hf_do_not_tell"}, secrets=frozenset({"HF_TOKEN"}))
    view.plan(make_plan(), command, run_id="20261123-140000-qwen32b-hybrid", url="http://127.0.0.1:8000")
    replay(view, FIRST_ATTEMPT)
    view.message("attempt 2: offload more of the weights")
    view.plan(make_plan(16.0), command, run_id="20261123-140000-qwen32b-hybrid", url="http://127.0.0.1:8000")
    replay(view, SECOND_ATTEMPT)
    view.observe(ANSWER)
    view.answer(QUESTION, ANSWER)


def replay_all(view: RunView) -> None:
    """A whole run."""
    replay_to_ready(view)
    replay(view, (*SERVING, *END))
    view.close()

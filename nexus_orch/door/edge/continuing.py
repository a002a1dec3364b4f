"""A stream that goes on after the engine has died under it: from the ids of its tokens, as a completion of them.

vLLM tells the ids on request (`return_token_ids`) and takes a prompt of ids. So the prompt of the next life is the
first prompt and all tokens that the client has; what comes back is said as a part of the stream that the client reads:
its id, its form (completion or chat), its usage.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nexus_orch.door.edge.sse import read_data

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
DEFAULT_MAX_TOKENS = 16
"""Of a completion that says nothing (0.32.0, openai/completion/protocol.py)."""

_TOLD = frozenset(
    {"model", "stream", "stream_options", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "seed"}
    | {"ignore_eos", "stop_token_ids", "skip_special_tokens", "spaces_between_special_tokens", "logit_bias", "user"}
    | {"bad_words", "allowed_token_ids", "priority", "cache_salt"}
)
"""What the next life is told of the request as it stands."""
_MINDED = frozenset(
    {"prompt", "messages", "max_tokens", "max_completion_tokens", "min_tokens", "n", "return_token_ids", "metadata"}
    | {"add_special_tokens", "add_generation_prompt", "chat_template", "chat_template_kwargs"}
)
"""What it is told in another form, or what the ids of the prompt hold already."""
_NEUTRAL: tuple[object, ...] = (None, False, 0, [], {}, "", "none")
"""Of all else: tools, structured output, log probabilities, stop strings (texts are held back for them), penalties that
count the answer alone, and whatever is not known here would be changed or lost. It must be as if it was not said."""


class CannotContinueError(Exception):
    """The stream is not one that can go on."""


def can_continue(path: str, content: Mapping[str, Any]) -> bool:
    """Whether a stream of this request can go on after a death, as far as the request tells."""
    if path not in (COMPLETIONS, CHAT) or content.get("stream") is not True or content.get("n") not in (None, 1):
        return False
    if any(value not in _NEUTRAL for name, value in content.items() if name not in _TOLD | _MINDED):
        return False
    return _has_one_prompt(content) if path == COMPLETIONS else _is_text_only(content.get("messages"))


def _has_one_prompt(content: Mapping[str, Any]) -> bool:
    prompt = content.get("prompt")
    is_ids = isinstance(prompt, list) and bool(prompt) and all(type(token) is int for token in prompt)
    return isinstance(prompt, str) or is_ids


def _is_text_only(messages: object) -> bool:
    if not isinstance(messages, list):
        return False
    contents = [message.get("content") for message in messages if isinstance(message, dict)]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return all(isinstance(part, dict) and part.get("type") == "text" for part in parts)


class Continuation:
    """What the client has of one stream, and how the rest is asked for and told."""

    def __init__(self, path: str, content: Mapping[str, Any]) -> None:
        self.max_model_len = 0
        """Of the engine that is asked next, in tokens."""
        self._is_chat = path == CHAT
        self._content = content
        self._shows_ids = content.get("return_token_ids") is True
        self._prompt: list[int] | None = None
        self._tokens: list[int] = []
        self._textless = 0
        """Tokens at the end whose text has not come: half a character."""
        self._carried = 0
        """Tokens of earlier lives."""
        self._is_later = False
        """What comes now is not the first life's."""
        self._head: dict[str, Any] = {}
        self._finish: object = None
        self._has_usage = False
        self._why_not = ""

    def make_request(self) -> tuple[str, bytes]:
        """Path and body of the next life. Raises CannotContinueError."""
        if not self._head:
            path = CHAT if self._is_chat else COMPLETIONS
            return path, _encode({**self._content, "return_token_ids": True})
        if self._why_not or self._prompt is None:
            raise CannotContinueError(self._why_not or "the engine did not tell the ids of the prompt")
        if self._textless and not self._shows_ids:
            del self._tokens[-self._textless :]  # the client has nothing of them: they are generated again
        self._textless, self._carried, self._is_later = 0, len(self._tokens), True
        told = {name: value for name, value in self._content.items() if name in _TOLD}
        told |= {"prompt": [*self._prompt, *self._tokens], "max_tokens": self.tokens_left, "return_token_ids": True}
        least = self._content.get("min_tokens")
        if isinstance(least, int):
            told["min_tokens"] = max(0, least - self._carried)
        return COMPLETIONS, _encode(told)

    @property
    def tokens_left(self) -> int:
        """How many tokens the answer may still have."""
        room = self.max_model_len - len(self._prompt or ())
        asked = self._content.get("max_completion_tokens") or self._content.get("max_tokens")
        if asked is None and not self._is_chat and "max_tokens" not in self._content:
            asked = DEFAULT_MAX_TOKENS
        return (min(asked, room) if isinstance(asked, int) else room) - len(self._tokens)

    @property
    def is_whole(self) -> bool:
        """Whether the client has all tokens, so that only the end of the stream is missing."""
        return self._finish is not None or (self._prompt is not None and bool(self._tokens) and self.tokens_left <= 0)

    def make_end(self) -> bytes:
        """The end of a stream of which the client has all tokens."""
        events = []
        if self._finish is None:
            events.append({**self._head, "choices": [self._make_choice("", {"finish_reason": "length"})]})
        options = self._content.get("stream_options")
        if isinstance(options, dict) and options.get("include_usage") and not self._has_usage:
            events.append({**self._head, "choices": [], "usage": self._count(0)})
        return b"".join(b"data: " + _encode(event) + b"\n\n" for event in events) + b"data: [DONE]\n\n"

    def take(self, event: bytes) -> bytes:
        """One event of the engine, noted; as the client is to have it. Empty when it has it already."""
        data = read_data(event)
        if not isinstance(data, dict):
            return event
        choices = data.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else None
        if self._is_later:
            data = self._as_before(data, choice)
        else:
            self._note_head(data, choice)
        if choice is not None:
            self._note(choice)
        if isinstance(data.get("usage"), dict):
            self._has_usage = choice is None
        if not self._shows_ids:
            self._hide_ids(data)
        return b"data: " + _encode(data) + b"\n\n"

    def _note_head(self, data: Mapping[str, Any], choice: Mapping[str, Any] | None) -> None:
        """Of the first life: what all events of the stream have in common, and the ids of the prompt."""
        self._head = self._head or {key: data[key] for key in ("id", "object", "created", "model") if key in data}
        prompt = data.get("prompt_token_ids") or (choice or {}).get("prompt_token_ids")
        if self._prompt is None and isinstance(prompt, list):
            self._prompt = [token for token in prompt if isinstance(token, int)]

    def _note(self, choice: Mapping[str, Any]) -> None:
        ids = choice.get("token_ids")
        delta = choice.get("delta")
        delta = delta if isinstance(delta, dict) else {}
        text = choice.get("text") or delta.get("content")
        thinks = delta.get("reasoning_content") or delta.get("reasoning")
        if thinks or delta.get("tool_calls"):
            self._why_not = "the stream was in the middle of reasoning or of a tool call"
        elif text:
            self._why_not = ""
        if isinstance(ids, list):
            self._tokens += ids
            self._textless = 0 if text else self._textless + len(ids)
        elif text:
            self._why_not = "the engine did not tell the ids of the tokens"
        self._finish = choice.get("finish_reason") or self._finish

    def _as_before(self, data: dict[str, Any], choice: dict[str, Any] | None) -> dict[str, Any]:
        """An event of a later life, in the form of the first."""
        told = {**data, **self._head}
        if choice is not None:
            choice.pop("prompt_token_ids", None)
            told["choices"] = [self._make_choice(choice.get("text") or "", choice)]
        usage = data.get("usage")
        if isinstance(usage, dict):
            told["usage"] = {**usage, **self._count(int(usage.get("completion_tokens") or 0))}
        return told

    def _make_choice(self, text: str, choice: Mapping[str, Any]) -> dict[str, Any]:
        rest = {key: choice[key] for key in ("finish_reason", "stop_reason", "token_ids") if key in choice}
        said: dict[str, Any] = {"delta": {"content": text}} if self._is_chat else {"text": text}
        return {"index": 0, **said, "logprobs": None, **rest}

    def _count(self, now: int) -> dict[str, int]:
        """The usage of all lives, of which this one has had so many tokens; without any all that are known."""
        prompt, answer = len(self._prompt or ()), self._carried + now if now else len(self._tokens)
        return {"prompt_tokens": prompt, "completion_tokens": answer, "total_tokens": prompt + answer}

    def _hide_ids(self, data: dict[str, Any]) -> None:
        data.pop("prompt_token_ids", None)
        for choice in data.get("choices") or ():
            if isinstance(choice, dict):
                choice.pop("token_ids", None)
                choice.pop("prompt_token_ids", None)


def _encode(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()

"""The request that a person can paste once a server is ready."""

from __future__ import annotations

import json
import shlex

from nexus_orch.view.request import render_request


def test_the_line_is_a_whole_request() -> None:
    line = render_request("http://127.0.0.1:8000", {"model.served_name": "it's mine"})
    program, url, *options = shlex.split(line)
    assert (program, url) == ("curl", "http://127.0.0.1:8000/v1/completions")
    assert options[:2] == ["-H", "Content-Type: application/json"]
    assert json.loads(options[options.index("-d") + 1])["model"] == "it's mine"
    assert "Authorization" not in line


def test_a_key_stays_in_its_variable() -> None:
    line = render_request("http://127.0.0.1:8000", {"serve.api_key_env": "NEXUS_API_KEY"})
    assert '-H "Authorization: Bearer $NEXUS_API_KEY"' in line

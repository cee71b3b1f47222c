"""The real server of the benchmarks, in its own process, over real HTTP."""

from __future__ import annotations

import ssl
import time

import httpx

from benchmarks import work
from benchmarks.conduct import Conduct
from benchmarks.measuring import python_server, server_stats, server_timeline


def ask(client: httpx.Client, base_url: str) -> httpx.Response:
    return client.post(base_url + "/chat/completions", content=work.request_body(0))


def test_a_limit_is_kept_and_noted():
    with python_server(Conduct(rpm=60, rpm_burst=2)) as base_url, httpx.Client(trust_env=False) as client:
        answers = [ask(client, base_url) for _ in range(3)]
        times = server_timeline(base_url)
        stats = server_stats(base_url)
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[2].headers["Retry-After"] == "1"
    assert (len(times.accepted), len(times.throttled), len(times.answered)) == (2, 1, 2)
    assert stats["answered"] == 2


def test_over_tls_it_answers_with_the_recorded_reply():
    context = ssl.create_default_context(cafile=work.CERTIFICATES / "root.pem")
    with (
        python_server(Conduct(tls=1)) as base_url,
        httpx.Client(verify=context, trust_env=False) as client,
    ):
        assert base_url.startswith("https://")
        assert ask(client, base_url).content == work.reply_body()
        assert server_stats(base_url)["answered"] == 1


def test_a_server_that_refuses_comes_back_on_its_port():
    """From the first request on: down after 0.2 s, up after 0.6 s."""
    conduct = Conduct(outage_from_s=0.2, outage_to_s=0.6, outage_kind="refuse")
    with python_server(conduct) as base_url:
        heard = []
        began = time.monotonic()
        while time.monotonic() - began < 10:
            with httpx.Client(trust_env=False) as client:
                try:
                    heard.append(ask(client, base_url).status_code)
                except httpx.TransportError:
                    heard.append(0)
            if heard[-1] == 200 and 0 in heard:
                break
    assert heard[0] == 200
    assert 0 in heard
    assert heard[-1] == 200

"""The embedded endpoint's HTTP: routes, the key, ids, and every answer in the gateway's shape.

Owns the wire format of chat completions; refuses streaming. What an answer says and counts is made by
``describing``, ``instances`` and ``usage``. Runs on the asyncio loop that it is started in.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import orjson
from aiohttp import web

from pipeline.embedded.analysis import Analysis
from pipeline.embedded.analyst import Analyst
from pipeline.embedded.describing import describe
from pipeline.embedded.faults import SchemaFault, spoilt
from pipeline.embedded.instances import instance_of
from pipeline.embedded.question import Question, read_question
from pipeline.embedded.refusals import (
    Refusal,
    body_too_large,
    bug,
    invalid_request,
    unknown_path,
    upstream_failed,
    wrong_key,
)
from pipeline.embedded.trouble import Course, Fault, Trouble
from pipeline.embedded.usage import count_prompt, cut_to_tokens, usage
from pipeline.tokens import load_rules, rules_for, text_tokens

MAX_BODY_BYTES = 128 * 1024**2  # one medium of 64 MB as base64, and some more
REQUEST_ID_HEADER = "X-Oneapi-Request-Id"
_BACKLOG = 2048  # a thousand connections may arrive at once
_SHUTDOWN_S = 2.0

_log = logging.getLogger(__name__)
_request_id: web.RequestKey[str] = web.RequestKey("request_id", str)


@asynccontextmanager
async def serve_embedded(
    host: str = "127.0.0.1",
    port: int = 0,
    api_key: str | None = None,
    schema_fault: SchemaFault | None = None,
    trouble: Trouble | None = None,
) -> AsyncIterator[str]:
    """Serve until the block ends; yields the base URL, ``http://HOST:PORT/v1``.

    Port 0 takes a free one. With an ``api_key`` every request has to bear it; without, any key or none will
    do. ``schema_fault``: what goes wrong where an answer has to keep to a schema; ``trouble``: limits, and
    what goes wrong with any answer.

    Raises:
        OSError: the address cannot be listened on.
    """
    async with Analyst() as analyst:
        runner = web.AppRunner(
            make_app(analyst, api_key, schema_fault, trouble),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=_SHUTDOWN_S,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port, backlog=_BACKLOG).start()
            bound_port = runner.addresses[0][1]
            yield f"http://{f'[{host}]' if ':' in host else host}:{bound_port}/v1"
        finally:
            await runner.cleanup()


def make_app(
    analyst: Analyst,
    api_key: str | None,
    schema_fault: SchemaFault | None = None,
    trouble: Trouble | None = None,
) -> web.Application:
    """The routes. A refusal anywhere below becomes an answer in one place, the middleware."""
    course = Course(trouble or Trouble())

    async def answer_chat(request: web.Request) -> web.StreamResponse:
        body = await _read_json(request)
        completion, fault = await course.ask(
            lambda: complete(body, analyst, request[_request_id], schema_fault)
        )
        return _json(request, 200, completion) if fault is None else _gone_wrong(request, completion, fault)

    async def list_models(request: web.Request) -> web.StreamResponse:
        models = [_model(rules.example_model) for rules in load_rules()]
        return _json(request, 200, {"object": "list", "data": models})

    async def show_model(request: web.Request) -> web.StreamResponse:
        return _json(request, 200, _model(request.match_info["model"]))

    @web.middleware
    async def refuse_in_shape(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        request[_request_id] = new_request_id()
        try:
            if isinstance(request.match_info.http_exception, (web.HTTPNotFound, web.HTTPMethodNotAllowed)):
                raise unknown_path(request.method, request.path)
            if not _may_ask(request, api_key):
                raise wrong_key()
            return await handler(request)
        except Refusal as refusal:
            return _refuse(request, refusal)
        except web.HTTPRequestEntityTooLarge:
            return _refuse(request, body_too_large(MAX_BODY_BYTES))
        except Exception as error:  # noqa: BLE001 - the client gets an answer in shape, the log the traceback
            _log.exception("the embedded endpoint failed on %s %s", request.method, request.path)
            return _refuse(request, bug(error))

    app = web.Application(middlewares=[refuse_in_shape], client_max_size=MAX_BODY_BYTES)
    app.router.add_post("/v1/chat/completions", answer_chat)
    app.router.add_get("/v1/models", list_models)
    app.router.add_get("/v1/models/{model:.+}", show_model)
    return app


async def complete(
    body: object, analyst: Analyst, request_id: str, schema_fault: SchemaFault | None = None
) -> dict[str, Any]:
    """A chat completion about a parsed request body.

    Raises:
        Refusal: the body or one of its media cannot be used.
    """
    question = read_question(body)
    analyses = await analyst.analyse_all(question.media)
    rules = rules_for(question.model)
    details = [part.detail for part in question.media]
    prompt = count_prompt(rules, question.text, zip(analyses, details, strict=True))
    told, is_short = _told(question, analyses, schema_fault)
    text, was_cut = cut_to_tokens(rules, told, question.max_tokens)
    return {
        "id": f"chatcmpl-{request_id}",
        "model": question.model,
        "object": "chat.completion",
        "created": int(time.time()),
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": text},
                "finish_reason": "length" if was_cut or is_short else "stop",
            }
        ],
        "usage": usage(prompt, text_tokens(rules, text)),
    }


def _told(
    question: Question, analyses: Sequence[Analysis], schema_fault: SchemaFault | None
) -> tuple[str, bool]:
    """The answer's text, and whether it is broken off."""
    if question.schema is None or (schema_fault == "ignored" and "JSON schema" not in question.text):
        return describe(question.prompt, analyses), False
    return spoilt(instance_of(question.schema, question.text), schema_fault, question.is_first)


def new_request_id() -> str:
    """Like the gateway's: the instant, to the microsecond, and eight random characters."""
    return datetime.now(UTC).strftime("%Y%m%d%H%M%S%f") + secrets.token_hex(4)


async def _read_json(request: web.Request) -> object:
    try:
        body: object = orjson.loads(await request.read())
    except (web.RequestPayloadError, ConnectionError) as error:
        # The client hung up in the middle, or the body is not compressed as its header says.
        raise invalid_request(f"the request body cannot be read: {error}") from error
    except orjson.JSONDecodeError as error:
        raise invalid_request(f"the request body is no JSON: {error}") from error
    return body


def _may_ask(request: web.Request, api_key: str | None) -> bool:
    if api_key is None:
        return True
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    # Compared in constant time, and as bytes: a header may hold any character.
    return scheme.lower() == "bearer" and hmac.compare_digest(
        key.strip().encode("utf-8", "surrogateescape"), api_key.encode()
    )


def _model(name: str) -> dict[str, object]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "mediabatch-embedded"}


def _refuse(request: web.Request, refusal: Refusal) -> web.Response:
    return _json(request, refusal.status, refusal.body(request[_request_id]))


def _gone_wrong(request: web.Request, completion: dict[str, Any], fault: Fault) -> web.Response:
    """What the wire makes of an answer."""
    if fault == "upstream-error":
        return _refuse(request, upstream_failed())
    if fault == "bad-gateway":
        page = "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"
        return web.Response(status=502, text=page, content_type="text/html")
    response = _json(request, 200, completion)
    if fault == "reset" and request.transport is not None:
        request.transport.abort()
    elif fault == "broken":
        response.body = orjson.dumps(completion)[:-40]
    return response


def _json(request: web.Request, status: int, body: object) -> web.Response:
    return web.Response(
        status=status,
        body=orjson.dumps(body),
        content_type="application/json",
        headers={REQUEST_ID_HEADER: request[_request_id]},
    )

"""What a peer's script prints."""

from __future__ import annotations

import orjson

from benchmarks import work


def tell(items: int, texts: list[str], total_tokens: int | None, asking_s: float) -> None:
    """The answers must all be there, and be those of the recorded reply.

    ``total_tokens`` None: it cannot read this gateway's usage.
    """
    reply = orjson.loads(work.reply_body())
    right = reply["choices"][0]["message"]["content"]
    assert len(texts) == items, f"{len(texts)} answers for {items} items"
    assert all(text == right for text in texts), "a text is not that of the reply"
    assert total_tokens in (None, items * work.TOKENS_OF_ONE), f"{total_tokens} tokens for {items} items"
    print(orjson.dumps({"items": items, "asking_s": asking_s}).decode())

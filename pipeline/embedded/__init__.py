"""The embedded endpoint: real HTTP, real media facts, no model.

It is a rehearsal of the night, and the tests' peer. It speaks the wire format of an OpenAI-compatible gateway
and really opens what it is sent. The way of a request:

    server      HTTP, the key, the shape of answers
    question    the body, understood
    analyst     worker threads, downloads and the cache around
      reading   a part's source → bytes
      analysis  bytes → images, sounds, videos measured
      decoding  frames, past the odd broken packet
    describing  measures → the answer's text
    instances   a JSON schema → a value that keeps to it
    faults      the ways in which such answers go wrong
    trouble     limits, a latency, and faults of any answer, to rehearse a bad night
    usage       token counts by the rules of ``data/token_rules.toml``
    refusals    every way of saying no

Nothing else in the library imports this package; it is reached over HTTP, like any other endpoint.
"""

from pipeline.embedded.server import serve_embedded

__all__ = ["serve_embedded"]

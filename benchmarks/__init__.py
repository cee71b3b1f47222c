"""The same work against what a user would pick instead: `python -m benchmarks`.

The work, and who does it:
    work.py        the example's request and reply, manifests, what n items must cost
    bare_loop.py   a bare aiohttp loop, results in memory: the practical limit in Python
    ours.py        the real command, and what its store must hold afterwards
    images.py      images that go inline
    contenders.py  the table of these two
    peers/         what a user would pick instead, each in an environment of its own

The endpoint under all of them:
    server.py      answers the recorded reply, on uvloop, in its own process
    conduct.py     how it behaves: latency, limits, outage, TLS; its command line
    desk.py        what it decides about each request; buckets.py, latencies.py and responses.py are its tools
    nginx.py       the same answer from nginx, where the machine has it
    ceilings.py    how much the server itself can answer; ceiling.py is its client, which costs nearly nothing

What is measured:
    throughput.py  items a second and CPU an item, in interleaved rounds
    latency.py     a thousand and more at once, plain and over TLS, and a heavy tail of latencies
    bodies.py      bodies of 1 to 5 MB
    limits.py      how much of a limit is used, and how many 429s that takes
    profiles.py    `--concurrency auto` beside the best fixed number
    outages.py     a run whose endpoint is down for a while
    scale.py       a great manifest beside a small one: memory, first request, pace
    first_request.py  how soon the first request of a great manifest goes
    startup.py     how long `--help` takes
    ledgers.py     what the ledger costs, and how soon a killed run goes on

And how it is told:
    measuring.py   a command as a child: seconds, CPU seconds, peak memory (stopwatch.py reads them)
    rounds.py      contenders in turn, and the medians of their ratios
    scenarios.py   scenarios of a part, one after the other or side by side
    timeline.py    rates out of the times that the server noted
    verdicts.py    a figure beside its target
    figures.py     figures as JSON with machine and versions
    readme.py      the README's table from them

Every run is checked: an item that did not end ok, or a cost that is off by one trillionth, ends it with
an error. Figures never do: a noisy machine is no bug.
"""

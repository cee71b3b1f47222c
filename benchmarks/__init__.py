"""The same work against what a user would pick instead: `python -m benchmarks`.

    work.py        the work: the example's request and reply, manifests, what n items must cost
    server.py      the endpoint under all of them: answers the recorded reply, on uvloop, in its own process
    nginx.py       the same answer from nginx, where the machine has it
    ceiling.py     a client that costs nearly nothing: how much the server itself can answer
    bare_loop.py   a bare aiohttp loop, results in memory: the practical limit in Python
    ours.py        the real command, and what its store must hold afterwards
    contenders.py  the table of who is measured; a peer is one entry more
    measuring.py   a command as a child: seconds, CPU seconds, peak memory (stopwatch.py reads them)
    throughput.py  items a second and CPU an item, in interleaved rounds
    memory.py      peak memory by manifest size
    startup.py     how long `--help` takes
    figures.py     figures as JSON with machine and versions, and the README's table from them

Every run is checked: an item that did not end ok, or a cost that is off by one trillionth, ends it with
an error. Figures never do: a noisy machine is no bug.
"""

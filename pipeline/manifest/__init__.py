"""Manifest → items, streamed; bad rows become failed outcomes, a bad file an error before anything is sent.

A manifest is one file, or a glob of files of one format, here or at an address:

    fetching.py    https://, s3://, gs://, az:// → files on this disk
    opening.py     path or glob → formats told by ending and first bytes → ``Manifest``; start reading here
    columns.py     which columns mean what, and what somebody probably meant
    delimited.py   CSV and TSV: the scan and the blocks
    ndjson.py      NDJSON: the scan and the blocks
    batch_lines.py a line of an OpenAI batch file → what it asks
    columnar.py    Parquet and Arrow IPC: slices
    blocks.py      text files cut into bounded blocks at record boundaries, with line numbers
    cells.py       one cell → text, a list of texts, a positive number
    media_cells.py one cell → checked media
    parameters.py  one cell → a row's own request parameters
    ids.py         ids told apart in 12 bytes a row
    rows.py        one row → ``Item`` or ``BadRow``

Every file is scanned whole when it is opened: what is broken is found before the first request. Then rows are
read in bounded blocks, never all at once. Nothing here knows an event loop or the store; HTTP only fetches.
"""

from pipeline.manifest.fetching import is_address
from pipeline.manifest.opening import Manifest, open_manifest
from pipeline.manifest.rows import Defaults

__all__ = ["Defaults", "Manifest", "is_address", "open_manifest"]

"""The store: Parquet datasets over all runs and jobs, in one output folder or bucket.

places.py    a folder here, or a place in a bucket: the seam between the two
locking.py   one run at a time per job; leasing.py the same among machines
schemas.py   one schema constant each, for writing, reading and tests
rows.py      records → rows of those schemas
writer.py    rows → parts, written aside and renamed
reader.py    parts → lazy frames, and the latest outcome of each item
"""

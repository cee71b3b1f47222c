"""The store: Parquet datasets over all runs and jobs, in one output folder.

schemas.py   one schema constant each, for writing, reading and tests
rows.py      records → rows of those schemas
writer.py    rows → parts, written aside and renamed
reader.py    parts → lazy frames, and the latest outcome of each item
"""

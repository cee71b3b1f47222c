"""What a user would pick instead, each in an environment of its own.

    environments.py  the table of peers, and their environments, made on demand with venv and pip
    sdk.py           the openai SDK with a semaphore and tenacity, as people write it
    deluge.py        lm-deluge
    curating.py      curator (bespokelabs-curator)

The scripts run in the peer's environment: of this project they import `work` alone. Each asks for so many
items, checks every answer and prints what it took.
"""

"""Runs killed with ``kill -9`` at random moments, and gone on with: is anything lost, or paid for twice?

endpoint.py   an endpoint that outlives the kills and counts what it served
killing.py    sessions of the real command, killed; what their ledgers held at that moment
checking.py   the promises, checked against the store and the endpoint's own count
"""

"""Hypothesis comes first. Else its plugin imports it when the session is over, where it warns of trio's
random numbers; and a warning is an error here.
"""

import hypothesis  # noqa: F401

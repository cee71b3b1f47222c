"""A manifest → what it will cost, before anything is spent.

    survey.py      the manifest read through once: what would be asked, and a sample of it
    looking.py     a medium → input tokens by the rules, from its first bytes
    looks.py       the sample looked at
    experience.py  what the store has seen of the model
    fits.py        what one request will come to
    figures.py     all of them together: low, likely and high
    estimate.py    one after the other; start reading here

The endpoint is not spoken to. Media hosts are: only here, and because a person asked for it.
"""

from pipeline.estimating.estimate import Estimate, Length, estimate_run
from pipeline.estimating.figures import Band

__all__ = ["Band", "Estimate", "Length", "estimate_run"]

"""pytest-espperf: did this change make the board slower?"""

__version__ = "0.1.0"

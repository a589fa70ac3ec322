"""The HTML pages: files that need nothing else.

``data`` is what they are drawn from; ``page`` renders the report of a session, the page over a history, and
the page over the boards of a run, by jinja2 (extra ``[report]``). ``charts`` makes the data of the charts,
which scripts in ``assets`` draw with uPlot, a library that is inlined into each page.
"""

"""The HTML reports: files that need nothing else.

``data`` is what a session's is drawn from; ``page`` draws it, and needs plotly (extra ``[report]``).
``overview`` draws the page over the boards of a run, which links to theirs.
"""

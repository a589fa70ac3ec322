"""The HTML report: one file that needs nothing else.

``data`` is what it is drawn from; ``page`` draws it, and needs plotly and jinja2 (extra ``[report]``).
"""

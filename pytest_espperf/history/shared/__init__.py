"""A history that several benches share.

Modules: ``address`` (URLs), ``storage`` (the interface of a storage, and a mounted folder),
``fsspec_storage`` (every other storage), ``remote_errors`` (their exceptions in words), ``remote`` (any
storage, with a time limit), ``objects`` (what is stored there), ``cache`` (this machine's copy),
``decisions`` (marks and events), ``transfer`` (both sides), ``pull`` and ``push`` (one direction each),
``sync`` (all of these for one shared history), ``sharing`` (its use by sessions and commands).
"""

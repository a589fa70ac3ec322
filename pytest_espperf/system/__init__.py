"""This computer: files, sockets, event loops, processes and streams, the same on every platform."""

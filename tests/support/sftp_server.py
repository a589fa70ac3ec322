"""An SFTP server of asyncssh's on loopback, as a process: HOST_KEY AUTHORIZED_KEYS ROOT; prints its port."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import asyncssh


async def serve(host_key: str, authorized_keys: str, root: str) -> None:
    def inside(channel: Any) -> asyncssh.SFTPServer:
        return asyncssh.SFTPServer(channel, chroot=root.encode())

    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[host_key],
        authorized_client_keys=authorized_keys,
        sftp_factory=inside,
    )
    print(server.get_port(), flush=True)
    await server.wait_closed()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]))

"""Places of a shared history on loopback: how each is named to its package, and where it can be tested.

Those of Google's and Azure's protocols are skipped where they are not installed:
``pip install -e ".[cloud-test]"`` and ``npm install -g azurite``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

BUCKET = "benches"
AZURITE = shutil.which("azurite-blob") or ""
# Azurite's account and key, the same everywhere and no secret.
ACCOUNT = "devstoreaccount1"
ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
CLOUDS = ("AWS_", "AZURE_", "CLOUDSDK_", "FSSPEC_", "GCE_", "GOOGLE_", "NO_GCE_", "STORAGE_")

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="the server's root of its own is POSIX's")
needs_gs = pytest.mark.skipif(
    find_spec("gcsfs") is None or find_spec("gcp_storage_emulator") is None,
    reason="gcsfs and a server for it are not installed: pip install -e '.[cloud-test]'",
)
needs_az = pytest.mark.skipif(
    find_spec("adlfs") is None or not AZURITE,
    reason="adlfs and a server for it are not installed: pip install -e '.[cloud-test]', and npm's azurite",
)


def connection_string(url: str, key: str = ACCOUNT_KEY) -> str:
    """What names Azurite to a client."""
    return f"AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={url}/{ACCOUNT};"


def use_nothing(patched: pytest.MonkeyPatch) -> None:
    """No service and no credentials are named, and none is looked for outside."""
    for name in list(os.environ):
        if name.startswith(CLOUDS):
            patched.delenv(name)
    patched.setenv("AWS_CONFIG_FILE", os.devnull)
    patched.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    patched.setenv("AWS_EC2_METADATA_DISABLED", "true")
    patched.setenv("CLOUDSDK_CONFIG", os.devnull)
    patched.setenv("GCE_METADATA_HOST", "127.0.0.1:1")
    patched.setenv("NO_GCE_CHECK", "true")


def use_s3(url: str, patched: pytest.MonkeyPatch) -> None:
    use_nothing(patched)
    patched.setenv("AWS_ACCESS_KEY_ID", "key-of-the-bench")
    patched.setenv("AWS_SECRET_ACCESS_KEY", "secret-of-the-bench")
    patched.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    patched.setenv("AWS_ENDPOINT_URL", url)


def use_gs(url: str, patched: pytest.MonkeyPatch) -> None:
    use_nothing(patched)
    patched.setenv("STORAGE_EMULATOR_HOST", url)


def use_az(url: str, patched: pytest.MonkeyPatch) -> None:
    use_nothing(patched)
    patched.setenv("AZURE_STORAGE_CONNECTION_STRING", connection_string(url))


def use_home(home: Path, patched: pytest.MonkeyPatch) -> None:
    patched.setenv("HOME", str(home))
    patched.setenv("USERPROFILE", str(home))
    patched.delenv("SSH_AUTH_SOCK", raising=False)


def google_key_file(folder: Path, token_url: str) -> Path:
    """The key of a service's account, whose tokens are to be had at an address."""
    import asyncssh

    key = asyncssh.generate_private_key("ssh-rsa", key_size=1024).export_private_key("pkcs8-pem").decode()
    content = {"type": "service_account", "client_email": "bench@lab.example", "token_uri": token_url}
    path = folder / "key.json"
    path.write_text(json.dumps({**content, "private_key": key}), encoding="utf-8")
    return path


USE = {"s3": use_s3, "gs": use_gs, "az": use_az}
SFTP = pytest.param("sftp", marks=posix_only)
GS = pytest.param("gs", marks=needs_gs)
AZ = pytest.param("az", marks=needs_az)

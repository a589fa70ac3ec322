import pytest

# No fixture of a wider scope: it would be set up again for phases that are measured again, and each new `dut`
# resets the board.
ADDRESS = {}


@pytest.fixture
def device_ip(request):
    if not ADDRESS:
        dut = request.getfixturevalue("dut")
        found = dut.expect(r"IPv4 address: (\d+\.\d+\.\d+\.\d+)[^\d]", timeout=30)
        ADDRESS["board"] = found[1].decode()
    return ADDRESS["board"]

"""The routes of the built-in profiles on microdot, for MicroPython: one asyncio loop, a template in Python.

::

    micropython microdot_board.py PORT COST

``COST`` multiplies the rows that the templates compute; ``/cost?heavy=1.8`` changes it while the server
runs. The answers keep their length: only the time to compute them changes. The server ends with its standard
input.
"""

import asyncio
import sys

from microdot import Microdot, Request, Response

ROWS = 4000
SHOWN = 20
LARGE = b"0123456789" * 1600
ROW = "<tr><td>{}</td><td>{}</td><td>{:.3f}</td></tr>"

app = Microdot()
cost = {"heavy": 1.0}


def table(rows: int) -> str:
    """Compute all rows, and show the last ones."""
    shown = [""] * SHOWN
    value = 1
    for row in range(rows):
        value = (value * 1103 + 12345) & 0xFFFFFF
        shown[row % SHOWN] = ROW.format(row % SHOWN, value % 10, (value % 1000) / 7 % 1)
    return "".join(shown)


def page(title: str, words: str) -> Response:
    """A page with a table in it."""
    body = "<h1>{}</h1><p>{}</p><table>{}</table>".format(title, words, table(int(ROWS * cost["heavy"])))
    return Response(body, headers={"Content-Type": "text/html"})


@app.route("/hello")
def hello(request: Request) -> str:
    """Answer at once."""
    return "hello"


@app.route("/api/ping")
def ping(request: Request) -> dict[str, bool]:
    """Answer with a little JSON."""
    return {"ok": True}


@app.route("/deps")
def deps(request: Request) -> dict[str, str]:
    """Answer with what this runs on."""
    return {"server": "microdot", "python": sys.version}


@app.route("/query-typed")
def query_typed(request: Request) -> dict[str, object]:
    """Answer with the query, typed."""
    args = request.args
    return {
        "q": args.get("q", ""),
        "page": int(args.get("page", "1")),
        "ratio": float(args.get("ratio", "1")),
        "active": args.get("active") == "true",
    }


@app.route("/template")
def template(request: Request) -> Response:
    """Render the page."""
    return page("template", "")


@app.route("/template-compat")
def template_compat(request: Request) -> Response:
    """Render it with words of the query."""
    return page(request.args.get("name", ""), ", ".join(request.args.get("items", "").split(",")))


@app.route("/file")
@app.route("/static/large.txt")
def large(request: Request) -> Response:
    """Answer with 16 KB."""
    return Response(LARGE, headers={"Content-Type": "text/plain"})


@app.route("/cost")
def set_cost(request: Request) -> dict[str, float]:
    """Change the cost of a template."""
    cost["heavy"] = float(request.args["heavy"])
    return cost


async def main(port: int) -> None:
    """Serve until the standard input ends, which it does with the process that started this one."""
    serving = asyncio.create_task(app.start_server(host="127.0.0.1", port=port))
    await asyncio.StreamReader(sys.stdin).read(1)  # type: ignore[arg-type]  # as MicroPython has it
    serving.cancel()


if __name__ == "__main__":
    cost["heavy"] = float(sys.argv[2])
    asyncio.run(main(int(sys.argv[1])))

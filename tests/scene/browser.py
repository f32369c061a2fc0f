"""A page in headless Chromium, over its debugging protocol: pictures, what it said, what it asked for."""

import base64
import io
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from websockets.sync.client import connect

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--window-size=800,600",
    "--remote-debugging-port=0",
]


@dataclass
class Seen:
    """What happened on a page."""

    pictures: list[np.ndarray] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    title: str = ""
    answers: dict[str, Any] = field(default_factory=dict)
    """What the page answered to each question."""


def chromium() -> str | None:
    """Path of a Chromium or Chrome, None without one."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next((path for path in map(shutil.which, names) if path), None)


def visit(
    program: str,
    page: Path,
    profile: Path,
    until: Any,
    *,
    limit: float = 60.0,
    size: tuple[int, int] = (800, 600),
    ask: Mapping[str, str] | None = None,
) -> Seen:
    """Open the page with no network at all, and take pictures until `until(pictures)` is content.

    `ask` are questions and the JavaScript that answers them, put in their order when the last picture is taken.
    """
    flags = [*FLAGS, f"--user-data-dir={profile}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([program, *flags, "about:blank"], **quiet) as process:
        try:
            return _visit(_address(profile, limit), page, until, limit, size, ask or {})
        finally:
            process.terminate()


def _address(profile: Path, limit: float) -> str:
    port, end = profile / "DevToolsActivePort", time.monotonic() + limit
    while not (port.is_file() and "\n" in port.read_text()):
        assert time.monotonic() < end, "Chromium does not start"
        time.sleep(0.05)
    with urllib.request.urlopen(f"http://127.0.0.1:{port.read_text().split()[0]}/json/list") as answer:
        return next(tab["webSocketDebuggerUrl"] for tab in json.load(answer) if tab["type"] == "page")


def _visit(address: str, page: Path, until: Any, limit: float, size: tuple[int, int], ask: Mapping[str, str]) -> Seen:
    seen, end = Seen(), time.monotonic() + limit
    with connect(address, max_size=None) as socket:
        calls = iter(range(1, 10**6))

        def call(method: str, **params: Any) -> Any:
            number = next(calls)
            socket.send(json.dumps({"id": number, "method": method, "params": params}))
            while True:
                message = json.loads(socket.recv(timeout=limit))
                if message.get("id") == number:
                    return message["result"]
                _note(seen, message)

        for domain in ("Page", "Runtime", "Network", "Log"):
            call(f"{domain}.enable")
        width, height = size
        call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        call("Page.navigate", url=page.as_uri())
        while not until(seen.pictures):
            assert time.monotonic() < end, f"the page does not show it; errors: {seen.errors}"
            time.sleep(0.3)
            shot = base64.b64decode(call("Page.captureScreenshot")["data"])
            seen.pictures.append(np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")))
        for question, script in {"title": "document.title", **ask}.items():
            answer = call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
            seen.answers[question] = answer["result"].get("value", answer["result"])
        seen.title = seen.answers.pop("title")
    return seen


def _note(seen: Seen, message: dict[str, Any]) -> None:
    method, params = message.get("method"), message.get("params", {})
    if method == "Network.requestWillBeSent":
        seen.requests.append(params["request"]["url"])
    elif method == "Runtime.exceptionThrown":
        seen.errors.append(str(params["exceptionDetails"]))
    elif (method == "Runtime.consoleAPICalled" and params["type"] == "error") or (
        method == "Log.entryAdded" and params["entry"]["level"] == "error"
    ):
        seen.errors.append(str(params))

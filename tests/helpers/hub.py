"""A hub that answers like Hugging Face's: an API, files, and large files on another host."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import json
import re
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterator
from urllib.parse import unquote

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# Larger files are stored beside Git, and come from the other host.
LARGE = 20_000


@dataclass
class Request:
    host: str
    path: str
    start: int | None
    token: str | None


@dataclass
class Hub:
    """A hub with models, each a folder by its name."""

    models: dict[str, Path]
    endpoint: str = ""
    cdn: str = ""
    # The only token that may read anything.
    token: str | None = None
    # Models that have another name now.
    renamed: dict[str, str] = field(default_factory=dict)
    # For each path, after how many bytes the connection breaks, for one request after the other.
    breaks: dict[str, list[int]] = field(default_factory=dict)
    # For each path, the statuses of the next requests.
    statuses: dict[str, list[int]] = field(default_factory=dict)
    # Paths whose content has a wrong byte.
    damaged: set[str] = field(default_factory=set)
    serves_parts: bool = True
    requests: list[Request] = field(default_factory=list)

    def of(self, path: str) -> list[Request]:
        """The requests whose path ends with this."""
        return [request for request in self.requests if request.path.endswith(path)]

    def files(self, model: str) -> dict[str, Path]:
        folder = self.models[model]
        return {str(path.relative_to(folder)): path for path in sorted(folder.rglob("*")) if path.is_file()}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def git_blob(path: Path) -> str:
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _listing(hub: Hub, model: str) -> dict[str, object]:
    siblings = []
    for name, path in hub.files(model).items():
        sibling: dict[str, object] = {"rfilename": name, "size": path.stat().st_size, "blobId": git_blob(path)}
        if path.stat().st_size > LARGE:
            sibling["lfs"] = {"sha256": sha256(path), "size": path.stat().st_size, "pointerSize": 134}
        siblings.append(sibling)
    return {"id": model, "sha": COMMIT, "private": False, "siblings": siblings}


def _tree(hub: Hub, model: str) -> list[dict[str, object]]:
    """The files as another part of the API lists them, which Hugging Face's own client asks."""
    entries = []
    for name, path in hub.files(model).items():
        entry: dict[str, object] = {"type": "file", "path": name, "size": path.stat().st_size, "oid": git_blob(path)}
        if path.stat().st_size > LARGE:
            entry["lfs"] = {"oid": sha256(path), "size": path.stat().st_size, "pointerSize": 134}
        entries.append(entry)
    return entries


def _handler(hub: Hub, host: str) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(found[1]) if found else None
            token = self.headers.get("Authorization")
            path = unquote(self.path.split("?")[0])
            hub.requests.append(Request(host, path, start, token))
            if host == "hub":
                self.as_hub(path, start, token)
            else:
                self.as_cdn(path, start)

        def as_hub(self, path: str, start: int | None, token: str | None) -> None:
            if hub.token and token != f"Bearer {hub.token}":
                self.say(401, {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access to this model is restricted."})
                return
            for old, new in hub.renamed.items():
                if old in path:
                    query = "?" + self.path.split("?")[1] if "?" in self.path else ""
                    self.say(307, {"Location": path.replace(old, new) + query})
                    return
            api = re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path)
            tree = re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/(.+)", path)
            file = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            asked = api or tree or file
            model, revision = asked.group(1, 2) if asked else (None, None)
            if model not in hub.models or revision not in ("main", COMMIT, "refs/pr/1"):
                self.say(404, {"X-Error-Code": "RepoNotFound"})
            elif api:
                self.send(json.dumps(_listing(hub, model)).encode(), {"Content-Type": "application/json"})
            elif tree:
                self.send(json.dumps(_tree(hub, model)).encode(), {"Content-Type": "application/json"})
            elif (local := hub.files(model).get(file[3])) is None:
                self.say(404, {"X-Error-Code": "EntryNotFound"})
            elif local.stat().st_size > LARGE:
                etag = sha256(local)
                self.say(
                    302,
                    {
                        "Location": f"{hub.cdn}/{model}/{etag}/{file[3]}",
                        "X-Linked-ETag": f'"{etag}"',
                        "X-Linked-Size": str(local.stat().st_size),
                        "X-Repo-Commit": COMMIT,
                    },
                )
            else:
                self.file(local, file[3], start, {"ETag": f'"{git_blob(local)}"', "X-Repo-Commit": COMMIT})

        def as_cdn(self, path: str, start: int | None) -> None:
            _, owner, name, etag, file = path.split("/", 4)
            local = hub.files(f"{owner}/{name}")[file]
            self.file(local, file, start, {"ETag": f'"{etag}"'})

        def file(self, local: Path, name: str, start: int | None, headers: dict[str, str]) -> None:
            if hub.statuses.get(name):
                self.say(hub.statuses[name].pop(0))
                return
            data = bytearray(local.read_bytes())
            if name in hub.damaged:
                data[len(data) // 2] ^= 1
            self.send(bytes(data), headers, start if hub.serves_parts else None, name)

        def send(self, data: bytes, headers: dict[str, str], start: int | None = None, name: str = "") -> None:
            if start is not None and start >= len(data):
                self.say(416)
                return
            part = data[start or 0 :]
            self.send_response(200 if start is None else 206)
            if start is not None:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            for key, value in headers.items():
                self.send_header(key, value)
            self.send_header("Content-Length", str(len(part)))
            self.end_headers()
            if self.command == "HEAD":
                return
            if hub.breaks.get(name):
                self.wfile.write(part[: hub.breaks[name].pop(0)])
                self.close_connection = True
                return
            self.wfile.write(part)

        def say(self, status: int, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler


@contextlib.contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serves the hub and its host of large files, on two ports of this machine."""
    servers = {host: http.server.ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub, host)) for host in ("hub", "cdn")}
    # By two names, because Hugging Face's client knows hosts apart by these.
    hub.endpoint = f"http://127.0.0.1:{servers['hub'].server_port}"
    hub.cdn = f"http://localhost:{servers['cdn'].server_port}"
    threads = [threading.Thread(target=server.serve_forever) for server in servers.values()]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server in servers.values():
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()

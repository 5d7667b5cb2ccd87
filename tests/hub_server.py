"""A Hub on loopback: enough of its HTTP API for the real `huggingface_hub` and `datasets` clients.

    with HubServer() as hub:
        subprocess.run(command, env=hub.environment(home))

Everything lives in memory. `hub.faults` holds what is to go wrong, `hub.log` what was asked for.
"""

import base64
import contextlib
import hashlib
import json
import re
import secrets
import socket
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

# New in each run, so that a copy of these tests in some folder does not hold them.
WRITER, OTHER = (f"hf_{secrets.token_hex(16)}" for _ in range(2))

LARGE = re.compile(r"\.(safetensors|parquet|bin|jpg|png)$")


def git_id(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@dataclass
class Fault:
    """What goes wrong when a request's "METHOD /path" matches `pattern`, `times` times."""

    pattern: str
    status: int | None = None  # answer with this
    cut: int | None = None  # close the connection after so many bytes of the body
    corrupt: bool = False  # change a byte of the body, of the request or the answer
    lose: bool = False  # do as asked, but do not answer
    times: int = 1000


@dataclass
class Repository:
    """Commits, each a dict from path to content, and names for them."""

    private: bool = False
    sdk: str | None = None
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)  # the newest last
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.commit({".gitattributes": b"*.safetensors filter=lfs\n"})

    def commit(self, files: dict[str, bytes]) -> str:
        listing = json.dumps([self.order, sorted((n, git_id(c)) for n, c in files.items())])
        sha = hashlib.sha1(listing.encode()).hexdigest()
        self.commits[sha] = files
        self.order.append(sha)
        return sha

    def resolve(self, revision: str) -> str | None:
        revision = unquote(revision)
        known = {"main": self.order[-1], **self.tags}
        return known.get(revision, revision if revision in self.commits else None)

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[self.order[-1]]


class Answer(Exception):
    """Ends a request with this status, body and headers."""

    def __init__(self, status, body=b"", headers=None):
        self.status, self.headers = status, headers or {}
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()


def missing(kind: str) -> Answer:
    """`kind` is Repo, Revision or Entry."""
    headers = {"X-Error-Code": f"{kind}NotFound", "X-Error-Message": f"{kind} not found"}
    return Answer(404, {"error": f"{kind} not found"}, headers)


class HubServer:
    """The server, on a port of its own, in a thread."""

    def __init__(self):
        self.tokens = {WRITER: "tester", OTHER: "other"}
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.objects: dict[str, bytes] = {}  # large files, by SHA-256
        self.faults: list[Fault] = []
        self.log: list[str] = []
        self.lock = threading.RLock()
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.server.shutdown()
        self.server.server_close()

    def environment(self, home, token: str | None = WRITER) -> dict[str, str]:
        """Variables for a client with its cache in `home`."""
        result = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
        result |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_OFFLINE": "0"}
        return result | ({"HF_TOKEN": token} if token else {})

    def model(self, name: str = "tester/model") -> Repository | None:
        return self.repositories.get(("model", name))

    def asked(self, pattern: str) -> list[str]:
        """The requests that match."""
        return [line for line in self.log if re.search(pattern, line)]

    def fault(self, request: str) -> Fault | None:
        """The fault that this request meets, which counts as met."""
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and re.search(fault.pattern, request):
                    fault.times -= 1
                    return fault
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_hub: HubServer

    def log_message(self, *args):
        pass

    # --- plumbing ---

    def handle_any(self):
        hub, split = self.server_hub, urlsplit(self.path)
        self.route, self.query = unquote(split.path), parse_qs(split.query)
        request = f"{self.command} {self.route}"
        hub.log.append(request)
        fault = hub.fault(request)
        length = int(self.headers.get("Content-Length") or 0)
        upload = self.command in ("POST", "PUT", "DELETE")
        if fault and fault.cut is not None and upload:
            self.rfile.read(min(fault.cut, length))
            return self.hang_up()
        self.body = (
            self.read_chunks()
            if "chunked" in self.headers.get("Transfer-Encoding", "")
            else self.rfile.read(length)
        )
        if fault and fault.corrupt and upload:
            self.body = self.body[:-1] + bytes([self.body[-1] ^ 1])
        try:
            if fault and fault.status:
                raise Answer(fault.status, {"error": f"fault {self.headers.get('authorization')}"})
            with hub.lock:
                self.dispatch()
            raise Answer(404, {"error": f"no such call: {request}"})
        except Answer as answer:
            if fault and fault.lose:
                return self.hang_up()
            self.reply(answer, None if upload else fault)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

    def read_chunks(self) -> bytes:
        result = b""
        while size := int(self.rfile.readline(), 16):
            result += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return result

    def hang_up(self):
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def reply(self, answer: Answer, fault: Fault | None):
        body = answer.body
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if "Content-Length" not in answer.headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault and fault.corrupt:
            body = (
                body[: len(body) // 2]
                + bytes([body[len(body) // 2] ^ 1])
                + body[len(body) // 2 + 1 :]
            )
        if fault and fault.cut is not None:
            self.wfile.write(body[: fault.cut])
            self.wfile.flush()
            return self.hang_up()
        self.wfile.write(body)

    def user(self) -> str | None:
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        if token and token not in self.server_hub.tokens:
            message = "Invalid credentials in Authorization header"
            raise Answer(401, {"error": message}, {"X-Error-Message": message})
        return self.server_hub.tokens.get(token)

    def repository(self, kind: str, name: str, write: bool = False) -> Repository:
        repository, user = self.server_hub.repositories.get((kind, name)), self.user()
        owner = name.split("/")[0]
        if repository is None or (repository.private and user != owner):
            raise missing("Repo")
        if write and user != owner:
            raise Answer(403, {"error": "no"}, {"X-Error-Message": "you may not write here"})
        return repository

    # --- calls ---

    def dispatch(self):
        kinds, name = r"(model|dataset|space)s", r"([\w.-]+/[\w.-]+)"
        prefix = r"(?:(dataset|space)s/)?"
        for pattern, call in (
            (r"GET /api/whoami-v2", self.whoami),
            (r"POST /api/repos/create", self.create),
            (r"DELETE /api/repos/delete", self.delete),
            (r"POST /api/validate-yaml", self.validate),
            (rf"GET /api/{kinds}/{name}(?:/revision/([^/]+))?", self.info),
            (rf"GET /api/{kinds}/{name}/tree/([^/]+)(?:/(.+))?", self.tree),
            (rf"POST /api/{kinds}/{name}/paths-info/([^/]+)", self.paths),
            (rf"GET /api/{kinds}/{name}/refs", self.refs),
            (rf"POST /api/{kinds}/{name}/tag/([^/]+)", self.tag),
            (rf"POST /api/{kinds}/{name}/preupload/([^/]+)", self.preupload),
            (rf"POST /api/{kinds}/{name}/commit/([^/]+)", self.commit),
            (rf"POST /{prefix}{name}\.git/info/lfs/objects/batch", self.lfs_batch),
            (r"PUT /lfs/(\w+)", self.lfs_put),
            (r"POST /lfs/verify", self.lfs_verify),
            (r"(?:GET|HEAD) /cdn/(\w+)", self.lfs_get),
            (rf"(?:GET|HEAD) /{prefix}{name}/resolve/([^/]+)/(.+)", self.resolve),
        ):
            match = re.fullmatch(pattern, f"{self.command} {self.route}")
            if match:
                call(*match.groups())

    def whoami(self):
        user = self.user()
        if user is None:
            raise Answer(401, {"error": "no token"})
        raise Answer(200, {"type": "user", "name": user, "auth": {"type": "access_token"}})

    def named(self) -> tuple[dict, tuple[str, str]]:
        asked, user = json.loads(self.body), self.user()
        if user is None:
            raise Answer(401, {"error": "no token"})
        owner = asked.get("organization") or user
        if owner != user:
            raise Answer(403, {"error": "no"}, {"X-Error-Message": f"not of {owner}"})
        return asked, (asked.get("type") or "model", f"{owner}/{asked['name']}")

    def create(self):
        asked, key = self.named()
        url = f"{self.server_hub.url}/{'' if key[0] == 'model' else key[0] + 's/'}{key[1]}"
        if key in self.server_hub.repositories:
            raise Answer(409, {"error": "it exists", "url": url})
        private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.server_hub.repositories[key] = Repository(private=private, sdk=asked.get("sdk"))
        raise Answer(200, {"url": url, "name": key[1], "id": key[1]})

    def delete(self):
        _, key = self.named()
        if self.server_hub.repositories.pop(key, None) is None:
            raise missing("Repo")
        raise Answer(200, {})

    def validate(self):
        content = json.loads(self.body)["content"]
        if content.startswith("---") and "license: nonsense" in content:
            errors = [{"message": '"license" must be one of a list'}]
            raise Answer(400, {"errors": errors, "warnings": []})
        raise Answer(200, {"errors": [], "warnings": []})

    def files(self, kind, name, revision) -> tuple[str, dict[str, bytes]]:
        repository = self.repository(kind, name)
        sha = repository.resolve(revision or "main")
        if sha is None:
            raise missing("Revision")
        return sha, repository.commits[sha]

    def info(self, kind, name, revision):
        sha, files = self.files(kind, name, revision)
        siblings = [{"rfilename": path} for path in sorted(files)]
        private = self.repository(kind, name).private
        facts = {"_id": "1", "id": name, "sha": sha, "private": private, "siblings": siblings}
        raise Answer(200, facts | {"tags": [], "downloads": 0, "likes": 0, "disabled": False})

    @staticmethod
    def entry(path: str, content: bytes) -> dict:
        result = {"type": "file", "path": path, "size": len(content), "oid": git_id(content)}
        if LARGE.search(path):
            sha = hashlib.sha256(content).hexdigest()
            pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha}\n"
            pointer = f"{pointer}size {len(content)}\n".encode()
            result["oid"] = git_id(pointer)
            result["lfs"] = {"oid": sha, "size": len(content), "pointerSize": len(pointer)}
        return result

    def tree(self, kind, name, revision, folder):
        _, files = self.files(kind, name, revision)
        start = f"{folder.rstrip('/')}/" if folder else ""
        inside = {path: files[path] for path in sorted(files) if path.startswith(start)}
        if folder and not inside:
            raise missing("Entry")
        recursive = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        folders, entries = {}, []
        for path, content in inside.items():
            parts = path.removeprefix(start).split("/")
            if len(parts) == 1 or recursive:
                entries.append(self.entry(path, content))
            for depth in range(1, len(parts) if recursive else min(len(parts), 2)):
                folders[start + "/".join(parts[:depth])] = None
        entries += [
            {"type": "directory", "path": p, "oid": git_id(p.encode()), "size": 0} for p in folders
        ]
        raise Answer(200, entries)

    def paths(self, kind, name, revision):
        _, files = self.files(kind, name, revision)
        text = self.body.decode()
        asked = json.loads(text)["paths"] if text.startswith("{") else parse_qs(text)["paths"]
        found = [self.entry(path, files[path]) for path in asked if path in files]
        folders = [p for p in asked if any(f.startswith(p.rstrip("/") + "/") for f in files)]
        found += [{"type": "directory", "path": p, "oid": "0" * 40, "size": 0} for p in folders]
        raise Answer(200, found)

    def refs(self, kind, name):
        repository = self.repository(kind, name)
        main = {"name": "main", "ref": "refs/heads/main", "targetCommit": repository.order[-1]}
        tags = [
            {"name": tag, "ref": f"refs/tags/{tag}", "targetCommit": sha}
            for tag, sha in repository.tags.items()
        ]
        raise Answer(200, {"branches": [main], "tags": tags, "converts": []})

    def tag(self, kind, name, revision):
        repository = self.repository(kind, name, write=True)
        tag, sha = json.loads(self.body)["tag"], repository.resolve(revision)
        if sha is None:
            raise missing("Revision")
        if tag in repository.tags:
            raise Answer(409, {"error": "the tag exists"})
        repository.tags[tag] = sha
        raise Answer(200, {})

    def preupload(self, kind, name, revision):
        files = self.repository(kind, name, write=True).files
        result = []
        for asked in json.loads(self.body)["files"]:
            path = asked["path"]
            mode = "lfs" if LARGE.search(path) else "regular"
            one = {"path": path, "uploadMode": mode, "shouldIgnore": False}
            if path in files:
                entry = self.entry(path, files[path])
                one["oid"] = entry.get("lfs", entry)["oid"]
            result.append(one)
        raise Answer(200, {"files": result})

    def commit(self, kind, name, revision):
        repository = self.repository(kind, name, write=True)
        files = dict(repository.files)
        for line in filter(None, self.body.split(b"\n")):
            item = json.loads(line)
            key, value = item["key"], item["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                if value["oid"] not in self.server_hub.objects:
                    raise Answer(400, {"error": f"{value['path']} was not uploaded"})
                files[value["path"]] = self.server_hub.objects[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
            elif key == "deletedFolder":
                start = value["path"].rstrip("/") + "/"
                files = {path: one for path, one in files.items() if not path.startswith(start)}
        sha = repository.commit(files)
        place = "" if kind == "model" else f"{kind}s/"
        url = f"{self.server_hub.url}/{place}{name}/commit/{sha}"
        raise Answer(200, {"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def lfs_batch(self, kind, name):
        self.repository(kind or "model", name, write=True)
        url, objects = self.server_hub.url, []
        for asked in json.loads(self.body)["objects"]:
            one = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.server_hub.objects:
                upload = {"href": f"{url}/lfs/{asked['oid']}", "header": {}}
                one["actions"] = {"upload": upload, "verify": {"href": f"{url}/lfs/verify"}}
            objects.append(one)
        raise Answer(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise Answer(400, {"error": "checksum does not match"})
        self.server_hub.objects[oid] = self.body
        raise Answer(200)

    def lfs_verify(self):
        if json.loads(self.body)["oid"] not in self.server_hub.objects:
            raise Answer(404, {"error": "object not found"})
        raise Answer(200, {})

    def lfs_get(self, oid):
        if "authorization" in self.headers:
            raise Answer(400, {"error": "storage got a token"})
        self.send_content(self.server_hub.objects[oid], {"ETag": f'"{oid}"'})

    def resolve(self, kind, name, revision, path):
        sha, files = self.files(kind or "model", name, revision)
        if path not in files:
            error = missing("Entry")
            error.headers["X-Repo-Commit"] = sha
            raise error
        entry = self.entry(path, files[path])
        headers = {"X-Repo-Commit": sha, "ETag": f'"{entry["oid"]}"'}
        if "lfs" in entry:
            self.server_hub.objects[entry["lfs"]["oid"]] = files[path]
            headers["X-Linked-Etag"] = f'"{entry["lfs"]["oid"]}"'
            headers["X-Linked-Size"] = str(len(files[path]))
            # Another host, as the Hub's storage is: the client must not send its token there.
            url = self.server_hub.url.replace("127.0.0.1", "localhost")
            headers["Location"] = f"{url}/cdn/{entry['lfs']['oid']}"
            raise Answer(302, b"", headers)
        self.send_content(files[path], headers)

    def send_content(self, content: bytes, headers: dict):
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        headers["Accept-Ranges"] = "bytes"
        if asked is None:
            headers["Content-Length"] = str(len(content))
            raise Answer(200, content, headers)
        start = int(asked[1])
        end = min(int(asked[2] or len(content) - 1), len(content) - 1)
        headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
        raise Answer(206, content[start : end + 1], headers)

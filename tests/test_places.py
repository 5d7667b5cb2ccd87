"""Photographs from and results to other places: S3, zip, tar, parquet, the web and IIIF."""

import io
import json
import tarfile
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from command_run import names, run, save
from fault_server import Door, serving
from PIL import Image

from pipeline_colorize.command import containers, places, web
from pipeline_colorize.photo import PhotoError

pytestmark = pytest.mark.usefixtures("pipe")


@pytest.fixture(autouse=True)
def in_a_hurry(monkeypatch, tmp_path):
    monkeypatch.setattr(places, "_PAUSE", 0.01)
    monkeypatch.setattr(web, "PAUSE", 0.0)
    monkeypatch.setattr(web, "_turns", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def encoded(shade=90, size=(24, 16)):
    buffer = io.BytesIO()
    Image.new("L", size, shade).save(buffer, "PNG")
    return buffer.getvalue()


# --- S3 ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3_port():
    pytest.importorskip("s3fs")
    pytest.importorskip("upath")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    yield server.get_host_and_port()[1]
    server.stop()


@pytest.fixture
def s3(s3_port, monkeypatch):
    """A bucket with an album of six, behind a door that can fail."""
    import s3fs

    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",  # so that this program's own tries are tested
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    with serving(Door(s3_port)) as door:
        monkeypatch.setenv("AWS_ENDPOINT_URL", door.address)
        s3fs.S3FileSystem.clear_instance_cache()
        files = s3fs.S3FileSystem()
        if files.exists("archive"):
            files.rm("archive", recursive=True)
        files.mkdir("archive")
        for index in range(6):
            files.pipe(
                f"archive/album/{'in/' if index > 3 else ''}{index}.png", encoded(30 * index)
            )
        files.invalidate_cache()
        door.files, door.seen, door.puts = files, [], 0
        yield door


def listed(s3):
    s3.files.invalidate_cache()
    return sorted(s3.files.find("archive/out"))


@pytest.mark.process
def test_from_s3_to_s3_and_again(s3):
    command = ("s3://archive/album", "-r", "-o", "s3://archive/out/")
    result = run(*command)
    assert result.exit_code == 0, result.output
    wanted = [f"archive/out/{name}.png" for name in ("0", "1", "2", "3", "in/4", "in/5")]
    assert listed(s3) == wanted
    assert Image.open(io.BytesIO(s3.files.cat(wanted[0]))).mode == "RGB"
    again = run(*command)
    assert "6 done already" in again.stderr


@pytest.mark.process
def test_a_cut_connection_and_a_503_are_tried_again(s3):
    s3.faults = [("GET", "cut"), ("GET", "503"), ("PUT", "503"), ("PUT", "cut")]
    result = run("s3://archive/album/*.png", "-o", "s3://archive/out/")
    assert result.exit_code == 0, result.output
    assert s3.faults == []
    for name in listed(s3):
        Image.open(io.BytesIO(s3.files.cat(name))).load()
    assert len(listed(s3)) == 4


@pytest.mark.process
def test_a_server_that_fails_leaves_nothing_half_and_a_second_run_finishes(s3):
    command = ("s3://archive/album", "-r", "-o", "s3://archive/out/", "--compare")
    s3.closed_after = 4
    result = run(*command)
    assert result.exit_code == 1 and "cannot be sent" in result.stderr
    before = listed(s3)
    assert len(before) == 4
    for name in before:
        Image.open(io.BytesIO(s3.files.cat(name))).load()
    s3.closed_after = None
    result = run(*command)
    assert result.exit_code == 0, result.output
    assert len(listed(s3)) == 12
    assert "2 done already" in result.stderr


@pytest.mark.process
@pytest.mark.parametrize("ending", ["tar", "zip", "parquet"])
def test_one_file_at_an_address(s3, ending, tmp_path):
    s3.closed_after = 0
    command = ("s3://archive/album", "-r", "-o", f"s3://archive/out/all.{ending}")
    result = run(*command)
    assert result.exit_code == 1 and "tries again" in result.stderr
    assert listed(s3) == []
    s3.closed_after = None
    result = run(*command)  # what was coloured is sent, not coloured again
    assert result.exit_code == 0 and "6 done already" in result.stderr
    assert listed(s3) == [f"archive/out/all.{ending}"]
    assert not list((tmp_path / "cache" / "pipeline-colorize").iterdir())
    back = run(f"s3://archive/out/all.{ending}", "-o", tmp_path / "back", "--recolor")
    # They are results, which a run over several leaves out.
    assert back.exit_code == 0 and back.stderr.count("made by this program") == 6


# --- files of many -------------------------------------------------------------------------------


def make_container(path, members):
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
            for name, data in members.items():
                member = tarfile.TarInfo(name)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("kind", ["album.tar", "album.zip"])
def test_members_go_to_a_folder_with_their_names(tmp_path, kind):
    members = {"000/a.png": encoded(), "000/a.json": b"{}", "b.png": encoded(9), "c.png": b"torn"}
    source = make_container(tmp_path / kind, members)
    result = run(source, "-o", tmp_path / "out")
    assert result.exit_code == 1 and f"{kind}, c.png: not a picture" in result.stderr
    assert names(tmp_path / "out") == ["000/a.png", "b.png"]
    assert "2 done already" in run(source, "-o", tmp_path / "out").stderr


@pytest.mark.parametrize("kind", ["album.tar", "album.zip"])
def test_names_that_lead_elsewhere_are_no_photographs(tmp_path, kind):
    evil = ("../x.png", "/tmp/x.png", "a/../../x.png", "..\\x.png", "C:x.png")
    source = make_container(tmp_path / kind, {name: encoded() for name in (*evil, "good.png")})
    assert containers.find_members(source) == ["good.png"]


def test_a_member_that_unpacks_to_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "LARGEST_FILE", 1000)
    source = make_container(tmp_path / "a.zip", {"a.png": bytes(5000)})
    result = run(source, "-o", tmp_path / "out")
    assert result.exit_code == 1 and "the limit" in result.stderr


@pytest.mark.parametrize("kind", ["album.tar", "album.zip"])
def test_a_file_that_was_cut_off(tmp_path, kind):
    source = make_container(tmp_path / kind, {f"{n}.png": encoded(n) for n in range(40)})
    source.write_bytes(source.read_bytes()[: 20_000 if kind.endswith("tar") else 2000])
    result = run(source, "-o", tmp_path / "out")
    assert result.exit_code == 1 and "Traceback" not in result.output


@pytest.mark.parametrize("ending", ["tar", "zip", "parquet"])
def test_results_in_one_file(album, tmp_path, ending):
    save(album / "1911" / "a.png")
    target = tmp_path / f"out.{ending}"
    result = run(album, "-r", "-o", target, "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout.splitlines()[0])["output"].startswith(f"{target}, ")
    assert names(tmp_path) == sorted([*(f"album/{n}" for n in names(album)), target.name])
    if ending == "parquet":
        from datasets import load_dataset

        rows = load_dataset(
            "parquet", data_files=str(target), cache_dir=str(tmp_path / "hf"), split="train"
        )
        assert len(rows) == 4 and rows[0]["image"].mode == "RGB"
    else:
        assert sorted(containers.find_members(target)) == ["1911/a.png", "a.png", "b.png", "c.png"]
    again = run(album, "-r", "-o", target)
    assert "4 done already" in again.stderr
    time.sleep(0.01)
    save(album / "a.png", shade=9)
    assert "4 colorized" in run(album, "-r", "-o", target).stderr


def test_each_part_of_the_work_has_a_file_of_its_own(album, tmp_path):
    for part in (1, 2):
        assert run(album, "-o", tmp_path / "out.tar", "--shard", f"{part}/2").exit_code == 0
    found = [containers.find_members(tmp_path / f"out-{part}-of-2.tar") for part in (1, 2)]
    assert sorted(found[0] + found[1]) == ["a.png", "b.png", "c.png"]


def test_zip_addresses(album, tmp_path):
    pytest.importorskip("upath")
    source = make_container(tmp_path / "x.zip", {"in/a.png": encoded(), "b.png": encoded()})
    result = run(f"zip://in/a.png::file://{source}", "-o", tmp_path / "out/")
    assert result.exit_code == 0, result.output
    assert names(tmp_path / "out") == ["a.png"]


def test_without_the_packages_a_message_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "upath", None)
    result = run("s3://bucket/a.png", "-o", tmp_path / "out/")
    assert result.exit_code == 1 and "pipeline-colorize[remote]" in result.stderr


# --- the web -------------------------------------------------------------------------------------


class Library(ThreadingHTTPServer):
    """A IIIF server that answers some requests with faults."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Shelf)
        self.faults, self.times, self.pages = [], [], {}

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request, client_address):
        pass


class _Shelf(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        server.times.append((time.monotonic(), self.path))
        fault = server.faults.pop(0) if server.faults else None
        data = server.pages.get(self.path)
        if data is None and "/full/" in self.path:
            data = encoded(60, (64, 48))
        self.send_response(fault if isinstance(fault, int) else 200 if data else 404)
        if isinstance(fault, int):
            self.send_header("Retry-After", "1")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        data = data or b""
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:20] if fault == "cut" else data)


@pytest.fixture
def library():
    with serving(Library()) as server:
        base = f"{server.address}/iiif/page"
        service3 = {"id": f"{base}1", "type": "ImageService3"}
        service2 = {"@id": f"{base}2", "@context": "http://iiif.io/api/image/2/context.json"}
        bodies = [{"id": "x", "service": [service3]}, {"id": "y", "service": service2}]
        bodies.append({"id": f"{server.address}/full/plain.png"})
        items = [{"items": [{"items": [{"body": body}]}]} for body in bodies]
        canvases = [{"images": [{"resource": body}]} for body in bodies[:2]]
        server.pages["/3/manifest.json"] = json.dumps({"items": items}).encode()
        server.pages["/2/manifest"] = json.dumps({"sequences": [{"canvases": canvases}]}).encode()
        server.pages["/iiif/page1/info.json"] = json.dumps(service3).encode()
        server.pages["/photo.png"] = encoded()
        yield server


def asked(library):
    return [path for _, path in library.times]


def test_a_manifest_in_full_and_small(library, tmp_path):
    result = run(f"{library.address}/3/manifest.json", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert names(tmp_path / "out") == ["page1.jpg", "page2.jpg", "plain.png"]
    assert "/iiif/page1/full/max/0/default.jpg" in asked(library)
    assert "/iiif/page2/full/full/0/default.jpg" in asked(library)
    small = web.find(f"{library.address}/2/manifest", small=True)
    assert [one.address.partition("/iiif")[2] for one in small] == [
        "/page1/full/!512,512/0/default.jpg",
        "/page2/full/!512,512/0/default.jpg",
    ]


@pytest.mark.parametrize(
    "path, small, wanted",
    [
        ("/iiif/a%2Fb/full/max/0/default.jpg", True, "/iiif/a%2Fb/full/!512,512/0/default.jpg"),
        ("/iiif/b/full/!300,300/0/gray.png", True, "/iiif/b/full/!300,300/0/gray.png"),
        ("/iiif/b/0,0,9,9/max/0/default.jpg", False, "/iiif/b/0,0,9,9/max/0/default.jpg"),
        ("/iiif/page1/info.json", False, "/iiif/page1/full/max/0/default.jpg"),
        ("/photo.png", True, "/photo.png"),
    ],
)
def test_addresses_of_images(library, path, small, wanted):
    (found,) = web.find(library.address + path, small)
    assert found.address == library.address + wanted
    assert "/" not in found.name and found.suffix in (".jpg", ".png")


def test_a_busy_server_is_asked_again_when_it_says_so(library, tmp_path):
    library.faults = [429, 503, "cut"]
    result = run(f"{library.address}/photo.png", "-o", tmp_path / "out/")
    assert result.exit_code == 0, result.output
    gaps = np.diff([moment for moment, _ in library.times])
    assert len(gaps) == 3 and gaps[0] >= 0.99 and gaps[1] >= 0.99
    assert np.asarray(Image.open(tmp_path / "out" / "photo.png")).shape == (16, 24, 3)


def test_requests_keep_their_distance(library, monkeypatch):
    monkeypatch.setattr(web, "PAUSE", 0.8)
    for _ in range(3):
        web.fetch(f"{library.address}/photo.png", 10_000)
    moments = [moment for moment, _ in library.times]
    assert np.diff(moments).min() > 0.4  # a busy machine may notice a request late


@pytest.mark.parametrize(
    "seconds, header",
    [
        (2.0, "2"),
        (300.0, "9999"),
        (1.0, "soon"),
        (1.0, None),
        (0.0, "Sun, 06 Nov 1994 08:49:37 GMT"),
    ],
)
def test_what_a_server_asks_for(seconds, header):
    assert web._asked_for(header, 1.0) == seconds


def test_what_is_not_there_or_too_large(library, tmp_path):
    result = run(f"{library.address}/nothing.png", "-o", tmp_path / "out/")
    assert result.exit_code == 1 and "404" in result.stderr
    with pytest.raises(PhotoError, match="the limit"):
        web.fetch(f"{library.address}/photo.png", 10)
    library.pages["/bad/manifest.json"] = b'{"items": 3}'
    result = run(f"{library.address}/bad/manifest.json", "-o", tmp_path / "out/")
    assert result.exit_code == 1 and "no manifest" in result.stderr
    assert run(f"{library.address}/photo.png").exit_code == 2  # there is no beside

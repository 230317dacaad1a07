"""helpers.download against a web server on loopback: bad mirrors, broken files, resuming; no outside network."""

import gzip
import hashlib
import http.server
import io
import os
import struct
import tarfile
import threading
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from helpers import download

BODY = bytes(range(256)) * 1200
SHA = hashlib.sha256(BODY).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """The first folder of the address says how the server behaves."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_GET(self):
        way, name = self.path.strip("/").split("/", 1)
        asked = self.headers.get("Range")
        self.server.seen.append((way, name, asked))
        if way.isdigit():
            return self.send_error(int(way))
        if way == "circle":
            self.send_response(302)
            self.send_header("Location", self.path)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        body = self.server.files.get(name)
        if body is None:
            return self.send_error(404)
        body = body[::-1] if way == "corrupt" else body
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked and way != "norange" else 0
        if start >= len(body) > 0:
            return self.send_error(416)
        start = start // 2 if way == "wrongrange" else start
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        announced = {"long": 99, "short": -99, "flood": 1 << 40}.get(way, 0)
        if way != "endless":
            self.send_header("Content-Length", str(len(body) - start + announced))
        self.end_headers()
        self.close_connection = True
        if way == "stall":
            self.wfile.write(body[start : start + 5000])
            return self.server.enough.wait(20)
        end = {"truncated": len(body) // 2, "trickle": start + 10}.get(way)
        try:
            self.wfile.write(body[start:end])
            while way in ("flood", "endless", "trickle") and not self.server.enough.wait(0.05 * (way == "trickle")):
                self.wfile.write(body[: 1 if way == "trickle" else None])
        except OSError:
            pass  # the other side has had enough


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.seen, server.enough = {"a.bin": BODY}, [], threading.Event()
    server.at = lambda *ways: [f"http://127.0.0.1:{server.server_port}/{way}" for way in ways]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.enough.set()
    server.shutdown()
    server.server_close()


def test_a_file_is_fetched_once_and_then_used_without_the_network(web, tmp_path):
    path = download.get("a.bin", SHA, tmp_path / "new", web.at("good"))
    assert path == tmp_path / "new" / "a.bin" and path.read_bytes() == BODY
    assert download.get("a.bin", SHA, tmp_path / "new", web.at("good")) == path
    assert len(web.seen) == 1


def test_a_file_in_a_folder_that_cannot_be_written_is_used(web, tmp_path):
    (tmp_path / "a.bin").write_bytes(BODY)
    tmp_path.chmod(0o555)
    try:
        assert download.get("a.bin", SHA, tmp_path, []).read_bytes() == BODY
        assert os.listdir(tmp_path) == ["a.bin"]
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.parametrize("way", ["404", "403", "500", "corrupt"])
def test_the_next_mirror_is_tried(web, tmp_path, way):
    assert download.get("a.bin", SHA, tmp_path, web.at(way, "good")).read_bytes() == BODY
    assert [seen[0] for seen in web.seen] == [way, "good"]


def test_a_download_that_broke_off_is_continued(web, tmp_path):
    assert download.get("a.bin", SHA, tmp_path, web.at("truncated", "good")).read_bytes() == BODY
    assert web.seen == [("truncated", "a.bin", None), ("good", "a.bin", f"bytes={len(BODY) // 2}-")]
    assert not (tmp_path / "a.bin.part").exists()


@pytest.mark.parametrize("left, ways", [(BODY[:100], ["norange"]), (BODY + b"more", ["good"])])
def test_a_server_that_cannot_continue_starts_again(web, tmp_path, left, ways):
    (tmp_path / "a.bin.part").write_bytes(left)
    assert download.get("a.bin", SHA, tmp_path, web.at(*ways)).read_bytes() == BODY


def test_a_wrong_rest_is_thrown_away_and_the_next_mirror_starts_again(web, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(b"x" * 100)
    assert download.get("a.bin", SHA, tmp_path, web.at("good", "good")).read_bytes() == BODY
    assert [seen[2] for seen in web.seen] == ["bytes=100-", None]


@pytest.mark.parametrize("way", ["good", "norange", "wrongrange"])
def test_a_wrong_beginning_does_not_poison_a_single_mirror(web, tmp_path, way):
    (tmp_path / "a.bin.part").write_bytes(b"x" * 5000)
    assert download.get("a.bin", SHA, tmp_path, web.at(way)).read_bytes() == BODY
    assert set(os.listdir(tmp_path)) - {"a.bin.lock"} == {"a.bin"}  # some versions of filelock leave theirs


def test_a_rest_that_begins_elsewhere_is_not_joined(web, tmp_path):
    (tmp_path / "a.bin.part").write_bytes(BODY[:5000])
    assert download.get("a.bin", SHA, tmp_path, web.at("wrongrange")).read_bytes() == BODY
    assert [seen[2] for seen in web.seen] == ["bytes=5000-", None]


BAD = {
    "circle": "sends one from address to address in a circle",
    "stall": "did not answer in time",
    "trickle": "did not answer in time",
    "long": "broke off in the middle of the file",
    "short": "sent a file with another SHA-256",
    "flood": "sent more than 500,000 bytes",
    "endless": "sent more than 500,000 bytes",
}


@pytest.mark.parametrize("way", BAD)
def test_a_bad_server_is_left_for_the_next_mirror_in_good_time(web, tmp_path, monkeypatch, way):
    monkeypatch.setattr(download, "TIMEOUT", (2, 0.5))
    monkeypatch.setattr(download, "SLOWEST", 10_000_000)
    monkeypatch.setattr(download, "MOST_BYTES", 500_000)
    began = time.monotonic()
    with pytest.raises(OSError) as caught:
        download.get("a.bin", SHA, tmp_path, web.at(way))
    assert f"{way} {BAD[way]}. Try again later" in str(caught.value)
    assert not (tmp_path / "a.bin").exists() and time.monotonic() - began < 15
    monkeypatch.setattr(download, "SLOWEST", 1000)
    assert download.get("a.bin", SHA, tmp_path, web.at(way, "good")).read_bytes() == BODY
    assert set(os.listdir(tmp_path)) - {"a.bin.lock"} == {"a.bin"}  # some versions of filelock leave theirs


def test_another_process_is_not_waited_for_without_end(web, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "WAIT", 0.2)
    with FileLock(tmp_path / "a.bin.lock"), pytest.raises(OSError, match=r"cannot be written \(The file lock .*\)"):
        download.get("a.bin", SHA, tmp_path, web.at("good"))


def test_a_full_disk_is_one_sentence(web, tmp_path):
    resource = pytest.importorskip("resource", reason="this system has no limit on the size of files")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # to a program, the same as a full disk
    try:
        with pytest.raises(OSError) as caught:
            download.get("a.bin", SHA, tmp_path, web.at("good"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value) == (
        f"{tmp_path / 'a.bin'} is not there and could not be downloaded: the folder cannot be written (File too large)."
        f" Try again later, or put the file there by hand (SHA-256 {SHA[:12]}…)."
    )
    assert not (tmp_path / "a.bin").exists()
    assert download.get("a.bin", SHA, tmp_path, web.at("good")).read_bytes() == BODY
    assert [seen[2] for seen in web.seen] == [None, "bytes=100000-"]


def test_a_damaged_file_is_replaced(web, tmp_path):
    (tmp_path / "a.bin").write_bytes(BODY[:-1])
    assert download.get("a.bin", SHA, tmp_path, web.at("good")).read_bytes() == BODY


def test_failure_is_one_sentence_with_every_answer_and_leaves_no_file(web, tmp_path):
    mirrors = [*web.at("403", "404", "500", "corrupt", "truncated"), "http://127.0.0.1:1/closed"]
    with pytest.raises(OSError) as caught:
        download.get("a.bin", SHA, tmp_path, mirrors)
    first, second, third, fourth, fifth, sixth = mirrors
    assert str(caught.value) == (
        f"{tmp_path / 'a.bin'} is not there and could not be downloaded: {first} answered 403 Forbidden; "
        f"{second} answered 404 Not Found; {third} answered 500 Internal Server Error; {fourth} sent a file with "
        f"another SHA-256; {fifth} broke off in the middle of the file; {sixth} could not be reached. "
        f"Try again later, or put the file there by hand (SHA-256 {SHA[:12]}…)."
    )
    assert not (tmp_path / "a.bin").exists()


def test_failure_keeps_a_damaged_file_and_says_so(web, tmp_path):
    (tmp_path / "a.bin").write_bytes(b"mine")
    with pytest.raises(OSError, match=r"a.bin is damaged \(its SHA-256 is not the expected one\) and could not be dow"):
        download.get("a.bin", SHA, tmp_path, web.at("404"))
    assert (tmp_path / "a.bin").read_bytes() == b"mine"


def test_a_folder_that_is_a_file_is_one_sentence(web, tmp_path):
    (tmp_path / "taken").write_text("")
    with pytest.raises(OSError, match=r"could not be downloaded: the folder cannot be written \(.*\)\. Try again"):
        download.get("a.bin", SHA, tmp_path / "taken", web.at("good"))


def test_several_processes_may_ask_at_once(web, tmp_path):
    done = []
    ask = [
        threading.Thread(target=lambda: done.append(download.get("a.bin", SHA, tmp_path, web.at("good"))))
        for _ in range(4)
    ]
    for thread in ask:
        thread.start()
    for thread in ask:
        thread.join(20)
    assert len(done) == 4 and len(web.seen) == 1


def idx(array: np.ndarray, head=b"\0\0\x08", more=b"") -> bytes:
    sides = struct.pack(f">{array.ndim}I", *array.shape)
    return gzip.compress(head + bytes([array.ndim]) + sides + array.tobytes() + more)


PICTURES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def test_read_idx_gives_back_what_was_written(tmp_path):
    (tmp_path / "a.gz").write_bytes(idx(PICTURES))
    assert np.array_equal(download.read_idx(tmp_path / "a.gz"), PICTURES)


@pytest.mark.parametrize(
    "raw, sentence",
    [
        (idx(PICTURES)[:-9], r"is not a complete gzip file \(.*\); delete it and load the set again\.$"),
        (b"plain bytes", r"is not a complete gzip file \(Not a gzipped file .*\); delete it and load the set again\.$"),
        (idx(PICTURES, b"\0\0\x0d"), r"is not an IDX file of bytes \(it starts with '00000d03'\); delete it"),
        (gzip.compress(b"\0\0\x08"), r"is not an IDX file of bytes \(it starts with '000008'\); delete it"),
        (gzip.compress(gzip.decompress(idx(PICTURES))[:-1]), r"announces 24 bytes of shape \(2, 3, 4\) but holds 23;"),
        (gzip.compress(b"\0\0\x08\x04" + b"\xff" * 16), r"announces \d{30,} bytes of shape .* but holds 0; delete it"),
        (idx(PICTURES, more=b"x"), r"announces 24 bytes of shape \(2, 3, 4\) but holds 24 and more; delete it"),
        (gzip.compress(b"\0\0\x08\x02\0\0"), r"is not an IDX file of bytes \(it starts with '00000802'\); delete it"),
    ],
)
def test_read_idx_says_what_is_wrong(tmp_path, raw, sentence):
    (tmp_path / "a.gz").write_bytes(raw)
    with pytest.raises(ValueError, match=sentence):
        download.read_idx(tmp_path / "a.gz")


def cifar(path: Path, *, rows=2, cut=0, drop=None, label=None) -> np.ndarray:
    records = np.random.default_rng(0).integers(0, 256, (6, rows, 3073), dtype=np.uint8)
    records[..., 0] %= 10
    if label is not None:
        records[0, 0, 0] = label
    with tarfile.open(path, "w:gz") as archive:
        for i, name in enumerate([*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]):
            if name == drop:
                continue
            raw = records[i].tobytes()[: rows * 3073 - cut]
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(raw)
            archive.addfile(member, io.BytesIO(raw))
    return records


def test_read_cifar_keeps_order_and_channels(tmp_path):
    records = cifar(tmp_path / "c.tar.gz")
    x, y, x_test, y_test = download.read_cifar(tmp_path / "c.tar.gz")
    assert x.shape == (10, 3, 32, 32) and x_test.shape == (2, 3, 32, 32)
    assert np.array_equal(x[3].ravel(), records[1, 1, 1:]) and y[3] == records[1, 1, 0]
    assert np.array_equal(y_test, records[5, :, 0])
    assert np.array_equal(x[0, 1], records[0, 0, 1 + 1024 : 1 + 2048].reshape(32, 32))  # the green plane


@pytest.mark.parametrize(
    "fault, sentence",
    [
        (dict(cut=1), "holds a batch that is not made of records of 3,073 bytes; delete it and load the set again."),
        (dict(label=11), "holds the label 11, but labels go from 0 to 9; delete it and load the set again."),
        (dict(drop="data_batch_4.bin"), "is not the CIFAR-10 binary archive (filename 'cifar-10-batches-bin/"
         "data_batch_4.bin' not found); delete it and load the set again."),
    ],
)  # fmt: skip
def test_read_cifar_says_what_is_wrong(tmp_path, fault, sentence):
    path = tmp_path / "c.tar.gz"
    cifar(path, **fault)
    with pytest.raises(ValueError) as caught:
        download.read_cifar(path)
    assert str(caught.value) == f"{path} {sentence}"


@pytest.mark.parametrize("raw", [b"", b"no archive at all", gzip.compress(b"no archive" * 99)])
def test_read_cifar_refuses_what_is_no_archive(tmp_path, raw):
    (tmp_path / "c.tar.gz").write_bytes(raw)
    with pytest.raises(ValueError, match=r"c.tar.gz is not the CIFAR-10 binary archive \(.*\); delete it and load"):
        download.read_cifar(tmp_path / "c.tar.gz")


def zeros(n: int) -> bytes:
    """A gzip stream of n zeros that is a thousandth as long."""
    return gzip.compress(b"\0" * (1 << 20), 9) * (n >> 20)


@pytest.fixture
def memory():
    """memory() -> the most bytes that Python has held since the test began."""
    tracemalloc.start()
    yield lambda: tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()


def test_a_gzip_bomb_is_not_unpacked(tmp_path, memory):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 100)) + zeros(3 << 30))
    with pytest.raises(ValueError, match=r"announces 100 bytes of shape \(100,\) but holds 100 and more; delete it"):
        download.read_idx(tmp_path / "a.gz")
    assert memory() < 50 << 20


def test_a_bomb_in_the_header_of_an_archive_is_not_unpacked(tmp_path, memory):
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 3 << 30
    (tmp_path / "c.tar.gz").write_bytes(gzip.compress(header.tobuf()) + zeros(3 << 30))
    with pytest.raises(ValueError, match=r"binary archive \(it unpacks to more than 268,435,456 bytes\); delete it"):
        download.read_cifar(tmp_path / "c.tar.gz")
    assert memory() < 50 << 20


def test_a_bomb_among_the_members_of_an_archive_is_not_unpacked(tmp_path, memory):
    member = tarfile.TarInfo("cifar-10-batches-bin/data_batch_1.bin")
    member.size = 3 << 30
    (tmp_path / "c.tar.gz").write_bytes(gzip.compress(member.tobuf()) + zeros(3 << 30))
    with pytest.raises(ValueError, match=r"binary archive \(it unpacks to more than 268,435,456 bytes\); delete it"):
        download.read_cifar(tmp_path / "c.tar.gz")
    assert memory() < 50 << 20


def archive_of(path: Path, **first) -> Path:
    """A CIFAR-10 archive whose first batch is made otherwise, and which tries to climb out of its folder."""
    with tarfile.open(path, "w:gz") as archive:
        for i, name in enumerate([*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]):
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = 3073
            for key, value in first.items() if i == 0 else ():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(bytes(3073)) if member.isreg() else None)
        for name in ("../../climbed", "/tmp/climbed", "cifar-10-batches-bin/../climbed"):
            member = tarfile.TarInfo(name)
            member.size = 4
            archive.addfile(member, io.BytesIO(b"evil"))
    return path


def test_members_that_climb_out_are_never_written(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    x, *_ = download.read_cifar(archive_of(tmp_path / "a" / "b" / "c.tar.gz"))
    assert len(x) == 5 and sorted(p.name for p in tmp_path.rglob("*")) == ["a", "b", "c.tar.gz"]


@pytest.mark.parametrize(
    "first",
    [
        dict(type=tarfile.SYMTYPE, linkname="/etc/passwd", size=0),
        dict(type=tarfile.SYMTYPE, linkname="data_batch_1.bin", size=0),  # to itself
        dict(type=tarfile.SYMTYPE, linkname="data_batch_2.bin", size=0),
        dict(type=tarfile.LNKTYPE, linkname="/etc/passwd", size=0),
        dict(type=tarfile.FIFOTYPE, size=0),
        dict(type=tarfile.DIRTYPE, size=0),
    ],
)
def test_links_and_devices_in_an_archive_are_refused(tmp_path, first):
    with pytest.raises(ValueError, match=r"CIFAR-10 binary archive \(a batch is a link or no plain file\); delete"):
        download.read_cifar(archive_of(tmp_path / "c.tar.gz", **first))


@pytest.mark.parametrize("keep", [0.2, 0.5, 0.9, 0.99])
def test_an_archive_that_is_cut_short_is_refused(tmp_path, keep):
    cifar(tmp_path / "c.tar.gz", rows=20)
    whole = (tmp_path / "c.tar.gz").read_bytes()
    (tmp_path / "c.tar.gz").write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(ValueError, match=r"c.tar.gz is not the CIFAR-10 binary archive \(.*\); delete it and load"):
        download.read_cifar(tmp_path / "c.tar.gz")


@pytest.fixture
def tiny(web, monkeypatch):
    """A MNIST of 30 + 10 images and a CIFAR-10 of 10 + 2 on the server."""
    rng = np.random.default_rng(0)
    made = {}
    for part, n in (("train", 30), ("t10k", 10)):
        made[f"{part}-images-idx3-ubyte.gz"] = rng.integers(0, 256, (n, 28, 28), dtype=np.uint8)
        made[f"{part}-labels-idx1-ubyte.gz"] = np.arange(n, dtype=np.uint8) % 10
    web.files |= {name: idx(array) for name, array in made.items()}
    sums = [hashlib.sha256(web.files[name]).hexdigest() for name in download.IDX]
    monkeypatch.setitem(download.SHA256, "mnist", sums)
    monkeypatch.setitem(download.MIRRORS, "mnist", web.at("404", "good"))
    return made


def test_fetch_gives_four_arrays_in_the_folder_that_the_variable_names(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("TRICKS_DATA", str(tmp_path))
    x, y, x_test, y_test = download.fetch("mnist")
    assert np.array_equal(x[:, 0], tiny["train-images-idx3-ubyte.gz"]) and x.shape == (30, 1, 28, 28)
    assert y.dtype == y_test.dtype == np.int64 and y_test.tolist() == list(range(10))
    assert sorted(p.name for p in (tmp_path / "mnist").glob("*.gz")) == sorted(download.IDX)


def test_fetch_refuses_images_and_labels_that_do_not_fit(tiny, web, tmp_path, monkeypatch):
    web.files["train-labels-idx1-ubyte.gz"] = idx(np.zeros(29, np.uint8))
    sums = [hashlib.sha256(web.files[name]).hexdigest() for name in download.IDX]
    monkeypatch.setitem(download.SHA256, "mnist", sums)
    with pytest.raises(ValueError, match=r"holds shape \(30, 28, 28\) but its labels have shape \(29,\); delete both"):
        download.fetch("mnist", folder=tmp_path)


def test_fetch_reads_cifar(web, tmp_path, monkeypatch):
    cifar(tmp_path / "c.tar.gz")
    web.files[download.ARCHIVE] = (tmp_path / "c.tar.gz").read_bytes()
    monkeypatch.setitem(download.SHA256, "cifar10", [hashlib.sha256(web.files[download.ARCHIVE]).hexdigest()])
    x, y, x_test, y_test = download.fetch("cifar10", folder=tmp_path, mirrors=web.at("good"))
    assert x.shape == (10, 3, 32, 32) and y.shape == (10,) and len(x_test) == len(y_test) == 2


def test_an_unknown_name_is_one_sentence():
    with pytest.raises(ValueError, match="^name='mnits' is not known; .* Did you mean 'mnist'\\?$"):
        download.fetch("mnits")


def test_home_is_the_named_folder_or_the_cache(monkeypatch):
    monkeypatch.setenv("TRICKS_DATA", "/some/where")
    assert download.home() == Path("/some/where")
    monkeypatch.delenv("TRICKS_DATA")
    assert download.home().name == "training-tricks"


def real_folder() -> Path:
    return Path(os.environ.get("TRICKS_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


@pytest.mark.parametrize("name, first", [("mnist", [5, 0, 4, 1, 9]), ("fashion_mnist", [9, 0, 0, 3, 0])])
def test_the_real_files_match_their_sums(name, first):
    if not (real_folder() / download.FOLDER[name]).is_dir():
        pytest.skip(f"no folder {real_folder() / download.FOLDER[name]}: name one that has it in TRICKS_TEST_DATA")
    x, y, x_test, y_test = download.fetch(name, folder=real_folder(), mirrors=["http://127.0.0.1:1"])
    assert x.shape == (60000, 1, 28, 28) and x_test.shape == (10000, 1, 28, 28)
    assert y[:5].tolist() == first and np.bincount(y_test).min() == {"mnist": 892, "fashion_mnist": 1000}[name]

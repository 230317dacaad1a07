"""MNIST, Fashion-MNIST and CIFAR-10: fetched once, checked by SHA-256, kept in a folder.

The files go to the folder named by the environment variable TRICKS_DATA, else to the cache folder
of your system. Mirrors are tried in turn; a download that broke off is continued, not restarted.
Nothing is unpickled: CIFAR-10 is read from its binary version.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import time
import zlib
from pathlib import Path

import numpy as np

from helpers import checks

TIMEOUT = (10, 60)  # seconds to wait for a connection, and for the next bytes
SLOWEST = 1000  # bytes a second; a server that stays below it for the second of these times is given up
WAIT = 1800  # seconds to wait for another process that fetches the same file
MOST_BYTES = 256 << 20  # no file of these sets is as large, packed or unpacked

NAMES = ("mnist", "fashion_mnist", "cifar10")
FOLDER = {"mnist": "mnist", "fashion_mnist": "fashion-mnist", "cifar10": "cifar-10"}
IDX = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
ARCHIVE = "cifar-10-binary.tar.gz"
_CLOUD = "https://storage.googleapis.com"

MIRRORS = {
    "mnist": ("https://ossci-datasets.s3.amazonaws.com/mnist", f"{_CLOUD}/cvdf-datasets/mnist"),
    "fashion_mnist": (
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
        f"{_CLOUD}/tensorflow/tf-keras-datasets",
    ),
    "cifar10": (
        "https://www.cs.toronto.edu/~kriz",
        "https://cave.cs.toronto.edu/kriz",
        f"{_CLOUD}/s4tf-hosted-binaries/datasets/CIFAR10",
    ),
}

# CIFAR-10: several public loaders of the binary archive pin this value, next to the MD5 that the authors' page gives.
SHA256 = {
    "mnist": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    "fashion_mnist": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
    "cifar10": ("c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",),
}

CLASSES = {
    "mnist": list("0123456789"),
    "fashion_mnist": "T-shirt,trouser,pullover,dress,coat,sandal,shirt,sneaker,bag,ankle boot".split(","),
    "cifar10": "airplane automobile bird cat deer dog frog horse ship truck".split(),
}
ABOUT = {
    "mnist": "MNIST: handwritten digits (LeCun, Bottou, Bengio and Haffner 1998)",
    "fashion_mnist": "Fashion-MNIST: photographs of clothes (Xiao, Rasul and Vollgraf 2017)",
    "cifar10": "CIFAR-10: small colour photographs (Krizhevsky 2009)",
}


def home() -> Path:
    """The folder that keeps the files: TRICKS_DATA, or the cache folder of your system."""
    import pooch

    return Path(os.environ.get("TRICKS_DATA") or pooch.os_cache("training-tricks")).expanduser()


def _continue(url: str, output_file, _pooch) -> None:
    """Download url to output_file; what an earlier try left in `<file>.part` is kept and continued."""
    import requests

    part = Path(output_file).with_name(Path(url).name + ".part")
    have = part.stat().st_size if part.exists() else 0
    for start in (have, 0) if have else (0,):
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            rest = answer.status_code == 206 and answer.headers.get("Content-Range", "").startswith(f"bytes {start}-")
            if start and answer.status_code in (206, 416) and not rest:  # another part, or none: begin again
                continue
            answer.raise_for_status()
            with part.open("ab" if start and rest else "wb") as file:
                _receive(answer.raw, file)
        break
    os.replace(part, output_file)


class TooLong(ValueError):
    """A server sent more than a file of these sets can be."""


def _receive(raw, file) -> None:
    """Write what comes to file; raises requests' errors for a server that stalls, trickles, breaks off or floods."""
    import requests
    import urllib3

    began, got = time.monotonic(), file.tell()
    try:
        while piece := raw.read1(1 << 16):
            got += file.write(piece)
            waited = time.monotonic() - began
            if waited > TIMEOUT[1] and got < SLOWEST * waited:
                raise requests.Timeout
            if got > MOST_BYTES:
                raise TooLong
    except urllib3.exceptions.TimeoutError as error:
        raise requests.Timeout from error
    except urllib3.exceptions.HTTPError as error:
        raise requests.exceptions.ChunkedEncodingError from error
    finally:
        if got > MOST_BYTES:
            file.truncate(0)


def get(file: str, sha256: str, folder, mirrors) -> Path:
    """Return the path of `folder/file`, fetched from the first mirror that gives the right bytes.

    A file that is there with the right SHA-256 is used as it is, and nothing is asked of the network.
    A file appears under its name only when it is complete and checked. Raises OSError with one
    sentence: the file, what each mirror answered, and what you can do.
    """
    import pooch
    import requests
    from filelock import FileLock

    path, tried = checks.path("folder", folder) / file, []
    damaged = path.exists()
    try:
        if path.is_file() and pooch.file_hash(str(path)) == sha256:
            return path
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=WAIT):  # chapters are built side by side
            for mirror in mirrors:
                continued = path.with_name(f"{file}.part").exists()
                for again in (True, False) if continued else (False,):
                    try:
                        pooch.retrieve(f"{mirror}/{file}", sha256, file, str(path.parent), downloader=_continue)
                        return path
                    except (requests.RequestException, ValueError) as error:
                        if again and not isinstance(error, requests.RequestException):
                            continue  # what was there does not fit what came: once more from the beginning
                        tried.append(f"{mirror} {_answer(error)}")
                        break
    except OSError as error:
        tried.append(f"the folder cannot be written ({error.strerror or error})")
    state = "is damaged (its SHA-256 is not the expected one) and" if damaged else "is not there and"
    raise OSError(
        f"{checks.place(path)} {state} could not be downloaded: {'; '.join(tried) or 'there is no mirror to ask'}. "
        f"Try again later, or put the file there by hand (SHA-256 {sha256[:12]}…)."
    )


def _answer(error: Exception) -> str:
    """What a mirror did, in a few words."""
    import requests

    if isinstance(error, requests.HTTPError):
        return f"answered {error.response.status_code} {error.response.reason[:60]}".rstrip()
    kinds = {
        requests.Timeout: "did not answer in time",
        requests.TooManyRedirects: "sends one from address to address in a circle",
        requests.exceptions.ChunkedEncodingError: "broke off in the middle of the file",
        TooLong: f"sent more than {MOST_BYTES:,} bytes",
        requests.RequestException: "could not be reached",
    }
    return next((said for kind, said in kinds.items() if isinstance(error, kind)), "sent a file with another SHA-256")


def read_idx(path) -> np.ndarray:
    """Read a gzipped IDX file of bytes (the format of MNIST): uint8, any number of dimensions.

    Raises ValueError with one sentence if it is no such file, is cut short, or is too long.
    """
    path, advice = checks.path("path", path), "delete it and load the set again"
    place = checks.place(path)
    try:
        with gzip.open(path) as file:
            head = file.read(4)
            sides = file.read(4 * head[3]) if head[:3] == b"\0\0\x08" and len(head) == 4 and 1 <= head[3] <= 4 else b""
            shape = tuple(int(side) for side in np.frombuffer(sides[: len(sides) // 4 * 4], ">u4"))
            want = int(np.prod(shape, dtype=object))
            raw = file.read(min(want, MOST_BYTES) + 1)  # one more than it should hold: a bomb is never unpacked
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{place} is not a complete gzip file ({error}); {advice}.") from error
    if not sides or len(shape) != head[3]:
        raise ValueError(f"{place} is not an IDX file of bytes (it starts with {head.hex()!r}); {advice}.")
    if want != len(raw):
        got = f"{want} and more" if len(raw) > want else len(raw)
        raise ValueError(f"{place} announces {want} bytes of shape {shape} but holds {got}; {advice}.")
    return np.frombuffer(raw, np.uint8).reshape(shape)


class _Capped:
    """A file from which no more than MOST_BYTES can be read, whatever it announces: for bombs in an archive."""

    def __init__(self, file):
        self.file, self.tell = file, file.tell

    def read(self, size: int = -1) -> bytes:
        if size < 0 or self.tell() + size > MOST_BYTES:
            raise tarfile.TarError(f"it unpacks to more than {MOST_BYTES:,} bytes")
        return self.file.read(size)

    def seek(self, place: int, whence: int = 0) -> int:
        if whence or place > MOST_BYTES:
            raise tarfile.TarError(f"it unpacks to more than {MOST_BYTES:,} bytes")
        return self.file.seek(place)


def read_cifar(path):
    """Read the binary version of CIFAR-10: x (n, 3, 32, 32) uint8, y (n,) uint8, x_test, y_test.

    A record is one label byte and 3,072 pixel bytes. Nothing is unpacked to disk, and only plain files of the archive
    are looked at. Raises ValueError with one sentence if a member is missing or has the wrong form.
    """
    path, advice = checks.path("path", path), "delete it and load the set again"
    place = checks.place(path)
    names = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
    done = []
    try:
        with gzip.open(path) as file, tarfile.open(fileobj=_Capped(file), mode="r:") as archive:
            for files in names.values():
                members = [archive.getmember(f"cifar-10-batches-bin/{file}") for file in files]
                if not all(member.isreg() and not member.issparse() for member in members):
                    raise tarfile.TarError("a batch is a link or no plain file")
                raw = [archive.extractfile(member).read() for member in members]
                if any(len(r) % 3073 or not r for r in raw):
                    raise ValueError(f"{place} holds a batch that is not made of records of 3,073 bytes; {advice}.")
                rows = np.frombuffer(b"".join(raw), np.uint8).reshape(-1, 3073)
                if (most := rows[:, 0].max()) > 9:
                    raise ValueError(f"{place} holds the label {most}, but labels go from 0 to 9; {advice}.")
                done += [rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]]
    except (tarfile.TarError, EOFError, OSError, zlib.error, KeyError) as error:
        reason = " ".join(str(error.args[0] if error.args else type(error).__name__).split())
        raise ValueError(f"{place} is not the CIFAR-10 binary archive ({reason}); {advice}.") from error
    return tuple(done)


def fetch(name: str, *, folder=None, mirrors=None):
    """Return x (n, c, h, w) uint8, y (n,) int64, x_test, y_test of "mnist", "fashion_mnist" or "cifar10".

    folder    where the files are kept, see `home`
    mirrors   addresses to try in turn instead of MIRRORS[name]

    Raises OSError if a file cannot be had (see `get`), ValueError if one cannot be read.
    """
    checks.one_of("name", name, NAMES)
    place = (home() if folder is None else checks.path("folder", folder)) / FOLDER[name]
    mirrors = MIRRORS[name] if mirrors is None else checks.several("mirrors", mirrors, "['https://...']", empty=True)
    for mirror in mirrors:
        if not str(mirror).startswith(("http://", "https://")):
            raise ValueError(
                f"mirrors holds {checks.show(mirror)}; give addresses that begin with https:// or http://."
            )
    files = (ARCHIVE,) if name == "cifar10" else IDX
    paths = [get(f, s, place, mirrors) for f, s in zip(files, SHA256[name], strict=True)]
    if name == "cifar10":
        x, y, x_test, y_test = read_cifar(paths[0])
    else:
        x, y, x_test, y_test = map(read_idx, paths)
        for images, labels, path in ((x, y, paths[0]), (x_test, y_test, paths[2])):
            if images.ndim != 3 or labels.shape != images.shape[:1]:
                raise ValueError(
                    f"{path} holds shape {images.shape} but its labels have shape {labels.shape}; "
                    f"delete both files and load the set again."
                )
        x, x_test = x[:, None], x_test[:, None]
    return x, y.astype(np.int64), x_test, y_test.astype(np.int64)

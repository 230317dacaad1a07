"""MNIST, Fashion-MNIST and CIFAR-10: fetched once, checked by SHA-256, kept in a folder.

The files go to the folder named by the environment variable TRICKS_DATA, else to the cache folder
of your system. Mirrors are tried in turn; a download that broke off is continued, not restarted.
Nothing is unpickled: CIFAR-10 is read from its binary version.
"""

from __future__ import annotations

import gzip
import os
import tarfile
import zlib
from pathlib import Path

import numpy as np

from helpers import checks

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
        headers = {"Range": f"bytes={start}-"} if start else {}
        with requests.get(url, headers=headers, stream=True, timeout=(10, 60)) as answer:
            if start and answer.status_code == 416:  # the rest does not exist: begin again
                continue
            answer.raise_for_status()
            with part.open("ab" if answer.status_code == 206 else "wb") as file:
                for piece in answer.iter_content(1 << 16):
                    file.write(piece)
        break
    os.replace(part, output_file)


def get(file: str, sha256: str, folder, mirrors) -> Path:
    """Return the path of `folder/file`, fetched from the first mirror that gives the right bytes.

    A file that is there with the right SHA-256 is used as it is, and nothing is asked of the network.
    A file appears under its name only when it is complete and checked. Raises OSError with one
    sentence: the file, what each mirror answered, and what you can do.
    """
    import pooch
    import requests
    from filelock import FileLock

    path = Path(folder, file)
    damaged = path.exists()
    if damaged and pooch.file_hash(str(path)) == sha256:
        return path
    tried = []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock"):  # chapters are built side by side
            for mirror in mirrors:
                try:
                    pooch.retrieve(f"{mirror}/{file}", sha256, file, str(path.parent), downloader=_continue)
                    return path
                except (requests.RequestException, ValueError) as error:
                    tried.append(f"{mirror} {_answer(error)}")
    except OSError as error:
        tried.append(f"the folder cannot be written ({error.strerror or error})")
    state = "is damaged (its SHA-256 is not the expected one) and" if damaged else "is not there and"
    raise OSError(
        f"{path} {state} could not be downloaded: {'; '.join(tried)}. Try again later, or put the file there by hand "
        f"(SHA-256 {sha256[:12]}…)."
    )


def _answer(error: Exception) -> str:
    """What a mirror did, in a few words."""
    import requests

    if isinstance(error, ValueError) and not isinstance(error, requests.RequestException):
        return "sent a file with another SHA-256"
    if isinstance(error, requests.HTTPError):
        return f"answered {error.response.status_code} {error.response.reason}"
    if isinstance(error, requests.Timeout):
        return "did not answer in time"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "broke off in the middle of the file"
    return "could not be reached"


def read_idx(path) -> np.ndarray:
    """Read a gzipped IDX file of bytes (the format of MNIST): uint8, any number of dimensions.

    Raises ValueError with one sentence if it is no such file, is cut short, or is too long.
    """
    advice = "delete it and load the set again"
    try:
        with gzip.open(path) as file:
            raw = file.read()
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a complete gzip file ({error}); {advice}.") from error
    if len(raw) < 4 or raw[:3] != b"\0\0\x08" or not 1 <= raw[3] <= 4 or len(raw) < 4 + 4 * raw[3]:
        raise ValueError(f"{path} is not an IDX file of bytes (it starts with {raw[:4].hex()!r}); {advice}.")
    start = 4 + 4 * raw[3]
    shape = tuple(int(side) for side in np.frombuffer(raw[4:start], ">u4"))
    want, got = int(np.prod(shape, dtype=object)), len(raw) - start
    if want != got:
        raise ValueError(f"{path} announces {want} bytes of shape {shape} but holds {got}; {advice}.")
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def read_cifar(path):
    """Read the binary version of CIFAR-10: x (n, 3, 32, 32) uint8, y (n,) uint8, x_test, y_test.

    A record is one label byte and 3,072 pixel bytes. Nothing is unpacked to disk. Raises ValueError
    with one sentence if a member is missing or has the wrong form.
    """
    advice = "delete it and load the set again"
    names = {"train": [f"data_batch_{i}.bin" for i in range(1, 6)], "test": ["test_batch.bin"]}
    done = []
    try:
        with tarfile.open(path, "r:gz") as archive:
            for files in names.values():
                raw = [archive.extractfile(f"cifar-10-batches-bin/{file}").read() for file in files]
                if any(len(r) % 3073 or not r for r in raw):
                    raise ValueError(f"{path} holds a batch that is not made of records of 3,073 bytes; {advice}.")
                rows = np.frombuffer(b"".join(raw), np.uint8).reshape(-1, 3073)
                if rows[:, 0].max() > 9:
                    raise ValueError(f"{path} holds the label {rows[:, 0].max()}, but labels go from 0 to 9; {advice}.")
                done += [rows[:, 1:].reshape(-1, 3, 32, 32), rows[:, 0]]
    except (tarfile.TarError, EOFError, OSError, zlib.error, KeyError, AttributeError) as error:
        reason = error.args[0] if error.args else type(error).__name__
        raise ValueError(f"{path} is not the CIFAR-10 binary archive ({reason}); {advice}.") from error
    return tuple(done)


def fetch(name: str, *, folder=None, mirrors=None):
    """Return x (n, c, h, w) uint8, y (n,) int64, x_test, y_test of "mnist", "fashion_mnist" or "cifar10".

    folder    where the files are kept, see `home`
    mirrors   addresses to try in turn instead of MIRRORS[name]

    Raises OSError if a file cannot be had (see `get`), ValueError if one cannot be read.
    """
    checks.one_of("name", name, NAMES)
    place = Path(folder or home(), FOLDER[name])
    files = (ARCHIVE,) if name == "cifar10" else IDX
    paths = [get(f, s, place, mirrors or MIRRORS[name]) for f, s in zip(files, SHA256[name], strict=True)]
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

"""Finding and fetching, with small stand-ins for the four files and a mirror on this machine."""

import functools
import gzip
import hashlib
import http.server
import multiprocessing
import os
import shutil
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from torchvision import datasets

from fmnist_lib import download
from fmnist_lib.data import load_fashion_mnist


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.astype(np.uint8).tobytes()


@pytest.fixture(scope="module")
def contents():
    """Four small IDX files that stand in for the real ones."""
    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (30, 28, 28)),
        "train-labels-idx1-ubyte": np.arange(30) % 10,
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (20, 28, 28)),
        "t10k-labels-idx1-ubyte": np.arange(20) % 10,
    }
    return {name: idx(array) for name, array in arrays.items()}


@pytest.fixture
def cache(tmp_path, monkeypatch, contents):
    """A machine without any data, on which the stand-ins are the right files."""
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    zipped = {
        name: hashlib.sha256(gzip.compress(content, mtime=0)).hexdigest()
        for name, content in contents.items()
    }
    monkeypatch.setattr(download, "SHA256", sha256)
    monkeypatch.setattr(download, "SHA256_GZ", zipped)
    monkeypatch.setattr(download, "MIRRORS", ())
    monkeypatch.setattr(download, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("FMNIST_DATA", raising=False)
    for name in ("no_proxy", "NO_PROXY"):  # the mirrors are on this machine
        monkeypatch.setenv(name, "127.0.0.1")
    return tmp_path / "cache"


def put(folder, contents, zipped=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        if zipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
        else:
            (folder / name).write_bytes(content)
    return folder


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def serve():
    """Start a mirror: (folder, handler) -> its address."""
    servers = []

    def start(folder, handler=Handler):
        handler = functools.partial(handler, directory=str(folder))
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("sub_folder", ["", "FashionMNIST/raw"])
def test_a_folder_may_hold_the_files_in_any_usual_form(
    cache, tmp_path, contents, zipped, sub_folder
):
    given = tmp_path / "given"
    put(given / sub_folder, contents, zipped)
    found = download.find_data(given)
    # What torchvision can read where it is, is left there; the rest goes to the cache.
    assert found == (given if sub_folder and not zipped else cache)
    assert {path.name for path in download.raw_folder(found).iterdir()} >= set(contents)
    dataset = datasets.FashionMNIST(found, train=False)
    assert len(dataset) == 20
    assert np.array_equal(dataset.targets, np.arange(20) % 10)


def test_the_order_of_the_search(cache, tmp_path, contents, monkeypatch, serve):
    mirror = serve(put(tmp_path / "mirror", contents, zipped=True))
    monkeypatch.setattr(download, "MIRRORS", (mirror,))
    # Nothing anywhere: downloaded into the cache.
    assert download.find_data() == cache
    assert sorted(p.name for p in download.raw_folder(cache).iterdir()) == sorted(contents)
    # From now on the cache has it, and no mirror is asked.
    monkeypatch.setattr(download, "MIRRORS", ())
    assert download.find_data() == cache
    # The variable comes before the cache, the argument before the variable.
    variable = tmp_path / "variable"
    put(download.raw_folder(variable), contents)
    monkeypatch.setenv("FMNIST_DATA", str(variable))
    assert download.find_data() == variable
    argument = tmp_path / "argument"
    put(download.raw_folder(argument), contents)
    assert download.find_data(argument) == argument


def test_the_distribution_package_is_found(cache, contents):
    put(download.DEBIAN_FOLDER, contents, zipped=True)
    assert download.find_data() == cache


def test_a_folder_without_data_is_named_and_passed_over(cache, tmp_path, contents):
    put(download.raw_folder(cache), contents)
    with pytest.warns(UserWarning, match="no Fashion-MNIST in the folder given"):
        assert download.find_data(tmp_path / "nowhere") == cache


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "other data"])
def test_damaged_files_are_caught(cache, tmp_path, contents, damage, zipped):
    name = "train-images-idx3-ubyte"
    good = contents[name]
    bad = {
        "truncated": good[:-100],
        "flipped": good[:5000] + bytes([good[5000] ^ 1]) + good[5001:],
        "empty": b"",
        # The digits MNIST has the same names and shapes.
        "other data": good[:16] + bytes(len(good) - 16),
    }[damage]
    given = put(tmp_path / "given", contents | {name: bad}, zipped)
    with pytest.raises(download.DataError, match=f"{name}.* is not the Fashion-MNIST file"):
        download.find_data(given)
    assert not download.raw_folder(cache).exists()


def test_a_broken_gzip_file_is_caught(cache, tmp_path, contents):
    given = put(tmp_path / "given", contents, zipped=True)
    path = given / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(download.DataError, match="cannot be read"):
        download.find_data(given)


def test_a_folder_with_a_part_of_the_files_is_refused(cache, tmp_path, contents):
    given = put(tmp_path / "given", contents)
    (given / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(download.DataError, match=r"only a part .* t10k-labels-idx1-ubyte missing"):
        download.find_data(given)


def test_the_next_mirror_is_asked_when_one_fails(cache, tmp_path, contents, monkeypatch, serve):
    wrong = put(tmp_path / "wrong", contents | {"t10k-labels-idx1-ubyte": b"no"}, zipped=True)
    short = put(tmp_path / "short", {}, zipped=True)
    right = put(tmp_path / "right", contents, zipped=True)
    monkeypatch.setattr(
        download, "MIRRORS", tuple(serve(folder) for folder in (wrong, short, right))
    )
    assert download.find_data() == cache


def test_an_interrupted_download_leaves_nothing_behind(
    cache, tmp_path, contents, monkeypatch, serve
):
    mirror = serve(put(tmp_path / "mirror", contents, zipped=True))
    monkeypatch.setattr(download, "MIRRORS", (mirror,))

    def interrupted(path, expected):
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "_verified", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download.find_data()
    assert not cache.exists() or not list(cache.rglob("*-ubyte*"))


def test_a_download_that_breaks_off_leaves_nothing_behind(
    cache, tmp_path, contents, monkeypatch, serve
):
    monkeypatch.setattr(download.tempfile, "tempdir", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    folder = put(tmp_path / "mirror", contents, zipped=True)

    class Broken(Handler):
        def copyfile(self, source, output):
            output.write(source.read()[:100])

    mirror = serve(folder, Broken)
    monkeypatch.setattr(download, "MIRRORS", (mirror,))
    with pytest.raises(download.DataError, match="could not be downloaded"):
        download.find_data()
    assert not list((tmp_path / "tmp").iterdir())
    assert not cache.exists()


def test_an_interrupt_while_the_cache_is_written_leaves_nothing_behind(
    cache, tmp_path, contents, monkeypatch
):
    given, written = put(tmp_path / "given", contents, zipped=True), []
    write = Path.write_bytes

    def interrupted(path, content):
        written.append(path)
        if len(written) == 3:
            raise KeyboardInterrupt
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        download.find_data(given)
    assert not list(cache.rglob("*-ubyte*"))
    monkeypatch.undo()


def test_without_data_and_network_the_ways_out_are_told(cache, monkeypatch):
    # Nothing listens on port 9 of this machine.
    monkeypatch.setattr(download, "MIRRORS", ("http://127.0.0.1:9/",))
    with pytest.raises(download.DataError) as caught:
        download.find_data()
    message = str(caught.value)
    assert "apt-get install dataset-fashion-mnist" in message
    assert "FMNIST_DATA" in message
    assert "fmnist data" in message
    assert "ConnectionError" in message
    assert "\n" not in message


def test_a_mirror_with_wrong_content_is_named(cache, tmp_path, contents, monkeypatch, serve):
    wrong = dict.fromkeys(contents, b"something else")
    mirror = serve(put(tmp_path / "mirror", wrong, zipped=True))
    monkeypatch.setattr(download, "MIRRORS", (mirror,))
    with pytest.raises(download.DataError, match=f"{mirror}: wrong content"):
        download.find_data()


@pytest.mark.skipif(sys.platform != "linux", reason="uses fork to share the stand-ins")
def test_processes_that_start_at_once_do_not_harm_each_other(
    cache, tmp_path, contents, monkeypatch, serve
):
    mirror = serve(put(tmp_path / "mirror", contents, zipped=True))
    monkeypatch.setattr(download, "MIRRORS", (mirror,))
    fork = multiprocessing.get_context("fork")
    barrier, failures = fork.Barrier(4), fork.Queue()

    def work():
        barrier.wait()
        for _ in range(5):
            try:
                download.find_data()
            except Exception as error:
                failures.put(repr(error))

    processes = [fork.Process(target=work) for _ in range(4)]
    for process in processes:
        process.start()
    try:
        for process in processes:
            process.join(60)
            assert process.exitcode == 0
    finally:
        for process in processes:
            process.kill()
    assert failures.empty(), failures.get()
    assert sorted(p.name for p in download.raw_folder(cache).parent.rglob("*")) == sorted(
        ["raw", *contents]
    )


@pytest.mark.skipif(os.name != "posix", reason="uses a file in a folder's place")
def test_a_cache_that_cannot_be_written_is_told(cache, tmp_path, contents):
    cache.write_text("a file where the folder should be")
    given = put(tmp_path / "given", contents, zipped=True)
    with pytest.raises(download.DataError, match=r"cannot be written .* FMNIST_DATA"):
        download.find_data(given)


def test_a_damaged_cache_is_told_and_not_used(cache, contents):
    put(download.raw_folder(cache), contents | {"t10k-labels-idx1-ubyte": b"x"})
    with pytest.raises(download.DataError, match=r"remove it, then run 'fmnist data'"):
        download.find_data()
    # Whoever follows the advice gets there, also by way of a cache with a part of the files.
    (download.raw_folder(cache) / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(download.DataError, match=r"only a part .* remove the rest"):
        download.find_data()
    for path in download.raw_folder(cache).iterdir():
        path.unlink()
    put(download.DEBIAN_FOLDER, contents, zipped=True)
    assert download.find_data() == cache
    assert (download.raw_folder(cache) / "t10k-labels-idx1-ubyte").read_bytes() == contents[
        "t10k-labels-idx1-ubyte"
    ]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root reads everything")
def test_a_folder_without_rights_is_told(cache, tmp_path):
    (tmp_path / "given").mkdir(mode=0)
    with pytest.raises(download.DataError, match="cannot be read"):
        download.find_data(tmp_path / "given")


@pytest.mark.skipif(sys.platform != "linux", reason="uses shell scripts in place of apt-get")
def test_debian_package_is_fetched_and_unpacked(cache, tmp_path, contents, monkeypatch):
    """With stand-ins for apt-get (which fails until its lists are updated) and dpkg-deb."""
    tools, package = tmp_path / "tools", put(tmp_path / "package", contents, zipped=True)
    tools.mkdir()
    lists, target = tmp_path / "lists", download.DEBIAN_FOLDER.relative_to("/")
    scripts = {
        "apt-get": f'[ "$1" = update ] && exec touch {lists}\n[ -e {lists} ] && exec touch a.deb',
        "dpkg-deb": f'mkdir -p "$3/{target}" && exec cp {package}/* "$3/{target}"',
    }
    for name, script in scripts.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    with pytest.raises(download.DataError):
        download.find_data()
    assert download.find_data(apt=True) == cache
    shutil.rmtree(cache)
    (tools / "dpkg-deb").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(download.DataError, match="Three ways out"):
        download.find_data(apt=True)


@pytest.mark.real_data
def test_the_real_files(full_data):
    root = download.find_data()
    ours, theirs = full_data, datasets.FashionMNIST(root, train=True)
    assert np.array_equal((ours.train.images[:, 0] * 255).round().byte(), theirs.data[:48_000])
    assert np.array_equal(ours.validation.labels, theirs.targets[48_000:])
    assert np.array_equal(ours.test.labels, datasets.FashionMNIST(root, train=False).targets)
    assert load_fashion_mnist(root).test.images.equal(ours.test.images)

"""Finding and downloading, with small stand-ins for the four files and mirrors on this machine."""

import functools
import gzip
import hashlib
import http.server
import multiprocessing
import sys
import threading
import tracemalloc
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack

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
    for registry, form in ((download.SHA256, bytes), (download.SHA256_GZ, zip_up)):
        for name, content in contents.items():
            monkeypatch.setitem(registry, name, hashlib.sha256(form(content)).hexdigest())
    monkeypatch.setattr(download, "MIRRORS", ())
    monkeypatch.setattr(download, "DEBIAN_FOLDER", tmp_path / "debian")
    monkeypatch.setattr(download, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.delenv("FMNIST_DATA", raising=False)
    for name in ("no_proxy", "NO_PROXY"):  # the mirrors are on this machine
        monkeypatch.setenv(name, "127.0.0.1")
    return tmp_path / "cache"


def zip_up(content):
    return gzip.compress(content, mtime=0)


def put(folder, contents, zipped=False):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        path = folder / (f"{name}.gz" if zipped else name)
        path.write_bytes(zip_up(content) if zipped else content)
    return folder


class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


class Broken(Handler):
    """One that breaks off in the middle of a file."""

    def copyfile(self, source, output):
        output.write(source.read()[:100])


@pytest.fixture
def serve(monkeypatch):
    """Start mirrors, one for each folder, and make them the only ones; returns their addresses."""
    with ExitStack() as servers:

        def start(*folders, handler=Handler):
            addresses = []
            for folder in folders:
                here = functools.partial(handler, directory=str(folder))
                server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), here)
                servers.enter_context(server)
                threading.Thread(target=server.serve_forever, daemon=True).start()
                servers.callback(server.shutdown)
                addresses.append(f"http://127.0.0.1:{server.server_port}/")
            monkeypatch.setattr(download, "MIRRORS", addresses)
            return addresses

        yield start


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("subfolder", ["", "FashionMNIST/raw"])
def test_a_folder_may_hold_the_files_in_any_usual_form(
    cache, tmp_path, contents, zipped, subfolder
):
    given = tmp_path / "given"
    put(given / subfolder, contents, zipped)
    found = download.find_data(given)
    # What torchvision can read where it is stays there; the rest goes into the cache.
    assert found == (given if subfolder and not zipped else cache)
    assert {path.name for path in download.raw_folder(found).iterdir()} >= set(contents)
    dataset = datasets.FashionMNIST(found, train=False)
    assert len(dataset) == 20
    assert np.array_equal(dataset.targets, np.arange(20) % 10)


@pytest.mark.parametrize("level", ["", "FashionMNIST", "FashionMNIST/raw"])
def test_any_level_of_torchvisions_folders_may_be_given(cache, tmp_path, contents, level):
    put(download.raw_folder(tmp_path / "given"), contents)
    assert download.find_data(tmp_path / "given" / level) == tmp_path / "given"


def test_names_with_a_dot_are_known(cache, tmp_path, contents):
    """As some archives spell them."""
    dotted = {name.replace("-idx", ".idx"): content for name, content in contents.items()}
    assert download.find_data(put(download.raw_folder(tmp_path / "given"), dotted)) == cache


def test_a_relative_folder_starts_where_the_command_was_typed(cache, tmp_path, monkeypatch):
    """A notebook's own folder is another one."""
    (typed_in := tmp_path / "typed in").mkdir()
    monkeypatch.chdir(typed_in)
    monkeypatch.setenv("FMNIST_DATA", "stick")
    assert download.given_folder() == typed_in / "stick"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(download, "in_notebook", lambda: True)
    monkeypatch.setenv("PWD", str(typed_in))
    assert download.given_folder() == typed_in / "stick"
    with pytest.raises(download.DataError, match=f"^{typed_in / 'stick'} holds no readable"):
        download.find_data()
    monkeypatch.delenv("PWD")
    with pytest.raises(download.DataError, match=r"FMNIST_DATA is stick, .* as an absolute path"):
        download.given_folder()


def test_the_order_of_the_search(cache, tmp_path, contents, monkeypatch, serve):
    serve(put(tmp_path / "mirror", contents, zipped=True))
    put(download.DEBIAN_FOLDER, {"t10k-labels-idx1-ubyte": b"a part of it"})
    assert download.find_data() == cache
    # The cache has it now, and no mirror is asked.
    monkeypatch.setattr(download, "MIRRORS", ())
    assert download.find_data() == cache
    # The variable comes before the cache, the argument before the variable.
    variable, argument = tmp_path / "variable", tmp_path / "argument"
    put(download.raw_folder(variable), contents)
    put(download.raw_folder(argument), contents)
    monkeypatch.setenv("FMNIST_DATA", str(variable))
    assert download.find_data() == variable
    assert download.find_data(argument) == argument


def test_a_given_folder_without_the_data_is_refused(cache, tmp_path, contents, monkeypatch):
    """It may hold another data set, or a stick may be missing: the cache is no answer to that."""
    put(download.raw_folder(cache), contents)
    other = tmp_path / "KMNIST"
    put(other / "KMNIST/raw", contents)  # one level too deep to be seen
    for given in (other, tmp_path / "nowhere"):
        for root, variable in ((given, ""), (None, str(given))):
            monkeypatch.setenv("FMNIST_DATA", variable)
            with pytest.raises(download.DataError, match=f"^{given} holds no .* name none"):
                download.find_data(root)


def test_no_more_is_read_or_unpacked_than_the_data_can_have(cache, tmp_path, contents, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", largest := max(map(len, contents.values())))
    given, name = put(tmp_path / "given", contents, zipped=True), "t10k-labels-idx1-ubyte"
    assert download.find_data(given) == cache
    plain, packed = given / name, given / f"{name}.gz"
    packed.write_bytes(zip_up(bytes(10**8)))
    with open(plain, "wb") as file:
        file.truncate(10**12)  # a sparse file
    for path in (plain, packed):
        tracemalloc.start()
        with pytest.raises(download.DataError, match=f"{path.name} .*too large.* move it away"):
            download.find_data(given)
        assert tracemalloc.get_traced_memory()[1] < 10**6 + 10 * largest
        tracemalloc.stop()
        path.unlink()
    plain.symlink_to("/dev/zero")
    with pytest.raises(download.DataError, match=f"only part .* {name} missing"):
        download.find_data(given)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_with_one_bit_turned_is_refused(cache, tmp_path, contents, zipped):
    name = "train-images-idx3-ubyte"
    bad = contents[name][:-1] + bytes([contents[name][-1] ^ 1])
    given = put(tmp_path / "given", contents | {name: bad}, zipped)
    with pytest.raises(download.DataError, match=f"{name}.* is not the Fashion-MNIST file"):
        download.find_data(given)
    assert not cache.exists()


@pytest.mark.parametrize(
    "damage", [lambda whole: whole[:-20], lambda whole: whole[:10] + bytes([255]) * 20 + whole[30:]]
)
def test_unreadable_and_missing_files_are_named(cache, tmp_path, contents, damage):
    given = put(tmp_path / "given", contents, zipped=True)
    broken = given / "t10k-images-idx3-ubyte.gz"
    broken.write_bytes(damage(broken.read_bytes()))
    with pytest.raises(download.DataError, match=f"{broken.name} cannot be read"):
        download.find_data(given)
    broken.unlink()
    with pytest.raises(download.DataError, match=r"only part .* t10k-images-idx3-ubyte missing"):
        download.find_data(given)


def test_a_damaged_cache_is_refused_and_a_partial_one_completed(cache, tmp_path, contents):
    raw, name = download.raw_folder(cache), "t10k-labels-idx1-ubyte"
    put(raw, contents | {name: b"x"})
    for folder in (None, put(tmp_path / "right", contents, zipped=True)):  # bound for the cache
        with pytest.raises(download.DataError, match=r"move it away .* run 'fmnist data'"):
            download.find_data(folder)
    (raw / name).unlink()
    put(download.DEBIAN_FOLDER, contents, zipped=True)
    assert download.find_data() == cache
    assert (raw / name).read_bytes() == contents[name]


def test_the_next_mirror_delivers_what_one_lacks(cache, tmp_path, contents, serve):
    wrong = put(tmp_path / "wrong", contents | {"t10k-labels-idx1-ubyte": b"no"}, zipped=True)
    empty = put(tmp_path / "empty", {})
    name = "t10k-labels-idx1-ubyte"
    last = put(tmp_path / "last", {name: contents[name]}, zipped=True)
    serve(wrong, empty, last)
    assert download.find_data() == cache


@pytest.mark.parametrize(
    ("content", "handler", "reason"),
    [
        (b"no", Handler, "wrong content"),
        (None, Handler, "status 404"),
        (bytes(1000), Broken, "(ChunkedEncoding|Connection)Error|wrong content"),
    ],
)
def test_a_mirror_that_fails_is_named_with_the_ways_out(
    cache, tmp_path, contents, serve, content, handler, reason
):
    files = {} if content is None else contents | {"t10k-labels-idx1-ubyte": content}
    (mirror,) = serve(put(tmp_path / "mirror", files, zipped=True), handler=handler)
    ways = ".*apt-get install .*FMNIST_DATA.* run 'fmnist data'"
    with pytest.raises(download.DataError, match=f"{mirror}: ({reason}){ways}"):
        download.find_data()
    assert not [path for path in cache.rglob("*") if path.is_file()]


@pytest.mark.skipif(sys.platform != "linux", reason="uses fork to share the stand-ins")
def test_processes_that_start_at_once_do_not_harm_each_other(cache, tmp_path, contents, serve):
    serve(put(tmp_path / "mirror", contents, zipped=True))
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("fork")) as pool:
        assert set(pool.map(download.find_data, [None] * 20, timeout=60)) == {cache}
    found = sorted(path.name for path in download.raw_folder(cache).parent.rglob("*"))
    assert found == sorted(["raw", *contents])


@pytest.mark.real_data
def test_the_real_files(full_data):
    root = download.find_data()
    ours, theirs = full_data, datasets.FashionMNIST(root, train=True)
    assert np.array_equal((ours.train.images[:, 0] * 255).round().byte(), theirs.data[:48_000])
    assert np.array_equal(ours.validation.labels, theirs.targets[48_000:])
    assert np.array_equal(ours.test.labels, datasets.FashionMNIST(root, train=False).targets)
    assert load_fashion_mnist(root).test.images.equal(ours.test.images)

"""Finding, fetching and verifying the four files of Fashion-MNIST.

Whatever the source, a file counts only when its decompressed bytes have the right SHA-256.
"""

import gzip
import hashlib
import os
import shutil
import subprocess
import tempfile
import warnings
import zlib
from pathlib import Path

import platformdirs

from fmnist_lib.common import UserError
from fmnist_lib.progress import progress_bar

# SHA-256 of the four files: decompressed, and as the mirrors serve them (gzip).
SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
SHA256_GZ = {
    "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
    "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
    "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
    "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
}

FILE_NAMES = tuple(SHA256)

MIRRORS = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


class DataError(UserError):
    """Fashion-MNIST could not be had, or what was found is not Fashion-MNIST."""


def find_data(root=None, *, apt=False):
    """Find a folder with the four verified files, making one in the user's cache if need be.

    Looks in the folder given, the user's cache and the folder of Debian's package, in this order,
    then downloads. A folder may hold the files plain or gzipped, directly or in torchvision's
    sub-folder ``FashionMNIST/raw``. What is not in torchvision's form is unpacked into the cache.

    Parameters
    ----------
    root : path, optional
        Folder to look in first. Default: the environment variable ``FMNIST_DATA``, if set.
    apt : bool
        Where every download fails, fetch Debian's package ``dataset-fashion-mnist`` with
        ``apt-get`` (it is unpacked into the cache, not installed).

    Returns
    -------
    Path
        A folder that ``torchvision.datasets.FashionMNIST(root=...)`` reads too.

    Raises
    ------
    DataError
        If a folder holds files of the right names that are not Fashion-MNIST, or if the data is
        nowhere to be had.
    """
    root = root or os.environ.get("FMNIST_DATA")
    folders = [cache_folder(), DEBIAN_FOLDER]
    if root:
        root = Path(root).expanduser()
        if not _holds_data(root):
            warnings.warn(
                f"no Fashion-MNIST in the folder given, {root}; looking elsewhere", stacklevel=2
            )
        folders.insert(0, root)
    for folder in folders:
        if _holds_data(folder):
            return _in_torchvision_form(folder)
    downloaded, reasons = _download()
    found = downloaded or (_fetch_debian_package() if apt else None)
    if found is None:
        raise DataError(
            "Fashion-MNIST is not on this machine and could not be downloaded "
            f"({'; '.join(reasons)}). Three ways out: (1) on Debian or Ubuntu, 'sudo apt-get "
            f"install {DEBIAN_PACKAGE}'; (2) point FMNIST_DATA, or --data, at a folder that holds "
            f"the four files {', '.join(FILE_NAMES)} (or their .gz); (3) connect to the network "
            "and run 'fmnist data' again"
        )
    return found


def cache_folder():
    """Name the user's cache folder for this package, which follows ``XDG_CACHE_HOME``."""
    return platformdirs.user_cache_path("fmnist_lib")


def raw_folder(root):
    """Name the folder with the four plain files inside a folder in torchvision's form."""
    return Path(root) / "FashionMNIST" / "raw"


def _verified(path, expected):
    content = _read(path)
    found = hashlib.sha256(content).hexdigest()
    if found != expected:
        raise DataError(
            f"{path} is not the Fashion-MNIST file of that name (SHA-256 {found[:12]}…, expected "
            f"{expected[:12]}…): it is truncated, damaged, or of another data set such as the "
            "digits MNIST; remove it, then run 'fmnist data' to fetch the right one"
        )
    return content


def _read(path):
    try:
        return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read ({error}); remove it or make it readable, then run "
            "'fmnist data' to fetch the right one"
        ) from None


def _locate(folder, name):
    candidates = [raw_folder(folder) / name, folder / name]
    candidates += [path.with_name(name + ".gz") for path in candidates]
    try:
        return next((path for path in candidates if path.is_file()), None)
    except OSError as error:
        raise DataError(
            f"the folder {folder} cannot be read ({error.strerror}); give rights there, or name "
            "another folder"
        ) from None


def _holds_data(folder):
    return any(_locate(folder, name) for name in FILE_NAMES)


def _in_torchvision_form(folder):
    paths = {name: _locate(folder, name) for name in FILE_NAMES}
    if missing := [name for name, path in paths.items() if path is None]:
        raise DataError(
            f"{folder} holds only a part of Fashion-MNIST: {', '.join(missing)} missing, plain or "
            "as .gz; add what is missing, or remove the rest"
        )
    contents = {name: _verified(path, SHA256[name]) for name, path in paths.items()}
    if all(path == raw_folder(folder) / name for name, path in paths.items()):
        return folder
    _put_into_cache(contents)
    for name, digest in SHA256.items():  # whoever put them there
        _verified(raw_folder(cache_folder()) / name, digest)
    return cache_folder()


def _put_into_cache(contents):
    # All four files appear in one move, so that nobody ever sees a part of them. Of several
    # processes at once one moves first, and the others take what it has put there.
    raw = raw_folder(cache_folder())
    if all((raw / name).is_file() for name in contents):
        return
    try:
        raw.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=raw.parent, prefix=".part-") as part:
            staged = Path(part) / raw.name
            staged.mkdir()
            for name, content in contents.items():
                (staged / name).write_bytes(content)
            try:
                staged.rename(raw)
            except OSError:  # the folder is there: another process was first, or left a part
                for name in contents:
                    os.replace(staged / name, raw / name)
    except OSError as error:
        raise DataError(
            f"the cache folder {raw.parent} cannot be written ({error.strerror}); make room or "
            "give rights there, or put the four files, unpacked, into FashionMNIST/raw of another "
            "folder and name that folder with FMNIST_DATA"
        ) from None


def _download():
    import requests

    reasons = []
    with tempfile.TemporaryDirectory(prefix="fmnist-") as folder:
        for mirror in MIRRORS:
            try:
                _download_from(mirror, folder)
            except requests.RequestException as error:
                response = getattr(error, "response", None)
                reason = f"status {response.status_code}" if response is not None else ""
                reasons.append(f"{mirror}: {reason or type(error).__name__}")
            except ValueError:  # raised by pooch for a wrong hash
                reasons.append(f"{mirror}: wrong content")
            except OSError as error:
                raise DataError(
                    f"the download cannot be written to {folder} ({error.strerror}); make room "
                    "there"
                ) from None
            else:
                return _in_torchvision_form(Path(folder)), reasons
    return None, reasons


def _download_from(mirror, folder):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it asks for a widget that we do without
        import pooch
    pooch.get_logger().setLevel("WARNING")  # the progress bar says what is going on
    for name, digest in SHA256_GZ.items():
        with progress_bar(1, name, unit="B", unit_scale=True) as bar:
            pooch.retrieve(
                mirror + name + ".gz",
                known_hash=digest,
                fname=name + ".gz",
                path=folder,
                downloader=pooch.HTTPDownloader(bar, chunk_size=2**16, timeout=30),
            )


def _fetch_debian_package():
    # Downloaded and unpacked, not installed.
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return None
    with tempfile.TemporaryDirectory(prefix="fmnist-") as folder:

        def run(*command):
            done = subprocess.run(command, cwd=folder, capture_output=True, timeout=300)
            return done.returncode == 0

        download = ("apt-get", "download", DEBIAN_PACKAGE)
        try:
            # A fresh machine has no package lists; only root may fetch them.
            fetched = run(*download) or (run("apt-get", "update") and run(*download))
            package = next(Path(folder).glob("*.deb"), None)
            if not (fetched and package and run("dpkg-deb", "-x", str(package), folder)):
                return None
        except subprocess.TimeoutExpired:
            return None
        return _in_torchvision_form(Path(folder) / DEBIAN_FOLDER.relative_to("/"))

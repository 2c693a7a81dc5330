"""Find, download and verify the four files of Fashion-MNIST.

Wherever a file comes from, it is accepted only if its decompressed bytes have the right SHA-256.
"""

import gzip
import os
import warnings
import zlib
from pathlib import Path

from fmnist_lib.common import UserError, digest, staged
from fmnist_lib.progress import in_notebook, progress_bar

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # in a notebook it asks for a widget that our bar does not need
    import pooch

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
LARGEST = 47_040_016  # bytes of the largest of them
MIRRORS = (
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
)
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
LEFT = "move it away or name another folder, then run 'fmnist data' to fetch the right one"
CACHE = "the cache of Fashion-MNIST (FMNIST_DATA can name a folder of your own instead)"


class DataError(UserError):
    """Fashion-MNIST could not be obtained, or what was found is not Fashion-MNIST."""


def find_data(root=None):
    """Find a folder with the four verified files, or make one in the user's cache.

    Looks in the folder given (or named by the environment variable ``FMNIST_DATA``) and nowhere
    else; without one, in the user's cache and the folder of Debian's package, and then downloads. A
    folder may hold the files plain or gzipped, and may be any level of torchvision's layout,
    ``FashionMNIST/raw``. From any other layout, the files are unpacked into the cache.

    Returns
    -------
    Path
        A folder that ``torchvision.datasets.FashionMNIST(root=...)`` can read, too.

    Raises
    ------
    DataError
        If the folder given lacks any of the files, if a folder holds other data under their names,
        or if the data is not on this machine and cannot be downloaded.
    """
    given = Path(os.path.expanduser(root)).absolute() if root else given_folder()
    for folder in [given] if given else [cache_folder(), DEBIAN_FOLDER]:
        paths = _locate(folder)
        if len(paths) == len(FILE_NAMES):
            return _in_torchvision_layout(paths)
        if given:
            missing = ", ".join(name for name in FILE_NAMES if name not in paths)
            raise DataError(
                f"{folder} holds {'only part of' if paths else 'no readable'} Fashion-MNIST: "
                f"{missing} missing, plain or as .gz; add what is missing, name another folder, or "
                "name none, and the data is downloaded"
            )
    _download()
    return _in_torchvision_layout(_locate(cache_folder()))


def given_folder():
    """Return the folder that ``FMNIST_DATA`` names, as an absolute path, or None.

    A relative path starts where the command was typed. A kernel starts in its notebook's folder, so
    there it is the folder that the shell left in the variable ``PWD``. Raises `DataError` if a
    notebook has a relative path and no ``PWD``.
    """
    if not (given := os.environ.get("FMNIST_DATA")):
        return None
    folder = Path(os.path.expanduser(given))
    if folder.is_absolute() or not in_notebook():
        return folder.absolute()
    if typed_in := os.environ.get("PWD"):
        return Path(typed_in, folder)
    raise DataError(
        f"FMNIST_DATA is {given}, and a notebook cannot tell what that is relative to; give it as "
        "an absolute path"
    )


def cache_folder():
    """Return the user's cache folder for this package."""
    return Path(pooch.os_cache("fmnist_lib"))


def raw_folder(root):
    """Return the folder of the four plain files inside a folder in torchvision's layout."""
    return Path(root) / "FashionMNIST" / "raw"


def _locate(folder):
    # The paths, by name, of whichever of the four files a folder holds.
    found = {}
    for name in FILE_NAMES:
        names = [name + end for end in ("", ".gz")]
        names += [other.replace("-idx", ".idx") for other in names]  # as some archives have them
        places = [raw_folder(folder), folder / "raw", folder]
        paths = [place / spelled for spelled in names for place in places]
        if path := next(filter(os.path.isfile, paths), None):
            found[name] = path
    return found


def _in_torchvision_layout(paths):
    contents = {name: _verified(path, SHA256[name]) for name, path in paths.items()}
    root = next(iter(paths.values())).parent.parent.parent
    if all(path == raw_folder(root) / name for name, path in paths.items()):
        return root
    raw = raw_folder(cache_folder())
    if not all((raw / name).is_file() for name in FILE_NAMES):
        with staged(raw, CACHE, DataError) as part:
            for name, content in contents.items():
                (part / name).write_bytes(content)
    for name in FILE_NAMES:
        _verified(raw / name, SHA256[name])
    return cache_folder()


def _verified(path, expected):
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rb") as file:
            content = file.read(LARGEST + 1)  # and no more: a small .gz can hold terabytes
    except (EOFError, OSError, zlib.error) as error:
        raise DataError(
            f"{path} cannot be read ({error}); check its permissions, or {LEFT}"
        ) from None
    if (found := digest(content)) != expected:
        found = f"SHA-256 {found[:12]}…" if len(content) <= LARGEST else "too large"
        raise DataError(
            f"{path} is not the Fashion-MNIST file of that name ({found}, expected SHA-256 "
            f"{expected[:12]}…): it is damaged, or part of another data set, such as MNIST; {LEFT}"
        )
    return content


def _download():
    import requests

    pooch.get_logger().setLevel("WARNING")  # the progress bar shows what is going on
    reasons = []
    with staged(raw_folder(cache_folder()), CACHE, DataError) as part:
        for mirror in MIRRORS:
            try:
                for name in FILE_NAMES:
                    _retrieve(mirror, name, part)
            except requests.HTTPError as error:
                reasons.append(f"{mirror}: status {error.response.status_code}")
            except requests.RequestException as error:
                reasons.append(f"{mirror}: {type(error).__name__}")
            except ValueError:  # from pooch, for a wrong hash
                reasons.append(f"{mirror}: wrong content")
            else:
                for name in FILE_NAMES:
                    (part / f"{name}.gz").unlink()
                return
        raise DataError(
            "Fashion-MNIST is not on this machine and could not be downloaded "
            f"({'; '.join(reasons)}). Three ways out: (1) on Debian or Ubuntu, 'sudo apt-get "
            "install dataset-fashion-mnist'; (2) point FMNIST_DATA, or --data, at a folder that "
            f"holds the four files {', '.join(FILE_NAMES)} (or their .gz); (3) connect to the "
            "network and run 'fmnist data' again"
        )


def _retrieve(mirror, name, folder):
    # Skips a file that an earlier mirror has already delivered.
    with progress_bar(1, name, unit="B", unit_scale=True) as bar:
        pooch.retrieve(
            f"{mirror}{name}.gz",
            known_hash=SHA256_GZ[name],
            fname=f"{name}.gz",
            path=folder,
            processor=pooch.Decompress(name=name),
            downloader=pooch.HTTPDownloader(bar, chunk_size=2**16, timeout=30),
        )

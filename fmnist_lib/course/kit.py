"""The kit: everything a class without a network needs, in one archive.

It holds the site, the notebooks to work in, the data, the library, and instructions for setting up
a laptop. The packages are in a folder of wheels next to it: they take gigabytes, and differ from
system to system.
"""

import hashlib
import os
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from importlib.metadata import version
from pathlib import Path
from string import Template

from fmnist_lib.common import UserError, digest, one_line, staged
from fmnist_lib.course.student import copy_chapters
from fmnist_lib.download import SHA256, find_data, raw_folder
from fmnist_lib.install import TORCH_INDEX, split_lock

HERE = Path(__file__).parent
TOP, WHEELS = "course", "course-wheels"
LOCK, README, SITE = "requirements.lock", "README.txt", Path("book/_build/html")
PAGES = "../site/book/{}.html"
LARGEST = 500_000_000  # bytes that a kit may unpack to; a real one takes a fifth of that


class KitError(UserError):
    """A kit cannot be made, or a file is not a complete kit."""


def make_kit(
    archive, notebooks="notebooks", *, data=None, solved=False, wheels=False, overwrite=False
):
    """Make a kit, replacing an earlier one.

    Everything in the archive is in one folder, ``course``; the packages go into the folder
    ``course-wheels`` next to the archive. Everything else that a kit needs is taken from the
    project around ``notebooks``. The other arguments are the options of ``fmnist kit``.

    Raises
    ------
    KitError
        If a part is missing, or the archive would replace something else or cannot be written.
    ChapterError, DataError
        If the chapters or the data cannot be read.
    """
    archive, project = Path(archive), Path(os.path.realpath(notebooks)).parent
    _check_target(archive, wheels, overwrite)
    try:
        members = _collect(project, notebooks, data, solved)
    except OSError as error:
        raise KitError(
            f"{error.filename} cannot be read ({error.strerror}); check its permissions, or name "
            "the project's folder of chapters with --notebooks"
        ) from None
    with staged(archive.parent, "the kit", KitError) as part:
        _write_archive(part / archive.name, members)
        if wheels:
            _download_wheels(project / LOCK, part / WHEELS)


def check_kit(archive):
    """Count the files in a kit, or raise KitError unless it is complete and undamaged."""
    try:
        with zipfile.ZipFile(archive) as kit:
            digests = _read_digests(kit)
        fault = _find_fault(digests)
    except Exception as error:  # of many kinds: the file may hold anything
        fault = one_line(error)
    if fault:
        raise KitError(
            f"{archive} is not a complete kit ({fault}); copy it again, or make it again with "
            "'fmnist kit'"
        )
    return len(digests)


def _read_digests(kit):
    """Compute the SHA-256 of each member, by name; in pieces, since stated sizes may be wrong."""
    members = kit.infolist()
    if (size := sum(member.file_size for member in members)) > LARGEST:
        raise ValueError(
            f"it unpacks to {size / 1e6:,.0f} MB, expected {LARGEST / 1e6:,.0f} at most"
        )
    if any(member.compress_type > zipfile.ZIP_DEFLATED for member in members):
        # Others may unpack in one piece.
        raise ValueError("it is compressed in a way that kits are not")
    digests = {}
    for member in members:
        with kit.open(member) as file:  # which compares its checksum
            found = hashlib.file_digest(file, "sha256").hexdigest()
        digests[member.filename.removeprefix(f"{TOP}/")] = found
    return digests


def _find_fault(digests):
    data = {f"data/{name}": expected for name, expected in SHA256.items()}
    for name in (README, LOCK, "site/index.html", *data):
        if name not in digests:
            return f"{name} is missing"
        if digests[name] != data.get(name, digests[name]):
            return f"{name} is not the file of Fashion-MNIST"
    return None if any(name.startswith("notebooks/") for name in digests) else "no notebooks"


def _check_target(archive, wheels, overwrite):
    if archive.suffix != ".zip" or archive.is_dir():
        raise KitError(f"a kit is one archive, not {archive}; name a file such as course.zip")
    if overwrite:
        return
    if wheels and (folder := archive.parent / WHEELS).exists():
        raise KitError(f"{folder} exists; add --overwrite to replace it, or leave out --wheels")
    if archive.exists():
        try:
            check_kit(archive)
        except KitError as error:
            reason = str(error).partition("; ")[0]
            raise KitError(
                f"{reason}, so it is not replaced; add --overwrite, or name another file"
            ) from None


def _collect(project, notebooks, data, solved):
    """Collect what goes into a kit, as bytes by file name."""
    texts = {f"notebooks/{n}": t for n, t in copy_chapters(notebooks, pages=PAGES).items()}
    first, python = min(texts), sysconfig.get_python_version()
    if solved:
        copies = copy_chapters(notebooks, solved=True, pages=PAGES)
        texts |= {f"solutions/{name}": text for name, text in copies.items()}
    files = _find_files(project, raw_folder(find_data(data)))
    contents = {name: path.read_bytes() for name, path in files.items()}
    with tempfile.TemporaryDirectory(prefix="fmnist-") as folder:
        library = _build_library(project, Path(folder))
        contents[library.name] = library.read_bytes()
    readme = Template(HERE.joinpath("kit_readme.txt").read_text(encoding="utf-8"))
    texts[README] = readme.substitute(
        library=library.name, first=first, system=f"Python {python} on {sysconfig.get_platform()}"
    )
    return contents | {name: text.encode() for name, text in texts.items()}


def _find_files(project, raw):
    site = project / SITE
    if not (site / "index.html").is_file():
        raise KitError(f"the site is not built (no {site}); run 'make book' first")
    files = {name: project / name for name in (LOCK, "LICENSE", "LICENSE-text")}
    files |= {f"site/{p.relative_to(site).as_posix()}": p for p in site.rglob("*") if p.is_file()}
    files |= {f"data/{name}": raw / name for name in SHA256}
    return files | {"data/LICENSE": HERE.parent / "sample" / "LICENSE"}


def _build_library(project, folder):
    """Build the wheel of a project's library, without executing any code of the project."""
    from flit_core.config import read_flit_config
    from flit_core.wheel import make_wheel_in

    settings = project / "pyproject.toml"
    try:
        if read_flit_config(settings).dynamic_metadata:  # flit would import the library for it
            raise ValueError("pyproject.toml lacks the version or the description")
        return make_wheel_in(settings, folder).file
    except OSError:
        raise
    except Exception as error:  # of many kinds: the project may hold anything
        raise KitError(
            f"the library in {project} cannot be packed ({one_line(error)}); restore it, or name "
            "the folder of chapters in another project with --notebooks"
        ) from None


def _write_archive(path, members):
    with zipfile.ZipFile(path, "w") as kit:
        for name, content in sorted(members.items()):
            info = zipfile.ZipInfo(f"{TOP}/{name}")
            info.external_attr = 0o644 << 16  # readable by everyone once unpacked
            kit.writestr(info, content, zipfile.ZIP_DEFLATED)


def _download_wheels(lock, folder):
    """Download the packages of a lock, and write next to them the lock that pip installs from.

    If this environment has PyTorch's build without CUDA, so do the wheels. That build has different
    hashes, which go into the lock, and needs none of the CUDA packages.
    """
    folder.mkdir()
    # Building a source distribution would need a network again.
    wheels_only = ("--only-binary", ":all:", "--dest", folder)
    text = lock.read_text(encoding="utf-8")
    if version("torch").endswith("+cpu"):
        pins, entries = split_lock(text)
        cpu = ("--index-url", f"{TORCH_INDEX}/cpu", *(f"{pin}+cpu" for pin in pins))
        _pip("download", *wheels_only, *cpu)
        for path in sorted(folder.glob("torch*.whl")):
            name, number, _ = path.name.split("-", 2)
            entries.append(f"{name}=={number} \\\n    --hash=sha256:{digest(path)}\n")
        text = "".join(entries)
    lock = folder / LOCK
    lock.write_text(text, encoding="utf-8", newline="\n")
    _pip("download", *wheels_only, "--find-links", folder, "--require-hashes", "-r", lock)


def _pip(command, *arguments):
    # Without -P, a file of the working folder could stand in for pip.
    run = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", command, "--no-deps"]
    if code := subprocess.run([*run, *map(str, arguments)]).returncode:
        raise KitError(
            f"pip {command} failed with exit code {code} (its messages are above); install what "
            "is missing, or connect to the network if you asked for --wheels, and try again"
        )

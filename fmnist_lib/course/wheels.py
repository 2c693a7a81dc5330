"""The library and the packages that it needs as wheels, which pip installs without a network."""

import re
import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from fmnist_lib.common import UserError
from fmnist_lib.course.checksums import digest_of

BUILD = "import sys, flit_core.buildapi as backend; print(backend.build_wheel(sys.argv[1]))"
TORCH_CPU = "https://download.pytorch.org/whl/cpu"  # PyTorch's own index of builds without CUDA
CPU = "+cpu"


class WheelError(UserError):
    """The library cannot be built, or a package cannot be downloaded."""


def build_library(project, folder):
    """Build the library as a wheel, with the flit_core that is installed.

    Parameters
    ----------
    project : path
        The folder with ``pyproject.toml``.
    folder : path
        Where the wheel goes.

    Returns
    -------
    str
        The name of the file.

    Raises
    ------
    WheelError
    """
    with tempfile.TemporaryDirectory(prefix="fmnist-") as built:
        command = [sys.executable, "-c", BUILD, built]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True)
        if not done.returncode:
            name = done.stdout.split()[-1]
            # flit gives rights to its owner only; a copy gets those that files get here.
            shutil.copyfile(Path(built, name), Path(folder, name))
            return name
    reason = (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]
    raise WheelError(
        f"the library cannot be built as a wheel ({reason}); if it is flit_core that is missing, "
        "'pip install -e \".[test]\"' in the project's folder brings it"
    )


def download_packages(lock, folder):
    """Download the packages of a lock for this system and this version of Python.

    Where this environment has PyTorch's build without CUDA, that build is taken, from PyTorch's
    own index. It has other hashes; the lock is changed to them, and leaves out the packages of
    CUDA.

    Parameters
    ----------
    lock : path
        Pins with hashes.
    folder : path
        Where the wheels go.

    Raises
    ------
    WheelError
    """
    lock, folder = Path(lock), Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if version("torch").endswith(CPU):
        _take_cpu_builds(lock, folder)
    _download(folder, "--find-links", folder, "--require-hashes", "--requirement", lock)


def _take_cpu_builds(lock, folder):
    # An entry is a line that begins with a name, and the hashes and comments below it.
    entries = re.split(r"^(?=[a-z])", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)
    pins = [re.match(r"(torch|torchvision)==[0-9.]+", entry) for entry in entries]
    _download(folder, "--index-url", TORCH_CPU, *(pin[0] + CPU for pin in pins if pin))
    kept = [entry for entry in entries if not re.match(r"torch|triton|nvidia|cuda", entry)]
    for path in sorted(folder.glob("torch*.whl")):
        name, number, _ = path.name.split("-", 2)
        kept.append(f"{name}=={number} \\\n    --hash=sha256:{digest_of(path)}\n")
    lock.write_text("".join(kept), encoding="utf-8", newline="\n")


def _download(folder, *what):
    # Wheels only: what comes as source would need a network again, to be built.
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", folder, *what]
    if code := subprocess.run([*map(str, command)]).returncode:
        raise WheelError(
            f"pip cannot download the packages (exit code {code}; its own words stand above); "
            "if it is the network, connect and try again; or make the kit without --wheels"
        )

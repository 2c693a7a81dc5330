"""Set up the course: an environment in ``.venv`` with the packages of the lock.

``python3 -m fmnist_lib.install`` in the project's folder is all it takes; ``make`` does the same
before each command. If everything is in place, nothing happens. This module needs no package, and
its syntax is old enough for an old Python to read it and say that it is too old.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from functools import lru_cache
from pathlib import Path
from urllib.request import urlopen

ROOT = Path(__file__).resolve().parent.parent
LOCK, TOOLS, PROJECT = "requirements.lock", "tests/requirements.lock", "pyproject.toml"
TORCH_INDEX = os.environ.get("FMNIST_TORCH_INDEX", "https://download.pytorch.org/whl").rstrip("/")
SECONDS = 5  # for PyTorch's index to answer
DRIVER_FILES = ("/proc/driver/nvidia", "/dev/nvidiactl", "/usr/lib/wsl/lib/nvidia-smi")
BUILDS = {
    "cpu": "the build without CUDA",
    "cuda": "the build with CUDA",
    "default": "the build of " + LOCK,
}


def main(arguments=None):
    """Set up the environment, or bring it up to date."""
    parser = argparse.ArgumentParser(prog="python3 -m fmnist_lib.install", description=main.__doc__)
    parser.add_argument("--torch", metavar="cpu|cuda|default", help="build of PyTorch (or: TORCH)")
    parser.add_argument("--with", dest="tools", choices=["test"], help="add what the tests need")
    options = parser.parse_args(arguments)
    if sys.version_info < (3, 11):  # noqa: UP036
        sys.exit(
            "This is Python {}.{}, and the course needs 3.11 or newer.".format(*sys.version_info)
        )
    if not (ROOT / LOCK).is_file():
        sys.exit(f"There is no {LOCK} in {ROOT}; run this in the project's folder.")
    asked = check_build(options.torch or os.environ.get("TORCH"), sys.platform)
    try:
        install(ROOT, asked, [LOCK, TOOLS, PROJECT] if options.tools else [LOCK, PROJECT])
    except subprocess.CalledProcessError as error:
        step = " ".join(error.cmd[2:5])
        sys.exit(
            f"The set-up stopped at '{step}' (its messages are above); fix that, and try again."
        )
    except OSError as error:
        sys.exit(f"The set-up stopped: {error}; fix that, and try again.")
    except KeyboardInterrupt:
        sys.exit("The set-up was interrupted; the next command starts it again.")


def install(root, asked, sources):
    """Install what is missing or out of date in a folder's environment, or rebuild it."""
    from fmnist_lib.common import digest

    venv = root / ".venv"
    marker = venv / ".ready"
    state = read_marker(marker)
    fault = find_fault(venv, state, root, asked)
    if fault:
        print(f".venv {fault}; rebuilding it.", flush=True)
    if fault or not venv.exists():
        state = {"folder": str(root), "sources": {}}
    now = {source: digest(root / source) for source in sources}
    outdated = [source for source in sources if state["sources"].get(source) != now[source]]
    if not outdated:
        return
    marker.unlink(missing_ok=True)  # an interrupted set-up is no environment
    if not state["sources"]:
        state["torch"] = announce_torch(root, asked)
        # The base Python, since this one may be that of the environment to clear.
        run(getattr(sys, "_base_executable", sys.executable), "-m", "venv", "--clear", venv)
        state["python"] = python_version(venv)
    for source in outdated:
        install_source(root, venv, source, state["torch"])
    state["sources"].update(now)
    marker.write_text(json.dumps(state), encoding="utf-8")


def read_marker(path):
    """Read what an environment was made from; empty unless the set-up finished."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def find_fault(venv, state, root, asked):
    """Say why an environment has to be rebuilt; "" if it need not be."""
    if not venv.exists():
        return ""
    if not state:
        return "is incomplete"
    if state["folder"] != str(root):  # its scripts, and its link to the project, point there
        return f"was made in {state['folder']}"
    if python_version(venv) != state["python"]:
        return f"no longer has Python {state['python']}"
    if asked and asked != state["torch"]:
        return f"has PyTorch in {BUILDS[state['torch']]}, and TORCH={asked} asks for another"
    return ""


def python_of(venv):
    """Return the path of an environment's Python."""
    return venv / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def python_version(venv):
    """Ask an environment's Python for its version, such as "3.11"; "" if there is none."""
    command = [str(python_of(venv)), "-c", "import sys; print('{}.{}'.format(*sys.version_info))"]
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8").stdout.strip()
    except OSError:
        return ""


def check_build(asked, platform):
    """Check the build asked for; "default" if that is what the lock installs on this platform."""
    if not asked:
        return ""
    if asked not in BUILDS:
        sys.exit(f"TORCH is {asked!r}; it can be {', '.join(BUILDS)}, or left out.")
    if asked == "cuda" and platform == "darwin":
        sys.exit("TORCH is 'cuda', which PyTorch does not have for macOS; leave it out.")
    usual = "cuda" if platform.startswith("linux") else "cpu"  # what PyPI holds for this system
    return "default" if asked == usual else asked


def announce_torch(root, asked):
    """Choose the build of PyTorch; print which, why, and how to choose another."""
    build, reason = (asked, "as asked") if asked else choose_torch(root, sys.platform)
    print(
        f"PyTorch: {BUILDS[build]} ({reason}); choose with TORCH=cpu, cuda or default.", flush=True
    )
    return build


def choose_torch(root, platform):
    """Choose a build of PyTorch for this machine, and say why."""
    if not platform.startswith("linux"):
        return "default", "which has no CUDA here"
    driver = find_driver()
    if driver:
        return "default", f"NVIDIA driver found: {driver}"
    if has_cpu_build(root):
        return "cpu", "no NVIDIA driver found"
    problem = f"{TORCH_INDEX} did not offer the smaller build within {SECONDS} s"
    return "default", f"no NVIDIA driver found, but {problem}"


def find_driver():
    """Return the path of a sign of an NVIDIA driver; "" if there is none."""
    files = [path for path in DRIVER_FILES if os.path.exists(path)]
    return shutil.which("nvidia-smi") or (files or [""])[0]


def has_cpu_build(root):
    """Tell whether PyTorch's index answers in time, and has the lock's version without CUDA."""
    (torch, *_), _ = split_lock((root / LOCK).read_text(encoding="utf-8"))
    pages = []

    def look():
        try:
            with urlopen(f"{TORCH_INDEX}/cpu/torch/", timeout=SECONDS) as page:
                pages.append(page.read().decode())
        except OSError:
            pass

    # In a thread, since the timeout does not cover the look-up of the host's address.
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(SECONDS)
    return torch.replace("==", "-") + "%2Bcpu" in "".join(pages).replace("+cpu", "%2Bcpu")


def split_lock(text):
    """Split a lock into the pins of PyTorch, and the entries of all but PyTorch and CUDA."""
    entries = re.split(r"^(?=[a-z])", text, flags=re.MULTILINE)
    pins = [re.match(r"(?:torch|torchvision)==[0-9.]+", entry) for entry in entries]
    rest = [entry for entry in entries if not re.match("torch|triton|nvidia|cuda", entry)]
    return [pin.group() for pin in pins if pin], rest


def install_source(root, venv, source, build):
    """Install the packages of a lock, or the project itself."""
    python = python_of(venv)
    if source == PROJECT:
        # As ".", since parts of the folder's path could be read as a comment or a marker.
        uv(python, "--no-build-isolation", "--editable", ".", cwd=root)
        return
    text = (root / source).read_text(encoding="utf-8")
    if source == LOCK:
        (entry,) = re.findall(r"^uv==.*\n(?: .*\n)*", text, flags=re.MULTILINE)
        pinned = write(venv / "uv.txt", entry)
        pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")
        run(python, *pip, "--require-hashes", "-r", pinned)
        if build != "default":  # the lock has no hashes of PyTorch's own index
            pins, rest = split_lock(text)
            text = "".join(rest)
            cpu = ("--default-index", f"{TORCH_INDEX}/cpu")
            uv(python, *(cpu if build == "cpu" else ("--torch-backend", "auto")), *pins)
    uv(python, "--require-hashes", "-r", write(venv / "requirements.txt", text))


def write(path, text):
    """Write a text file, and return its path."""
    path.write_text(text, encoding="utf-8")
    return path


def uv(python, *arguments, **options):
    """Run uv's install command, without dependencies: the locks name them all."""
    install = ("-m", "uv", "pip", "install", "--python", python, "--no-deps")
    run(python, *install, *arguments, env={**pip_index(python), **os.environ}, **options)


@lru_cache(maxsize=None)  # noqa: UP033
def pip_index(python):
    """Find the index that pip is configured with, which uv does not read."""
    command = [str(python), "-m", "pip", "config", "list"]
    listed = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8").stdout
    found = re.findall(r"^\S+\.index-url='(.*)'$", listed, flags=re.MULTILINE)
    return {"UV_DEFAULT_INDEX": found[-1]} if found else {}


def run(*command, **options):
    """Run a command, showing its output."""
    subprocess.run([str(part) for part in command], check=True, **options)


if __name__ == "__main__":
    main()

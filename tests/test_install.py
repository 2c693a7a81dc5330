"""The set-up: which PyTorch, when it rebuilds, and a whole one from an index on the loopback."""

import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import files
from pathlib import Path
from threading import Thread
from urllib.parse import quote

import pytest

from fmnist_lib import install
from fmnist_lib.common import digest

ROOT = Path(__file__).parent.parent


def test_the_set_up_needs_nothing_but_python():
    command = [sys.executable, "-S", "-m", "fmnist_lib.install", "--torch", "gpu"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, encoding="utf-8")
    assert done.returncode == 1
    assert "TORCH is 'gpu'; it can be cpu, cuda, default" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_old_python_and_a_wrong_folder_end_in_one_sentence(monkeypatch, tmp_path):
    with monkeypatch.context() as old:
        old.setattr(install.sys, "version_info", (3, 9))
        with pytest.raises(SystemExit, match=r"Python 3\.9.* needs 3\.11"):
            install.main([])
    monkeypatch.setattr(install, "ROOT", tmp_path)
    with pytest.raises(SystemExit, match=r"no requirements\.lock .*; run this in the project"):
        install.main([])


# Which build of PyTorch.


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def serve():
    """Serve a folder on the loopback: (folder) -> address."""
    servers = []

    def start(folder):
        handler = partial(Quiet, directory=str(folder))
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def project(tmp_path):
    """Make a folder with the lock of a small project."""
    (root := tmp_path / "project").mkdir()
    (root / install.LOCK).write_text("torch==2.15.0 \\\n    --hash=sha256:0\n")
    return root


def page(folder, name, links):
    (index := folder / name).mkdir(parents=True)
    (index / "index.html").write_text("".join(f'<a href="{link}">x</a>' for link in links))


@pytest.mark.parametrize(
    ("platform", "driver", "wheel", "build", "reason"),
    [
        ("linux", False, "torch-2.15.0%2Bcpu-cp311.whl", "cpu", "no NVIDIA driver"),
        ("linux", False, "torch-2.14.0%2Bcpu-cp311.whl", "default", "did not offer"),
        ("linux", True, "torch-2.15.0%2Bcpu-cp311.whl", "default", "driver found: .*nvidiactl"),
        ("darwin", False, "torch-2.15.0%2Bcpu-cp311.whl", "default", "no CUDA here"),
        ("win32", False, "torch-2.15.0%2Bcpu-cp311.whl", "default", "no CUDA here"),
    ],
)
def test_the_build_without_cuda_is_chosen_where_no_driver_is(
    project, serve, tmp_path, monkeypatch, capsys, platform, driver, wheel, build, reason
):
    page(tmp_path / "cpu", "torch", [wheel])
    monkeypatch.setattr(install, "TORCH_INDEX", serve(tmp_path))
    (tmp_path / "nvidiactl").touch()
    monkeypatch.setattr(install, "DRIVER_FILES", [str(tmp_path / "nvidiactl")] if driver else [])
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "platform", platform)
    assert install.announce_torch(project, "") == build
    (line,) = capsys.readouterr().out.splitlines()
    words = rf"PyTorch: {install.BUILDS[build]} \(.*{reason}.*TORCH=cpu, cuda or default"
    assert re.match(words, line)


def test_an_index_that_is_silent_is_not_waited_for(project, monkeypatch):
    monkeypatch.setattr(install, "SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(install, "TORCH_INDEX", f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert not install.has_cpu_build(project)


@pytest.mark.parametrize(
    ("asked", "platform", "build"),
    [
        (None, "linux", ""),
        ("", "linux", ""),
        ("cpu", "linux", "cpu"),
        ("cuda", "linux", "default"),
        ("default", "linux", "default"),
        ("cpu", "darwin", "default"),
        ("cpu", "win32", "default"),
        ("cuda", "win32", "cuda"),
    ],
)
def test_a_name_for_what_the_lock_installs_is_the_default(asked, platform, build):
    assert install.check_build(asked, platform) == build


def test_there_is_no_cuda_for_macos():
    with pytest.raises(SystemExit, match="not have for macOS; leave it out"):
        install.check_build("cuda", "darwin")


def test_the_lock_without_cuda_keeps_all_else():
    text = (ROOT / install.LOCK).read_text(encoding="utf-8")
    pins, rest = install.split_lock(text)
    assert [pin.split("==")[0] for pin in pins] == ["torch", "torchvision"]
    names = set(re.findall(r"^([a-z0-9-]+)==", text, re.MULTILINE))
    kept = {entry.split("==")[0] for entry in rest if "==" in entry}
    assert all(re.match("torch|triton|nvidia-|cuda-", name) for name in names - kept)
    assert {"numpy", "filelock", "sympy", "uv", "tensorboard"} <= kept


# When an environment is rebuilt.


@pytest.fixture
def environment(tmp_path):
    """Make what looks like a finished environment, and return its folder and what it says."""
    python = install.python_of(tmp_path / ".venv")
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    version = "{}.{}".format(*sys.version_info)
    return tmp_path / ".venv", {"folder": str(tmp_path), "python": version, "torch": "cpu"}


@pytest.mark.parametrize(
    ("change", "asked", "fault"),
    [
        ({}, "", ""),
        ({}, "cpu", ""),
        ({}, "default", "has PyTorch in the build without CUDA, .* TORCH=default asks for another"),
        ({"folder": "/elsewhere"}, "", "was made in /elsewhere"),
        ({"python": "3.99"}, "", r"no longer has Python 3\.99"),
    ],
)
def test_an_environment_has_a_fault_or_none(environment, change, asked, fault):
    venv, state = environment
    assert re.fullmatch(fault, install.find_fault(venv, state | change, venv.parent, asked))


def test_an_environment_without_its_python_or_its_marker_is_none(environment):
    venv, state = environment
    assert install.find_fault(venv, {}, venv.parent, "") == "is incomplete"
    install.python_of(venv).unlink()
    assert "no longer has Python" in install.find_fault(venv, state, venv.parent, "")


@pytest.mark.parametrize("text", [None, "", "default\n", "[1]", '{"folder": "/a'])
def test_a_marker_that_is_no_record_says_nothing(tmp_path, text):
    if text is not None:
        (tmp_path / ".ready").write_text(text)
    assert install.read_marker(tmp_path / ".ready") == {}


# A whole set-up, from an index on the loopback.


def read_metadata(name, version):
    return f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"


def make_wheel(folder, name, version, contents):
    """Make a wheel of texts by file name, and list it in an index; return its line for a lock."""
    info = f"{name}-{version}.dist-info"
    tag = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    contents = contents | {f"{info}/METADATA": read_metadata(name, version), f"{info}/WHEEL": tag}
    path = folder / f"{name}-{version}-py3-none-any.whl"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in contents.items():
            wheel.writestr(file, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in contents))
    (folder / "index.html").write_text(f'<a href="{quote(path.name)}">{path.name}</a>')
    return f"{name.replace('_', '-')}=={version} \\\n    --hash=sha256:{digest(path)}\n"


@pytest.fixture
def packages(tmp_path):
    """Make two indices, PyPI's and PyTorch's, and return the lock of what they hold."""
    uv = pytest.importorskip("uv").find_uv_bin()
    starts_uv = f"import subprocess, sys\nsys.exit(subprocess.call([{uv!r}, *sys.argv[1:]]))\n"
    flit = {str(p): p.read_text() for p in files("flit_core") if p.suffix == ".py"}
    simple, cpu = tmp_path / "simple", tmp_path / "whl" / "cpu"
    lock = [
        make_wheel(simple / "flit-core", "flit_core", "3.12.0", flit),
        make_wheel(simple / "nvidia-blas", "nvidia_blas", "13", {}),
        make_wheel(simple / "torch", "torch", "2.15.0", {"torch.py": "build = 'cuda'\n"}),
        make_wheel(simple / "uv", "uv", "0.13.9", {"uv/__main__.py": starts_uv}),
    ]
    make_wheel(cpu / "torch", "torch", "2.15.0+cpu", {"torch.py": "build = 'cpu'\n"})
    return "".join(lock)


@pytest.fixture
def course(tmp_path, packages):
    """Make a small project, in a folder with an odd name."""
    (root := tmp_path / "Käfer & {Co} 100% #1; it's").mkdir()
    (root / "fmnist_lib").mkdir()
    for name in ("__init__.py", "common.py", "install.py"):
        shutil.copy(ROOT / "fmnist_lib" / name, root / "fmnist_lib")
    (root / "pyproject.toml").write_text(
        '[project]\nname = "fmnist-lib"\nversion = "1"\ndescription = "A tiny one"\n'
        '[build-system]\nrequires = ["flit_core"]\nbuild-backend = "flit_core.buildapi"\n'
    )
    (root / install.LOCK).write_text(packages)
    return root


@pytest.fixture
def set_up(serve, tmp_path):
    """Set a project up, with no other index than those here: (root, **variables) -> process."""
    address = serve(tmp_path)
    own = ("PIP_", "UV_", "TORCH", "FMNIST_", "VIRTUAL_ENV")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(own)}
    clean |= {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": f"{address}/simple"}
    clean |= {"UV_CACHE_DIR": str(tmp_path / "cache"), "UV_NO_CONFIG": "1"}

    def call(root, **variables):
        environment = clean | {"FMNIST_TORCH_INDEX": f"{address}/whl"} | variables
        command = [sys.executable, "-m", "fmnist_lib.install"]
        options = {"cwd": root, "env": environment, "encoding": "utf-8"}
        return subprocess.run(command, capture_output=True, **options)

    return call


def ask(root, code):
    """Run code in the environment of a project, from another folder."""
    command = [install.python_of(root / ".venv"), "-I", "-c", code]
    done = subprocess.run(command, cwd=root.parent, capture_output=True, encoding="utf-8")
    return done.stdout.strip() or done.stderr


BUILD = "import torch; print(torch.build)"


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere no build is chosen")
def test_an_environment_is_made_once_and_rebuilt_when_it_must_be(
    course, set_up, packages, tmp_path
):
    asked = set_up(course, TORCH="cpu")
    assert asked.returncode == 0, asked.stderr
    assert "PyTorch: the build without CUDA (as asked)" in asked.stdout
    assert ask(course, BUILD) == "cpu"
    assert not [*(course / ".venv").rglob("nvidia_blas*")]
    assert ask(course, "import fmnist_lib; print(fmnist_lib.__file__)").startswith(str(course))
    again = set_up(course)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")

    copy = shutil.copytree(course, tmp_path / "a copy", symlinks=True)
    wrong = re.sub(r"(nvidia.*\n.*sha256:)\w+", rf"\g<1>{'0' * 64}", packages)
    (copy / install.LOCK).write_text(wrong)
    refused = set_up(copy, TORCH="default")
    assert refused.returncode == 1
    assert f".venv was made in {course}; rebuilding it." in refused.stdout
    assert "Hash mismatch" in refused.stderr
    assert "The set-up stopped at 'uv pip install'" in refused.stderr

    (copy / install.LOCK).write_text(packages)
    mended = set_up(copy, TORCH="default")
    assert mended.returncode == 0, mended.stderr
    assert ".venv is incomplete; rebuilding it." in mended.stdout
    assert ask(copy, BUILD) == "cuda"
    assert ask(copy, "import fmnist_lib; print(fmnist_lib.__file__)").startswith(str(copy))

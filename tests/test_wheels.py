"""The library and its packages as wheels; pip takes them from a folder, never from the network."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from fmnist_lib.course import wheels
from fmnist_lib.course.wheels import WheelError, build_library, download_packages

ROOT = Path(__file__).parent.parent
# An entry of a lock, and one that is for another system.
ENTRY = "{name}=={version}{marker} \\\n    --hash=sha256:{digest}\n    # via fmnist-lib\n"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Give a folder that pip takes for the whole world, and make wheels in it: (name, version)."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))

    def make(name, version):
        info = f"{name}-{version}.dist-info"
        path = folder / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            wheel.writestr(f"{info}/METADATA", head)
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        return hashlib.sha256(path.read_bytes()).hexdigest()

    return make


def entry(name, version, digest="0" * 64, marker=""):
    return ENTRY.format(name=name, version=version, digest=digest, marker=marker)


def test_the_wheel_of_the_library_is_whole(tmp_path):
    name = build_library(ROOT, tmp_path)
    assert name == "fmnist_lib-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(tmp_path / name) as wheel:
        packed = {file for file in wheel.namelist() if file.startswith("fmnist_lib/")}
    library = (path for path in (ROOT / "fmnist_lib").rglob("*") if path.is_file())
    wanted = {path.relative_to(ROOT).as_posix() for path in library if path.suffix != ".pyc"}
    assert packed == wanted
    assert (tmp_path / name).stat().st_mode & 0o077 == (ROOT / "LICENSE").stat().st_mode & 0o077


def test_a_library_that_cannot_be_built_is_told_with_the_reason(tmp_path):
    (tmp_path / "pyproject.toml").write_text("[project")
    with pytest.raises(WheelError, match=r"built as a wheel \(.*TOMLDecodeError.*\); if it is "):
        build_library(tmp_path, tmp_path)


def test_packages_are_those_of_the_lock_for_this_system(tmp_path, index, monkeypatch):
    monkeypatch.setattr(wheels, "version", lambda name: "2.15.0")
    lock = tmp_path / "requirements.lock"
    text = entry("torch", "2.15.0", index("torch", "2.15.0"))
    text += entry("winpty", "3", marker=" ; sys_platform == 'nothing'")
    lock.write_text(text)
    download_packages(lock, tmp_path / "wheels")
    assert [p.name for p in (tmp_path / "wheels").iterdir()] == ["torch-2.15.0-py3-none-any.whl"]
    assert lock.read_text() == text


def test_where_there_is_no_cuda_its_packages_are_left_out(tmp_path, index, monkeypatch):
    monkeypatch.setattr(wheels, "version", lambda name: "2.15.0+cpu")
    lock = tmp_path / "requirements.lock"
    tqdm = entry("tqdm", "4.67", index("tqdm", "4.67"))
    cuda = [entry(n, "1") for n in ("cuda-toolkit", "nvidia-cublas", "triton")]
    pins = [entry("torch", "2.15.0"), tqdm, entry("torchvision", "0.30.0")]
    lock.write_text("".join(cuda + pins))
    digests = {n: index(n, f"{v}+cpu") for n, v in (("torch", "2.15.0"), ("torchvision", "0.30.0"))}
    download_packages(lock, tmp_path / "wheels")
    assert sorted(p.name.split("-")[0] for p in (tmp_path / "wheels").iterdir()) == [
        *("torch", "torchvision", "tqdm")
    ]
    # pip has checked these hashes.
    assert lock.read_text() == (
        f"{tqdm}torch==2.15.0+cpu \\\n    --hash=sha256:{digests['torch']}\n"
        f"torchvision==0.30.0+cpu \\\n    --hash=sha256:{digests['torchvision']}\n"
    )


@pytest.mark.parametrize("trouble", ["absent", "other content"])
def test_a_package_that_cannot_be_had_is_told(tmp_path, index, monkeypatch, trouble, capfd):
    monkeypatch.setattr(wheels, "version", lambda name: "2.15.0")
    if trouble != "absent":
        index("torch", "2.15.0")
    (lock := tmp_path / "requirements.lock").write_text(entry("torch", "2.15.0"))
    with pytest.raises(WheelError) as refused:
        download_packages(lock, tmp_path / "wheels")
    assert str(refused.value) == (
        "pip cannot download the packages (exit code 1; its own words stand above); if it is the "
        "network, connect and try again; or make the kit without --wheels"
    )
    said = "No matching distribution" if trouble == "absent" else "DO NOT MATCH THE HASHES"
    assert said in capfd.readouterr().err

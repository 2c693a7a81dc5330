"""The kit for a class without a network: its contents, its packages, that it works there."""

import os
import re
import shutil
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
from bs4 import BeautifulSoup

from fmnist_lib import cli, download
from fmnist_lib.common import digest
from fmnist_lib.course import kit
from fmnist_lib.course.kit import KitError, check_kit, make_kit

ROOT = Path(__file__).parent.parent
CHECK = """
import fmnist_lib
from fmnist_lib.data import load_fashion_mnist
data = load_fashion_mnist()
def check(number, answer):
    print(fmnist_lib.__file__, len(data.train), "right" if answer == 48_000 else "not yet")
"""
SOLUTION = "### BEGIN SOLUTION\nn = 2 * 24_000\n### END SOLUTION"


@pytest.fixture
def project(tmp_path, write_chapter):
    """Make a project with two tiny chapters and a site of two pages."""
    root = tmp_path / "project"
    for name, text in {
        "book/_build/html/index.html": "<a href='book/batch.html'>",
        "book/_build/html/book/batch.html": "<img src='../_static/a.png'>",
        "book/_build/html/_static/a.png": "PNG",
        "requirements.lock": "tqdm==4.67.1\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for name in ("pyproject.toml", "README.md", "LICENSE", "LICENSE-text"):
        shutil.copyfile(ROOT / name, root / name)
    for name in ("01_one", "02_two"):
        path = root / f"notebooks/{name}.ipynb"
        write_chapter(path, SOLUTION, CHECK + "check('1.1', n)", tags=["solution"])
        notebook = nbformat.read(path, 4)
        notebook.cells.append(nbformat.v4.new_markdown_cell("[batch](../book/batch.md)"))
        nbformat.write(notebook, path)
    return root


@pytest.fixture
def make(project, tmp_path, monkeypatch):
    """Make a kit with small data and without building the library: (archive, **options)."""
    raw = download.raw_folder(tmp_path / "raw")
    raw.mkdir(parents=True)
    for name in download.FILE_NAMES:
        (raw / name).write_text(name)
    monkeypatch.setattr(kit, "find_data", lambda root: root or tmp_path / "raw")
    monkeypatch.setattr(kit, "SHA256", {name: digest(name) for name in download.FILE_NAMES})

    def no_build(project, folder):
        (wheel := folder / "fmnist_lib-1.whl").write_text("library")
        return wheel

    monkeypatch.setattr(kit, "_build_library", no_build)
    return lambda archive, **options: make_kit(archive, project / "notebooks", **options)


def contents(archive):
    with zipfile.ZipFile(archive) as file:
        return {name: file.read(name) for name in file.namelist()}


# What is in a kit.


def test_a_kit_holds_what_a_class_needs(make, project, tmp_path):
    make(archive := tmp_path / "new/folder/course.zip")
    with zipfile.ZipFile(archive) as file:
        # Readable for everybody, wherever it is unpacked.
        assert {info.external_attr >> 16 for info in file.infolist()} == {0o644}
    found = {name.removeprefix("course/"): content for name, content in contents(archive).items()}
    site = project / "book/_build/html"
    site = {f"site/{p.relative_to(site).as_posix()}": p for p in site.rglob("*") if p.is_file()}
    chapters = {"notebooks/01_one.ipynb", "notebooks/02_two.ipynb"}
    data = {f"data/{name}" for name in (*download.FILE_NAMES, "LICENSE")}
    others = {"README.txt", "LICENSE", "LICENSE-text", "requirements.lock", "fmnist_lib-1.whl"}
    assert found.keys() == site.keys() | chapters | data | others
    assert all(found[name] == path.read_bytes() for name, path in site.items())
    assert all(found[f"data/{name}"].decode() == name for name in download.FILE_NAMES)
    copy = found["notebooks/01_one.ipynb"].decode()
    assert "(../site/book/batch.html)" in copy
    assert "24_000" not in copy


def test_the_readme_says_what_to_type(make, tmp_path):
    make(tmp_path / "course.zip")
    readme = contents(tmp_path / "course.zip")["course/README.txt"].decode()
    for pip in (".venv/bin/pip", ".venv\\Scripts\\pip"):
        assert f"    {pip} install --no-deps --require-hashes -r requirements.lock\n" in readme
        assert f"    {pip} install --no-index --no-deps fmnist_lib-1.whl\n" in readme
    assert readme.count("notebooks/01_one.ipynb\n") == 2
    assert "Python {}.{} on ".format(*sys.version_info) in readme
    assert "$" not in readme


def test_the_command_makes_a_kit_and_checks_it(make, project, tmp_path, capsys):
    command = ["kit", str(tmp_path / "course.zip"), "--notebooks", str(project / "notebooks")]
    assert cli.main([*command, "--solved"]) == 0
    complete = capsys.readouterr().out
    found = contents(tmp_path / "course.zip")
    assert re.fullmatch(rf"complete: .*/course.zip, {len(found)} files, \d+ MB\n", complete)
    solved = found["course/solutions/01_one.ipynb"]
    assert b"24_000" in solved
    assert b"(../site/book/batch.html)" in solved
    (project / "requirements.lock").unlink()  # a check needs no project
    assert cli.main([*command, "--check"]) == 0
    assert capsys.readouterr().out == complete
    for option in (["--wheels"], ["--solved"], ["--data", "."], ["--overwrite"]):
        assert cli.main([*command, "--check", *option]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert option[0] in line


# Checking a kit.


def drop(name):
    """Leave out the members with this in their names."""

    def change(archive):
        kept = {n: content for n, content in contents(archive).items() if name not in n}
        with zipfile.ZipFile(archive, "w") as file:
            for n, content in kept.items():
                file.writestr(n, content)

    return change


def add(content, compression, size=None):
    """Add a member, which claims another size if one is given."""

    def change(archive):
        with zipfile.ZipFile(archive, "a") as file:
            file.writestr("course/more", content, compression)
            file.getinfo("course/more").file_size = size or len(content)

    return change


def damage(archive):
    drop("nothing")(archive)  # written again, uncompressed
    archive.write_bytes(archive.read_bytes().replace(b"PNG", b"PNH"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop("data/train-images"), "data/train-images-idx3-ubyte is missing"),
        (drop("notebooks/"), "no notebooks"),
        (damage, "Bad CRC-32 for file 'course/site/_static/a.png'"),
        (lambda archive: kit.SHA256.update({"t10k-labels-idx1-ubyte": ""}), "data/t10k-labels"),
        (lambda archive: archive.write_bytes(archive.read_bytes()[:-100]), "BadZipFile"),
        (add(b"", zipfile.ZIP_DEFLATED, 3 * 10**9), "3,000 MB, expected 500"),
        (add(b"", zipfile.ZIP_LZMA), "compressed in a way that kits are not"),
    ],
)
def test_a_file_that_is_not_a_complete_kit_is_refused(make, tmp_path, capsys, change, reason):
    make(archive := tmp_path / "course.zip")
    change(archive)
    assert cli.main(["kit", str(archive), "--check"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fmnist: {archive} is not a complete kit (")
    assert reason in line
    assert "copy it again" in line


def test_a_member_that_is_larger_than_it_says_is_not_unpacked(make, tmp_path):
    make(archive := tmp_path / "course.zip")
    add(bytes(10**8), zipfile.ZIP_DEFLATED, 10)(archive)
    tracemalloc.start()
    with pytest.raises(KitError, match="Bad CRC-32 for file 'course/more'"):
        check_kit(archive)
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


# Making one in the place of something else, or without its parts.


def test_an_earlier_kit_is_replaced_and_nothing_else(make, tmp_path):
    make(archive := tmp_path / "course.zip", solved=True)
    make(archive)
    assert "course/solutions/01_one.ipynb" not in contents(archive)
    archive.write_text("thesis")
    with pytest.raises(KitError, match=r"not a complete kit .* not replaced; add --overwrite"):
        make(archive)
    assert archive.read_text() == "thesis"
    make(archive, overwrite=True)
    check_kit(archive)
    assert {path.name for path in tmp_path.iterdir()} == {"course.zip", "project", "raw"}


def test_a_kit_is_one_archive(make, tmp_path):
    (tmp_path / "folder.zip").mkdir()
    for name in ("kit", "folder.zip"):
        with pytest.raises(KitError, match=rf"one archive, not .*{name}; name a file"):
            make(tmp_path / name, overwrite=True)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("book/_build/html/index.html", "the site is not built .* run 'make book'"),
        ("requirements.lock", r"requirements\.lock cannot be read .*--notebooks"),
    ],
)
def test_a_part_that_is_missing_is_named(make, project, tmp_path, name, words):
    (project / name).unlink()
    with pytest.raises(KitError, match=words):
        make(tmp_path / "course.zip")
    assert not (tmp_path / "course.zip").exists()


# The library and its packages: pip takes them from a folder here, never from the network.


def entry(name, version, digest="0" * 64, marker=""):
    lines = f"{name}=={version}{marker} \\\n    --hash=sha256:{digest}\n"
    return f"{lines}    # via fmnist-lib\n"


@pytest.fixture
def index(tmp_path, monkeypatch):
    """Let pip know only a folder, and make wheels in it: (name, version) -> SHA-256."""
    (folder := tmp_path / "index").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))

    def add(name, version):
        info = f"{name}-{version}.dist-info"
        path = folder / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            wheel.writestr(f"{info}/METADATA", head)
            wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
            wheel.writestr(f"{info}/RECORD", "")
        return digest(path)

    return add


def test_the_wheel_of_the_library_is_whole(tmp_path):
    path = kit._build_library(ROOT, tmp_path)
    assert path.name == "fmnist_lib-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path) as wheel:
        packed = {file for file in wheel.namelist() if file.startswith("fmnist_lib/")}
    library = (path for path in (ROOT / "fmnist_lib").rglob("*") if path.is_file())
    wanted = {path.relative_to(ROOT).as_posix() for path in library if path.suffix != ".pyc"}
    assert packed == wanted


THEIRS = "import pathlib\npathlib.Path(__file__).with_name('executed').touch()\n"
TOOLS = ("pip/__init__", "flit_core/__init__", "flit_core/buildapi", "json", "setup", "mine")


def test_nothing_that_lies_in_a_project_is_executed(project, tmp_path, monkeypatch):
    """Neither what has the name of a tool or of a module of Python, nor a backend of its own."""
    for name in TOOLS:
        (project / name).parent.mkdir(exist_ok=True)
        (project / f"{name}.py").write_text(THEIRS)
    shutil.copytree(ROOT / "fmnist_lib", project / "fmnist_lib")
    (project / "fmnist_lib/__init__.py").write_text(f"'A library.'\n{THEIRS}__version__ = '1'\n")
    settings, backend = project / "pyproject.toml", 'build-backend = "mine"\nbackend-path = ["."]'
    text = re.sub("build-backend = .*", backend, settings.read_text())
    settings.write_text(text)
    monkeypatch.chdir(project)
    assert kit._build_library(project, tmp_path).is_file()
    with pytest.raises(KitError, match="pip check failed"):
        kit._pip("check", "--unheard-of")
    # For this, flit would import the library.
    settings.write_text(re.sub("^version = .*", "dynamic = ['version']", text, flags=re.M))
    with pytest.raises(KitError, match=r"cannot be packed .* lacks the version"):
        kit._build_library(project, tmp_path)
    assert not [*project.rglob("executed")]


@pytest.mark.parametrize("text", ["project = 3", "[project]\nname = 'fmnist-lib'", "x = ", ""])
def test_a_library_that_cannot_be_packed_is_reported_in_one_sentence(project, tmp_path, text):
    (project / "pyproject.toml").write_text(text)
    with pytest.raises(KitError, match=r"^the library in .* cannot be packed [^\n]*$"):
        kit._build_library(project, tmp_path)


@pytest.mark.parametrize("build", ["", "+cpu"])
def test_packages_are_those_for_this_system(make, project, tmp_path, index, monkeypatch, build):
    """Where PyTorch here has no CUDA, its builds without it, and none of the packages of CUDA."""
    monkeypatch.setattr(kit, "version", lambda name: f"2.15.0{build}")
    digests = {name: index(name, f"2.15.0{build}") for name in ("torch", "torchvision")}
    other = entry("tqdm", "4.67", index("tqdm", "4.67"))
    other += entry("winpty", "3", marker=" ; sys_platform == 'nothing'")
    torch = "".join(entry(name, "2.15.0", digest) for name, digest in digests.items())
    cuda = "".join(entry(name, "1") for name in ("cuda-toolkit", "nvidia-cublas", "triton"))
    lock = (cuda if build else "") + torch + other
    (project / "requirements.lock").write_text(lock)
    make(tmp_path / "course.zip", wheels=True)
    packages = tmp_path / "course-wheels"
    names = [path.name.split("-")[0] for path in packages.glob("*.whl")]
    assert sorted(names) == ["torch", "torchvision", "tqdm"]
    # pip has checked these hashes.
    cpu = torch.replace("2.15.0", "2.15.0+cpu").replace("    # via fmnist-lib\n", "")
    assert (packages / "requirements.lock").read_text() == (other + cpu if build else lock)
    with pytest.raises(KitError, match="course-wheels exists; add --overwrite"):
        make(tmp_path / "course.zip", wheels=True)


def test_a_package_with_other_content_is_refused_and_leaves_the_earlier_kit(
    make, project, tmp_path, index, monkeypatch, capfd
):
    make(archive := tmp_path / "course.zip", solved=True)
    before = archive.read_bytes()
    monkeypatch.setattr(kit, "version", lambda name: "2.15.0")
    index("torch", "2.15.0")
    (project / "requirements.lock").write_text(entry("torch", "2.15.0"))
    with pytest.raises(KitError, match=r"pip download failed with exit code 1 .*--wheels"):
        make(archive, wheels=True)
    assert "DO NOT MATCH THE HASHES" in capfd.readouterr().err
    assert archive.read_bytes() == before
    assert not (tmp_path / "course-wheels").exists()


# Without a network.


LOADED = "script, img, iframe, source, link[rel~=stylesheet], link[rel~=icon], link[rel=preload]"


def loaded(path):
    """List what a page or a style sheet loads by itself."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".css":
        return re.findall(r"""(?:url\(|@import)\s*["']?([^"')]+)""", text)
    tags = BeautifulSoup(text, "html.parser").select(LOADED)
    return [tag.get("src") or tag["href"] for tag in tags if tag.get("src") or tag.get("href")]


def test_the_site_loads_nothing_from_another_host():
    site = ROOT / "book/_build/html"
    static = site / "_static"  # where what ends in .html is a template and not a page
    pages = [path for path in site.rglob("*.html") if static not in path.parents]
    if not pages:
        pytest.skip("needs the site: run 'make book'")
    found = [(path, address) for path in [*pages, *site.rglob("*.css")] for address in loaded(path)]
    assert len(found) > len(pages)
    for path, address in found:
        assert not re.match(r"\s*(\w+:)?//", address), f"{path} loads {address}"
        local = unquote(re.sub("[?#].*|^data:.*", "", address))
        assert not local or (path.parent / local).exists(), f"{path} loads {address}"


OFFLINE = """
import fcntl, os, socket, struct, sys
# In a new network namespace not even the machine itself can be reached, until this.
fcntl.ioctl(socket.socket(), 0x8914, struct.pack("16sH22x", b"lo", 0x41))
try:
    socket.create_connection(("1.1.1.1", 443), timeout=1)
except OSError:
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.usefixtures("full_data")
def test_with_a_kit_the_chapters_run_without_a_network(project, tmp_path):
    """In a namespace without a network, with the kit's library, and with an empty home."""
    alone = ("unshare", "-rn", sys.executable, "-c", OFFLINE)
    if (
        sys.platform != "linux"
        or subprocess.run([*alone, "-c", ""], capture_output=True).returncode
    ):
        pytest.skip("needs Linux and permission to make a network namespace")
    shutil.copytree(ROOT / "fmnist_lib", project / "fmnist_lib")
    make_kit(tmp_path / "course.zip", project / "notebooks")
    with zipfile.ZipFile(tmp_path / "course.zip") as archive:
        archive.extractall(tmp_path)
    folder = tmp_path / "course"
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "FMNIST_DATA": str(folder / "data"),
        "PYTHONPATH": str(tmp_path / "library"),
    }

    def run(*command):
        command = [*alone, *map(str, command)]
        options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
        done = subprocess.run(command, **options)
        assert done.returncode == 0, done.stderr

    (tmp_path / "home").mkdir()
    (library,) = folder.glob("fmnist_lib-*.whl")
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, "--target", tmp_path / "library", library)
    run("-m", "papermill", folder / "notebooks/01_one.ipynb", tmp_path / "out.ipynb")
    cells = nbformat.read(tmp_path / "out.ipynb", 4).cells
    assert cells[0].source == "n = ...  # your answer"
    library = tmp_path / "library/fmnist_lib/__init__.py"
    assert cells[1].outputs[0].text == f"{library} 48000 not yet\n"

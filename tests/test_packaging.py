"""The three lists of packages name the same ones, and the lock pins every one with hashes."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent


def split_requirement(text):
    name, specifier = re.fullmatch(r"([A-Za-z0-9_.-]+)\s*(.*)", text).groups()
    return name, specifier.replace(" ", "")


LIBRARY = ("notebooks", "tensorboard")
COURSE = (*LIBRARY, "book", "test")


def read_project(*extras):
    """Read the packages that the project needs with some of its extras."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    groups = project["optional-dependencies"]
    assert set(groups) == {*COURSE, "bench"}
    wanted = [*project["dependencies"], *(r for name in extras for r in groups[name])]
    return dict(split_requirement(r.split(";")[0]) for r in wanted)


def read_lock(path):
    entries = re.split(r"^(?=[a-z0-9])", (ROOT / path).read_text(), flags=re.MULTILINE)
    return [entry for entry in entries if "==" in entry]


@pytest.fixture(scope="module")
def project():
    return read_project(*COURSE)


@pytest.fixture(scope="module")
def lock():
    return read_lock("requirements.lock")


def test_conda_brings_the_same_pytorch_and_every_extra_of_the_course(project):
    *conda, by_pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    ranges = dict(map(split_requirement, conda))
    assert ranges["pytorch-cpu"] == project["torch"]
    assert ranges["torchvision"] == project["torchvision"]
    (extras,) = re.findall(r"^-e \.\[(.*)\]$", *by_pip["pip"])
    assert set(extras.split(",")) == set(COURSE)


def test_the_lock_has_the_same_packages(project, lock):
    direct = {entry.split("==")[0] for entry in lock if "fmnist-lib (pyproject.toml)" in entry}
    assert direct == {name.lower().replace("_", "-") for name in project}


def test_every_locked_package_has_an_exact_version_and_hashes(lock):
    assert len(lock) > 100
    for entry in lock:
        assert re.match(r"[a-z0-9._-]+==[^\s*]+ ", entry), entry
        assert "--hash=sha256:" in entry, entry


def test_the_lock_of_the_benchmark_adds_to_that_of_the_course_and_changes_nothing(lock):
    pin = re.compile(r"([a-z0-9._-]+)==([^\s]+)")
    course = dict(pin.match(entry).groups() for entry in lock)
    entries = read_lock("benchmarks/requirements.lock")
    bench = dict(pin.match(entry).groups() for entry in entries)
    assert {name: bench[name] for name in bench if name in course}.items() <= course.items()
    direct = {entry.split("==")[0] for entry in entries if "fmnist-lib (pyproject.toml)" in entry}
    assert direct == {name.lower().replace("_", "-") for name in read_project("bench")}
    assert all("--hash=sha256:" in entry for entry in entries)


def test_locked_versions_are_inside_the_ranges(project, lock):
    from packaging.specifiers import SpecifierSet

    for entry in lock:
        name, version = re.match(r"([a-z0-9._-]+)==([^\s]+)", entry).groups()
        for wanted, specifier in project.items():
            if wanted.lower().replace("_", "-") == name:
                assert version in SpecifierSet(specifier), entry


@pytest.fixture
def make(tmp_path):
    """Call make in an empty folder: (*arguments, **variables of the environment) -> process."""
    if not shutil.which("make"):
        pytest.skip("needs make")
    shutil.copy(ROOT / "Makefile", tmp_path)
    rule = "include Makefile\nshow:\n\t@echo $(TORCH); printenv FMNIST_DATA\n"
    (tmp_path / "own.mk").write_text(rule)
    outer = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "TORCH", "FMNIST_DATA")
    inherited = {name: value for name, value in os.environ.items() if name not in outer}

    def call(*arguments, **variables):
        options = {"cwd": tmp_path, "env": inherited | variables, "encoding": "utf-8"}
        return subprocess.run(["make", "-f", "own.mk", *arguments], capture_output=True, **options)

    return call


def test_make_alone_lists_every_command_of_the_makefile(make):
    targets = re.findall(r"^([a-z-]+):.*  ## (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    printed = make("help").stdout.splitlines()
    assert printed == [f"{name:20}{purpose}" for name, purpose in targets]


def test_make_takes_no_other_torch_than_the_one_that_is_there(make, tmp_path):
    assert make("show").stdout == "default\n"
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / ".torch").write_text("cpu\n")
    assert make("show").stdout == make("show", "TORCH=cpu").stdout == "cpu\n"
    for refused in (make("show", "TORCH=default"), make("show", TORCH="default")):
        assert refused.returncode == 2
        assert "holds the build cpu of PyTorch, and TORCH=default asks for" in refused.stderr
        assert "run 'make clean' first, or leave TORCH out" in refused.stderr
    assert make("help", "TORCH=default").returncode == 0
    assert make("clean", "TORCH=default").returncode == 0
    assert make("show", "TORCH=default").stdout == "default\n"


@pytest.mark.parametrize("name", ["stick", "a stick"])
def test_make_passes_on_the_whole_path_of_the_data(make, tmp_path, name):
    (tmp_path / name).mkdir()
    expected = f"default\n{tmp_path / name}\n"
    assert make("show", f"FMNIST_DATA={name}").stdout == expected
    assert make("show", FMNIST_DATA=name).stdout == expected
    assert make("show", FMNIST_DATA=str(tmp_path / name)).stdout == expected


def test_every_import_of_the_library_is_declared():
    names = {"sklearn": "scikit-learn", "yaml": "pyyaml"}
    imported = set()
    for path in (ROOT / "fmnist_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                imported.add(node.module.split(".")[0])
    imported -= set(sys.stdlib_module_names) | {"fmnist_lib", "IPython"}  # IPython: via ipykernel
    assert {names.get(name, name) for name in imported} <= set(read_project(*LIBRARY))


def test_pages_include_files_that_are_there_and_hold_no_gaps():
    for page in [ROOT / "README.md", *(ROOT / "book").glob("*.md")]:
        text = page.read_text(encoding="utf-8")
        for file in re.findall(r"^:file: (.*)$", text, re.MULTILINE):
            assert (page.parent / file).is_file(), file
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", text):
            assert (page.parent / target).exists(), target
        assert not re.search(r"\| [AT]\d \|", text)

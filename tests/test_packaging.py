"""The three lists of packages name the same ones, and the lock pins every one with hashes."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


def split_requirement(text):
    name, specifier = re.fullmatch(r"([A-Za-z0-9_.-]+)\s*(.*)", text).groups()
    return canonicalize_name(name), specifier.replace(" ", "")


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


def pins(lock):
    """Return the version of each package of a lock, every one of which has hashes."""
    assert all("--hash=sha256:" in entry for entry in lock)
    return dict(re.match(r"([a-z0-9._-]+)==([^\s*]+) ", entry).groups() for entry in lock)


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


@pytest.mark.parametrize(
    ("path", "extras"),
    [("requirements.lock", COURSE), ("benchmarks/requirements.lock", ["bench"])],
)
def test_a_lock_has_the_same_packages(path, extras):
    lock = read_lock(path)
    direct = {entry.split("==")[0] for entry in lock if "fmnist-lib (pyproject.toml)" in entry}
    assert direct == read_project(*extras).keys()


def test_the_lock_of_the_benchmark_changes_nothing_in_that_of_the_course(lock):
    course, bench = pins(lock), pins(read_lock("benchmarks/requirements.lock"))
    assert {name: bench[name] for name in bench.keys() & course}.items() <= course.items()


def test_locked_versions_are_inside_the_ranges(project, lock):
    versions = pins(lock)
    assert len(versions) > 100
    for name, specifier in project.items():
        assert versions[name] in SpecifierSet(specifier), name


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
    assert make("clean", "TORCH=default").returncode == 0
    assert make("show", "TORCH=default").stdout == "default\n"


@pytest.mark.parametrize("name", ["stick", "a stick"])
def test_make_passes_on_the_whole_path_of_the_data(make, tmp_path, name):
    (tmp_path / name).mkdir()
    expected = f"default\n{tmp_path / name}\n"
    assert make("show", f"FMNIST_DATA={name}").stdout == expected
    assert make("show", FMNIST_DATA=name).stdout == expected


def test_every_import_of_the_library_is_declared():
    names = {"sklearn": "scikit-learn", "yaml": "pyyaml"}
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "fmnist_lib").rglob("*.py")]
    pattern = re.compile(r"^ *(?:import|from) (\w+)[\w.]*(?: import .*| as \w+|)$", re.MULTILINE)
    imported = set(pattern.findall("\n".join(sources)))
    imported -= set(sys.stdlib_module_names) | {"fmnist_lib", "IPython"}  # IPython: via ipykernel
    assert {names.get(name, name) for name in imported} <= set(read_project(*LIBRARY))

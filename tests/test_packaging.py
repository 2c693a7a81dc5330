"""The lists of packages name the same ones, the locks pin every one, make finds its way."""

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


LIBRARY = ("library", "notebooks", "tensorboard")
COURSE = (*LIBRARY, "book", "setup")


def read_project(*groups):
    """Read the packages that some groups of the project's settings name."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        settings = tomllib.load(file)
    project = settings["project"]
    known = project["optional-dependencies"] | settings["dependency-groups"]
    known["library"] = project["dependencies"]
    assert set(known) == {*COURSE, "test", "bench"}
    return dict(split_requirement(r.split(";")[0]) for name in groups for r in known[name])


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


def test_conda_brings_the_same_pytorch_and_what_chapters_need(project):
    *conda, by_pip = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    ranges = dict(map(split_requirement, conda))
    assert ranges["pytorch-cpu"] == project["torch"]
    assert ranges["torchvision"] == project["torchvision"]
    assert by_pip == {"pip": ["-e .[notebooks]"]}


@pytest.mark.parametrize(
    ("path", "groups"),
    [
        ("requirements.lock", COURSE),
        ("tests/requirements.lock", ["test"]),
        ("benchmarks/requirements.lock", ["library", "bench"]),
    ],
)
def test_a_lock_has_the_same_packages(path, groups):
    lock = read_lock(path)
    direct = {entry.split("==")[0] for entry in lock if "fmnist-lib (pyproject.toml" in entry}
    assert direct == read_project(*groups).keys()


@pytest.mark.parametrize("folder", ["tests", "benchmarks"])
def test_another_lock_changes_nothing_in_that_of_the_course(lock, folder):
    course, other = pins(lock), pins(read_lock(f"{folder}/requirements.lock"))
    assert {name: other[name] for name in other.keys() & course}.items() <= course.items()


@pytest.mark.parametrize("tool", ["pytest", "ruff", "hypothesis", "playwright", "nbval"])
def test_a_student_gets_no_tool_of_the_tests(lock, tool):
    assert tool not in pins(lock)
    assert tool in pins(read_lock("tests/requirements.lock"))


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
    rule = "include Makefile\nshow:\n\t@printenv FMNIST_DATA\n"
    (tmp_path / "own.mk").write_text(rule)
    outer = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "MAKEOVERRIDES", "FMNIST_DATA")
    inherited = {name: value for name, value in os.environ.items() if name not in outer}

    def call(*arguments, **variables):
        options = {"cwd": tmp_path, "env": inherited | variables, "encoding": "utf-8"}
        return subprocess.run(["make", "-f", "own.mk", *arguments], capture_output=True, **options)

    return call


def test_make_alone_lists_every_command_of_the_makefile(make):
    targets = re.findall(r"^([a-z-]+):.*  ## (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    printed = make("help").stdout.splitlines()
    assert printed == [f"{name:20}{purpose}" for name, purpose in targets]


@pytest.mark.parametrize("name", ["stick", "a stick", "Käfers {&} 'Stick' 100%"])
def test_make_passes_on_the_whole_path_of_the_data(make, tmp_path, name):
    (tmp_path / name).mkdir()
    expected = f"{tmp_path / name}\n"
    assert make("show", f"FMNIST_DATA={name}").stdout == expected
    assert make("show", FMNIST_DATA=name).stdout == expected


def test_every_import_of_the_library_is_declared():
    names = {"sklearn": "scikit-learn", "yaml": "pyyaml"}
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "fmnist_lib").rglob("*.py")]
    pattern = re.compile(r"^ *(?:import|from) (\w+)[\w.]*(?: import .*| as \w+|)$", re.MULTILINE)
    imported = set(pattern.findall("\n".join(sources)))
    imported -= set(sys.stdlib_module_names) | {"fmnist_lib", "IPython"}  # IPython: via ipykernel
    assert {names.get(name, name) for name in imported} <= set(read_project(*LIBRARY))

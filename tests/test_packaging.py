"""The lists of packages name the same ones, the locks pin every one, make finds its way."""

import json
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
    packages = {canonicalize_name(names.get(name, name)) for name in imported}
    assert packages <= set(read_project(*LIBRARY))


# The public address: what there is with it, and nothing without it.


ADDRESS = "https://github.com/someone/course"
README = "# A\n\n<!-- made by make links -->\n<!-- end of the links -->\n\nText.\n"


@pytest.fixture
def links(load_script):
    return load_script("book/_ext/links.py")


@pytest.fixture
def project_with_links(tmp_path, links, write_chapter):
    """Make a project of a README and one chapter, both without an address."""
    write_chapter(tmp_path / "notebooks/01_small.ipynb", f"{links.HERE}\n\nimport json", "json")
    (tmp_path / "notebooks/01_small.py").write_text(f"# %%\n{links.HERE}\n\nimport json\n")
    (tmp_path / "README.md").write_text(README)
    return tmp_path


def read_all(folder):
    return {path: path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_an_address_writes_links_and_none_takes_them_away(project_with_links, links):
    links.write_links(project_with_links, "")
    before = read_all(project_with_links)
    links.write_links(project_with_links, ADDRESS)
    after = read_all(project_with_links)
    readme, script, notebook = (
        next(text for path, text in after.items() if path.suffix == suffix)
        for suffix in (".md", ".py", ".ipynb")
    )
    assert "/github/someone/course/blob/main/notebooks/01_data_exploration.ipynb)" in readme
    assert "/v2/gh/someone/course/main?urlpath=lab/tree/notebooks/01_" in readme
    assert f'"git+{ADDRESS}"' in script
    assert f'git+{ADDRESS}\\"' in notebook
    links.write_links(project_with_links, "")
    assert read_all(project_with_links) == before
    assert (project_with_links / "README.md").read_text() == README


def test_each_first_cell_says_where_the_library_is(links):
    address = links.read_address(ROOT)
    block = links.PUBLIC.format(address=address) if address else links.HERE
    for path in sorted((ROOT / "notebooks").glob("0*.ipynb")):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        source = next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        assert source.startswith(f"{block}\n\n"), f"{path}: run 'make links'"


@pytest.mark.parametrize("colab", [True, False])
def test_without_the_library_the_cell_installs_it_in_colab_only(links, monkeypatch, colab):
    class Shell:
        calls = []  # noqa: RUF012

        def __str__(self):
            return f"<{'google.colab' if colab else 'ipykernel'}._shell.Shell object>"

        def run_line_magic(self, *call):
            self.calls.append(call)

    monkeypatch.setitem(sys.modules, "fmnist_lib", None)  # as if it were not installed
    names = {"get_ipython": Shell}
    with pytest.raises(ImportError, match=r"make lab.*%pip install FOLDER"):
        exec(links.HERE, names)
    if colab:
        exec(links.PUBLIC.format(address=ADDRESS), names)
        assert Shell.calls == [("pip", f"install --quiet git+{ADDRESS}")]
    else:
        with pytest.raises(ImportError, match=rf"%pip install git\+{ADDRESS}"):
            exec(links.PUBLIC.format(address=ADDRESS), names)


@pytest.mark.parametrize(
    ("urls", "address"),
    [
        ("", ""),
        ('[project.urls]\nRepository = ""', ""),
        (f'[project.urls]\nRepository = "{ADDRESS}/"', ADDRESS),
    ],
)
def test_the_address_is_read_from_the_project(links, tmp_path, urls, address):
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "x"\n{urls}\n')
    assert links.read_address(tmp_path) == address


def test_an_address_elsewhere_is_refused(links, tmp_path):
    urls = '[project.urls]\nRepository = "https://example.org/course"\n'
    (tmp_path / "pyproject.toml").write_text(f'[project]\nname = "x"\n{urls}')
    with pytest.raises(SystemExit, match=r"example\.org/course, .* https://github\.com/OWNER/NAME"):
        links.read_address(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("address", ["", ADDRESS])
def test_the_site_has_the_buttons_with_an_address_only(
    links, tmp_path, monkeypatch, write_chapter, address
):
    from sphinx.application import Sphinx

    write_chapter(tmp_path / "index.ipynb", "1")
    notebook = json.loads((tmp_path / "index.ipynb").read_text())
    notebook["cells"].insert(
        0, {"cell_type": "markdown", "metadata": {}, "source": "# A", "id": "a"}
    )
    (tmp_path / "index.ipynb").write_text(json.dumps(notebook))
    config = {"extensions": ["myst_nb", "links"], "html_theme": "sphinx_book_theme"}
    config |= {"nb_execution_mode": "off", "html_theme_options": {}}
    monkeypatch.setitem(sys.modules, "links", links)
    monkeypatch.setattr(links, "read_address", lambda project: address)
    folders = (tmp_path, None, tmp_path / "html", tmp_path / "trees")
    Sphinx(*folders, "html", confoverrides=config, status=None, warning=None).build()
    page = (tmp_path / "html/index.html").read_text(encoding="utf-8")
    for part in ("colab.research", "mybinder.org", f"{ADDRESS}/edit/main/", f"{ADDRESS}/issues"):
        assert (part in page) == bool(address), part


def test_the_workflow_runs_the_oldest_python_on_three_systems():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    matrix = workflow["jobs"]["check"]["strategy"]["matrix"]
    assert f">={matrix['python'][0]}" == project["requires-python"]
    assert [name.split("-")[0] for name in matrix["os"]] == ["ubuntu", "windows", "macos"]

"""The kit for a class without a network: its contents, that it works there, what goes wrong."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest

from fmnist_lib import cli, download
from fmnist_lib.course import checksums, kit
from fmnist_lib.course.kit import KitError, check_kit, make_kit

ROOT = Path(__file__).parent.parent
COPIED = ("pyproject.toml", "README.md", "LICENSE", "LICENSE-text")
CHECK = """
import fmnist_lib
from fmnist_lib.data import load_fashion_mnist
data = load_fashion_mnist()
def check(number, answer):
    print(fmnist_lib.__file__, len(data.train), "right" if answer == 48_000 else "not yet")
"""


def chapter(path, text):
    cell = nbformat.v4.new_code_cell
    cells = [
        nbformat.v4.new_markdown_cell(f"{text} [batch](../book/batch.md)"),
        cell(CHECK),
        cell("n = 2 * 24_000", metadata={"tags": ["solution", "hide-input"]}),
        cell("check('1.1', n)"),
    ]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "", "language": "python"}
    nbformat.write(notebook, path)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Make a project with two tiny chapters and a site of two pages."""
    root = tmp_path_factory.mktemp("project")
    for name in COPIED:
        shutil.copyfile(ROOT / name, root / name)
    (root / "requirements.lock").write_text("tqdm==4.67.1\n")
    site = root / "book/_build/html"
    for name, text in {
        "index.html": "<link rel='stylesheet' href='_static/a.css'><a href='book/batch.html'>",
        "book/batch.html": "<img src='../_static/a.png'>",
        "_static/a.css": "body { color: black }",
        "_static/a.png": "\x89PNG",
    }.items():
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(text, encoding="latin-1", newline="\n")
    (root / "notebooks").mkdir()
    for name in ("01_one", "02_two"):
        chapter(root / "notebooks" / f"{name}.ipynb", name)
    return root


@pytest.fixture(autouse=True)
def own_temporary_files(tmp_path_factory, monkeypatch):
    """Keep the locks of these kits together, and clear them away with pytest's own folders."""
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
    monkeypatch.setattr(tempfile, "tempdir", None)  # so that it is asked for anew


@pytest.fixture
def make(project, tmp_path, monkeypatch):
    """Make a kit with small data and without building the library: (folder, **options)."""
    raw = download.raw_folder(tmp_path / "raw")
    raw.mkdir(parents=True)
    for name in download.FILE_NAMES:
        (raw / name).write_text(name)

    def build(source, folder):
        assert source == project
        (folder / "fmnist_lib-1.whl").write_text("library")
        return "fmnist_lib-1.whl"

    monkeypatch.setattr(kit, "find_data", lambda root: root or tmp_path / "raw")
    monkeypatch.setattr(kit, "build_library", build)
    return lambda folder, **options: make_kit(
        folder, project / "notebooks", progress=False, **options
    )


def tree(folder):
    """Give all files of a folder, and the empty folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if path.is_file() or not any(path.iterdir())
    }


def check(folder):
    return check_kit(folder, progress=False)


# What is in a kit.


def test_a_kit_holds_what_a_class_needs(make, project, tmp_path):
    make(tmp_path / "kit")
    found = tree(tmp_path / "kit")
    site = {f"site/{name}" for name in tree(project / "book/_build/html")}
    chapters = {"notebooks/01_one.ipynb", "notebooks/02_two.ipynb"}
    data = {f"data/{name}" for name in (*download.FILE_NAMES, "LICENSE")}
    others = {"README.txt", "SHA256SUMS", "LICENSE", "LICENSE-text", "requirements.lock"}
    assert found.keys() == site | chapters | data | others | {"fmnist_lib-1.whl"}
    for name in site:
        assert found[name] == (project / "book/_build/html" / name[5:]).read_bytes()
    assert all(found[f"data/{name}"].decode() == name for name in download.FILE_NAMES)
    assert found["requirements.lock"] == b"tqdm==4.67.1\n"
    copy = found["notebooks/01_one.ipynb"].decode()
    assert "(../site/book/batch.html)" in copy
    assert "24_000" not in copy
    comparison = check(tmp_path / "kit")
    assert comparison.files == len(found) - 1
    assert comparison.size == sum(map(len, found.values())) - len(found["SHA256SUMS"])


def test_solutions_and_slides_come_in_where_they_are_wanted_and_there(
    make, project, tmp_path, monkeypatch
):
    slides = tmp_path / "slides"
    slides.mkdir()
    (slides / "01.html").write_text("slide")
    monkeypatch.setattr(kit, "SLIDES", slides)
    make(tmp_path / "kit", solved=True)
    found = tree(tmp_path / "kit")
    assert found["slides/01.html"] == b"slide"
    assert b"24_000" in found["solutions/01_one.ipynb"]
    assert b"(../site/book/batch.html)" in found["solutions/01_one.ipynb"]
    readme = found["README.txt"].decode()
    assert "slides/: " in readme
    assert "solutions/: " in readme


def test_the_readme_tells_what_is_there_and_what_to_type(make, tmp_path, monkeypatch):
    make(tmp_path / "a")
    plain = (tmp_path / "a" / "README.txt").read_text(encoding="utf-8")
    assert all(name in plain for name in set(os.listdir(tmp_path / "a")) - {"README.txt"})
    assert not re.search(r"slides|solutions|wheels/|\$", plain)
    assert "You need Python 3.11 or newer.\nThe second command needs a network" in plain
    pip = "pip install --no-deps --require-hashes -r requirements.lock\n"
    assert f"    .venv/bin/{pip}" in plain
    assert f"    .venv\\Scripts\\{pip}" in plain
    assert plain.count("notebooks/01_one.ipynb\n") == 2

    def download(lock, folder):
        folder.mkdir()
        (folder / "torch.whl").write_text("")

    monkeypatch.setattr(kit, "download_packages", download)
    make(tmp_path / "b", wheels=True)
    offline = (tmp_path / "b" / "README.txt").read_text(encoding="utf-8")
    major, minor, *_ = sys.version_info
    assert f"You need Python {major}.{minor} on " in offline
    assert f"/{pip.replace('install', 'install --no-index --find-links wheels')}" in offline


def test_the_list_is_one_that_sha256sum_reads(make, tmp_path):
    if not shutil.which("sha256sum"):
        pytest.skip("needs sha256sum")
    make(tmp_path / "kit")
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(command, cwd=tmp_path / "kit", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == len(tree(tmp_path / "kit")) - 1


def test_the_command_tells_what_is_not_in_it_and_the_size(make, project, tmp_path, capsys):
    command = ["kit", str(tmp_path / "kit"), "--notebooks", str(project / "notebooks")]
    assert cli.main([*command, "--solved"]) == 0
    without_slides, without_wheels, complete = capsys.readouterr().out.splitlines()
    assert without_slides.startswith("without slides: there are none in book/_build/slides;")
    assert without_wheels.startswith("without wheels: ")
    n_files = len(tree(tmp_path / "kit")) - 1
    assert re.fullmatch(rf"complete: {tmp_path}/kit, {n_files} files, \d+ MB", complete)
    assert cli.main([*command, "--check"]) == 0
    assert capsys.readouterr().out == f"{complete}\n"


@pytest.mark.parametrize("option", ["wheels", "solved", "data", "overwrite"])
def test_a_check_takes_no_option_of_making(tmp_path, capsys, option):
    value = [str(tmp_path)] if option == "data" else []
    assert cli.main(["kit", str(tmp_path / "kit"), "--check", f"--{option}", *value]) == 2
    assert capsys.readouterr().err == (
        f"fmnist: --check makes nothing, and --{option} is about making a kit; give one of them\n"
    )


def test_a_name_that_the_terminal_cannot_show_is_printed_all_the_same(make, project, tmp_path):
    make(folder := tmp_path / "Übung")
    for command in (["kit", "--check"], ["student", f"--notebooks={project / 'notebooks'}"]):
        done = subprocess.run(
            [sys.executable, "-m", "fmnist_lib.cli", *command, str(folder)],
            env=os.environ | {"PYTHONIOENCODING": "ascii"},
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert f": {tmp_path}/\\xdcbung" in done.stdout


# Checking a kit.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: (f / "site/index.html").unlink(), "missing: site/index.html"),
        (lambda f: (f / "README.txt").write_text(""), "changed: README.txt"),
        (lambda f: (f / "notes.txt").write_text(""), "extra: notes.txt"),
        (lambda f: shutil.rmtree(f / "data"), "missing: data/LICENSE, data/t10k-images-idx3-"),
        (lambda f: shutil.rmtree(f / "data"), "-labels-idx1-ubyte and 2 more)"),
        (
            lambda f: os.replace(f / "LICENSE", f / "README.txt"),
            "missing: LICENSE; changed: README.txt)",
        ),
        (lambda f: (f / ".kit-1" / "a").mkdir(parents=True), None),
        (lambda f: ((f / ".kit-1").mkdir(), (f / ".kit-1/a").write_text("")), "extra: .kit-1/a"),
    ],
)
def test_what_is_missing_changed_or_extra_is_told(make, tmp_path, capsys, change, message):
    make(folder := tmp_path / "kit")
    change(folder)
    code = cli.main(["kit", str(folder), "--check"])
    told = capsys.readouterr().err
    assert code == (message is not None)
    if message:
        assert told.startswith(f"fmnist: {folder} is not the kit that was made (")
        assert message in told
        assert told.endswith("; copy the kit anew, or make it anew with 'fmnist kit'\n")
        assert told.count("\n") == 1


def test_a_single_bit_is_noticed(make, tmp_path):
    make(tmp_path / "kit")
    image = tmp_path / "kit/site/_static/a.png"
    content = bytearray(image.read_bytes())
    content[0] ^= 1
    image.write_bytes(content)
    with pytest.raises(KitError, match=r"changed: site/_static/a\.png"):
        check(tmp_path / "kit")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "there is no SHA256SUMS"),
        ("", "SHA256SUMS does not list README.txt"),
        ("nonsense\n", "in SHA256SUMS, 'nonsense' is no entry of a list of SHA-256"),
        ("\xff", "in SHA256SUMS, 'utf-8' codec can't decode"),
    ],
)
def test_a_folder_that_is_no_kit_is_told(tmp_path, text, reason):
    if text is not None:
        (tmp_path / "SHA256SUMS").write_text(text, encoding="latin-1")
    with pytest.raises(KitError) as refused:
        check(tmp_path)
    assert f"{tmp_path} is no complete kit ({reason}" in str(refused.value)
    assert str(refused.value).endswith("); copy the kit anew, or make it anew in an empty folder")


def test_a_place_without_a_kit_is_told_as_what_it_is(make, tmp_path):
    def reason(folder):
        with pytest.raises(KitError) as refused:
            check(folder)
        return re.fullmatch(r".* is no complete kit \((.*)\); copy .*", str(refused.value))[1]

    (file := tmp_path / "file").write_text("")
    (nowhere := tmp_path / "nowhere").symlink_to("none")
    (loop := tmp_path / "loop").symlink_to("loop")
    assert reason(tmp_path / "none") == "there is no such folder"
    assert reason(file) == reason(file / "sub") == f"{file} is a file"
    assert reason(nowhere) == f"{nowhere} is a link to nothing"
    assert reason(loop / "sub") == f"{loop} is a link to nothing"
    make(folder := tmp_path / "kit")
    (page := folder / "site/index.html").unlink()
    page.symlink_to("none")
    assert reason(folder) == f"{page} cannot be read: No such file or directory"
    (folder / "SHA256SUMS").unlink()
    (folder / "SHA256SUMS").symlink_to("none")
    unread = f"{folder}/SHA256SUMS cannot be read: No such file or directory"
    assert reason(folder) == unread


def test_a_kit_without_data_or_site_is_no_kit_whatever_its_list_says(make, tmp_path):
    for n, part in enumerate(("site", "data")):
        make(folder := tmp_path / f"kit{n}")
        shutil.rmtree(folder / part)
        checksums.write_list(folder, progress=False)
        with pytest.raises(KitError, match=rf"kit \(SHA256SUMS does not list {part}/"):
            check(folder)


def test_what_systems_put_onto_a_stick_does_not_count(make, tmp_path):
    folder = tmp_path / "stick"
    for name in ("System Volume Information", ".Trash-1000", "lost+found"):
        (folder / name).mkdir(parents=True)
        (folder / name / "x").write_text("")
    make(folder)
    (folder / "site/.DS_Store").write_text("")
    (folder / "._README.txt").write_text("")
    check(folder)
    make(folder)
    check(folder)
    assert (folder / "lost+found" / "x").exists()


# Replacing an earlier kit.


def test_an_earlier_kit_is_replaced_completely(make, tmp_path):
    make(folder := tmp_path / "kit", solved=True)
    make(folder)
    assert not (folder / "solutions").exists()
    make(tmp_path / "new")
    assert tree(folder) == tree(tmp_path / "new")


def test_work_in_an_earlier_kit_is_not_lost(make, tmp_path):
    make(folder := tmp_path / "kit")
    (folder / "notebooks/01_one.ipynb").write_text("my answers")
    (folder / "notes.txt").write_text("notes")
    before = tree(folder)
    with pytest.raises(KitError) as refused:
        make(folder)
    assert str(refused.value) == (
        f"{folder} holds a kit that was changed since (changed: notebooks/01_one.ipynb; extra: "
        "notes.txt); save what you need of it, then add --overwrite to replace all of it, or "
        "name another folder"
    )
    assert tree(folder) == before
    make(folder, overwrite=True)
    check(folder)


def test_a_changed_kit_that_cannot_be_read_is_replaced_where_that_is_wanted(make, tmp_path):
    make(folder := tmp_path / "kit")
    (page := folder / "site/index.html").unlink()
    page.symlink_to("none")
    with pytest.raises(KitError) as refused:
        make(folder)
    assert str(refused.value) == (
        f"{folder} holds a kit that was changed since ({page} cannot be read: No such file or "
        "directory); save what you need of it, then add --overwrite to replace all of it, or name "
        "another folder"
    )
    make(folder, overwrite=True)
    check(folder)


def test_two_at_once_do_not_disturb_one_another(make, tmp_path, monkeypatch):
    """The second comes while the first builds the library."""
    (tmp_path / "link").symlink_to("kit")
    build, refusals = kit.build_library, []

    def meanwhile(source, part):
        monkeypatch.setattr(kit, "build_library", build)
        for name in ("kit", "link"):
            with pytest.raises(KitError) as refused:
                make(tmp_path / name)
            refusals.append(str(refused.value))
        make(tmp_path / "other")
        return build(source, part)

    monkeypatch.setattr(kit, "build_library", meanwhile)
    make(tmp_path / "kit")
    assert refusals == [
        f"another 'fmnist kit' is at work on {tmp_path / name}; wait until it is done, then try "
        "again"
        for name in ("kit", "link")
    ]
    check(tmp_path / "kit")
    check(tmp_path / "other")
    make(tmp_path / "kit")  # the first one has let go


@pytest.mark.parametrize(
    "content",
    [
        {"thesis.txt": "mine"},
        {"notebooks/01.ipynb": "mine", "data/x": "mine"},
        {"SHA256SUMS": "", "big.iso": "mine"},
        {"SHA256SUMS": f"{hashlib.sha256(b'mine').hexdigest()}  big.iso\n", "big.iso": "mine"},
        {".kit-1/site/x": "", "thesis.txt": "mine"},
        {"README.txt": "a kit that lost its list", "requirements.lock": "", "site/index.html": ""},
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_holds_something_else_is_not_touched(make, tmp_path, content, overwrite):
    folder = tmp_path / "mine"
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    before = tree(folder)
    message = (
        f"{folder} is not empty, and holds no complete kit; empty it yourself if nothing in it is "
        "needed, or name another folder"
    )
    with pytest.raises(KitError, match=f"^{re.escape(message)}$"):
        make(folder, overwrite=overwrite)
    assert tree(folder) == before


class KilledError(BaseException):
    """A kill: nothing handles it, and with the hooks below nothing cleans up behind it."""


@pytest.fixture
def killed_at(monkeypatch):
    """Let the n-th step of those that change a disk be the last one: (n, function) -> completed."""

    def run(n, function):
        steps = []

        def step(original):
            def counted(*arguments, **options):
                if len(steps) >= n:
                    steps.append(None)
                    raise KilledError
                steps.append(original)
                return original(*arguments, **options)

            return counted

        with monkeypatch.context() as patch:
            for owner, name in (
                (shutil, "copyfile"),
                (shutil, "rmtree"),
                (os, "replace"),
                (Path, "unlink"),
                (Path, "write_text"),
            ):
                patch.setattr(owner, name, step(getattr(owner, name)))
            try:
                function()
            except KilledError:
                return False
        return True

    return run


@pytest.mark.parametrize("before", ["nothing", "kit"])
def test_a_kill_at_any_step_leaves_the_earlier_kit_or_plainly_none(
    make, tmp_path, killed_at, before
):
    make(tmp_path / "new")
    new, n, cuts = tree(tmp_path / "new"), 0, 0
    while True:
        folder = tmp_path / f"kit{n}"
        if before == "kit":
            make(folder, solved=True)
        if done := killed_at(n, lambda folder=folder: make(folder)):
            break
        if (folder / "SHA256SUMS").exists():
            # Only what was there before, or all of the new one, can be taken for complete.
            rest = {name: b for name, b in tree(folder).items() if not name.startswith(".kit-")}
            assert rest == new or (before == "kit" and "solutions/01_one.ipynb" in rest)
        else:
            cuts += 1
            with pytest.raises(KitError, match="is no complete kit"):
                check(folder)
        make(folder)
        assert tree(folder) == new
        n += 1
    assert done
    assert n > 25
    assert cuts > 5


MAKE = """
import sys
from fmnist_lib.course import kit
raw, kit.build_library = sys.argv[3], lambda project, folder: "none.whl"
kit.find_data = lambda root: raw
while True:
    kit.make_kit(sys.argv[1], sys.argv[2], progress=False)
"""


def test_a_real_kill_leaves_a_complete_kit_or_one_without_its_list(make, project, tmp_path):
    folder = tmp_path / "kit"
    command = [sys.executable, "-c", MAKE, folder, project / "notebooks", tmp_path / "raw"]
    for wait in (0.0, 0.02, 0.05):
        child = subprocess.Popen([*map(str, command)])
        while child.poll() is None and not folder.exists():
            time.sleep(0.01)
        time.sleep(wait)
        child.send_signal(signal.SIGKILL)
        assert child.wait() == -signal.SIGKILL
        for left in folder.glob(".kit-*"):
            shutil.rmtree(left)
        if (folder / "SHA256SUMS").exists():
            assert check(folder).files == 15
        shutil.rmtree(folder)


# What goes wrong.


def test_a_file_in_the_place_of_the_kit_is_told(make, tmp_path):
    (tmp_path / "kit").write_text("")
    for name in ("kit", "kit/sub"):
        with pytest.raises(KitError, match=r"/kit is a file; name a folder for the kit$"):
            make(tmp_path / name)


def test_what_a_kit_cannot_do_without_is_told(make, project, tmp_path):
    def without(name):
        shutil.copytree(project, tmp_path / "less", dirs_exist_ok=True)
        (tmp_path / "less" / name).unlink()
        with pytest.raises(KitError) as refused:
            make_kit(tmp_path / "kit", tmp_path / "less" / "notebooks", progress=False)
        assert not (tmp_path / "kit").exists()
        return str(refused.value)

    assert "the site is not built (no " in without("book/_build/html/index.html")
    assert without("book/_build/html/index.html").endswith("run 'make book' first")
    assert without("requirements.lock").startswith(f"no requirements.lock in {tmp_path / 'less'},")
    assert without("pyproject.toml").endswith("name its folder of chapters with --notebooks")


@pytest.mark.parametrize("trouble", ["lock", "page", "link", "site"])
def test_a_source_that_cannot_be_read_is_named(project, tmp_path, as_a_user, trouble):
    shutil.copytree(project, less := tmp_path / "less")
    page = less / "book/_build/html/book/batch.html"
    source = {"lock": less / "requirements.lock", "site": less / "book/_build"}.get(trouble, page)
    if trouble == "link":
        page.unlink()
        page.symlink_to("none")
    else:
        source.chmod(0)
    raw = download.raw_folder(tmp_path / "raw")
    raw.mkdir(parents=True)
    for name in download.FILE_NAMES:
        (raw / name).write_text(name)
    # Root may read everywhere, too.
    as_a_user = [
        word.replace("-dac_override", "-dac_override,-dac_read_search") for word in as_a_user
    ]
    once = MAKE.replace("while True", "if True")
    command = [*as_a_user, sys.executable, "-c", once, tmp_path / "kit", less / "notebooks"]
    done = subprocess.run(
        [*map(str, command), str(tmp_path / "raw")], capture_output=True, text=True
    )
    if trouble == "site":
        source.chmod(0o755)  # so that pytest can clear it away
    told = done.stderr.splitlines()[-1]
    inside = "/html/index.html" if trouble == "site" else ""
    why = "No such file or directory" if trouble == "link" else "Permission denied"
    assert told == (
        f"fmnist_lib.course.kit.KitError: {source}{inside} cannot be read ({why}); give rights "
        "to it or make it anew"
    )


@pytest.mark.parametrize(
    "names", [["a:b.html"], ["what?.html"], ["CON.html"], ["end."], ["A", "a"]]
)
def test_names_that_windows_does_not_take_are_refused(make, project, tmp_path, names, monkeypatch):
    shutil.copytree(project / "book/_build/html", site := tmp_path / "html")
    for name in names:
        (site / name).write_text("")
    if len(os.listdir(site)) == len(os.listdir(project / "book/_build/html")) + len(names):
        monkeypatch.setattr(kit, "SITE", site)
        with pytest.raises(KitError, match=rf"^the name site/{re.escape(names[-1])} cannot be"):
            make(tmp_path / "kit")
        assert tree(tmp_path / "kit") == {}


def test_a_stick_needs_no_permissions_links_or_times(make, tmp_path, monkeypatch):
    """As FAT has none: whoever asks for them is refused."""

    def refuse(*arguments, **options):
        raise PermissionError(1, "Operation not permitted")

    for name in ("chmod", "symlink", "link", "utime", "chown", "mkfifo"):
        monkeypatch.setattr(os, name, refuse)
    make(tmp_path / "kit")
    make(tmp_path / "kit", solved=True)
    check(tmp_path / "kit")


@pytest.fixture
def tiny_disk(tmp_path, mount_disk):
    """Give a folder on a disk of 400 kB."""
    return mount_disk(tmp_path / "disk", "400k")


def test_a_full_disk_is_told_and_the_earlier_kit_stays(make, tiny_disk, tmp_path):
    """The kit is at the top of the disk, as of a stick."""
    make(tiny_disk)
    before = tree(tiny_disk)
    (tmp_path / "raw/FashionMNIST/raw/train-images-idx3-ubyte").write_bytes(bytes(10**6))
    with pytest.raises(KitError) as refused:
        make(tiny_disk)
    assert str(refused.value) == (
        f"the kit cannot be written to {tiny_disk} (No space left on device); make room or give "
        "rights there, or name another folder"
    )
    assert tree(tiny_disk) == before
    check(tiny_disk)


def test_students_copies_on_a_full_disk_are_told(tiny_disk, tmp_path, capsys):
    (tmp_path / "notebooks").mkdir()
    for name in ("01_small", "02_large"):
        chapter(
            tmp_path / "notebooks" / f"{name}.ipynb", name * (100_000 if "large" in name else 1)
        )
    code = cli.main(["student", f"{tiny_disk}/mine", "--notebooks", f"{tmp_path}/notebooks"])
    assert code == 1
    assert capsys.readouterr().err == (
        f"fmnist: the notebooks cannot be written to {tiny_disk}/mine (No space left on device); "
        "make room or give rights there, or name another folder\n"
    )
    assert tree(tiny_disk) == {"mine": None}


@pytest.mark.parametrize("command", ["student", "kit"])
def test_missing_rights_are_told(command, project, tmp_path, as_a_user):
    closed = tmp_path / "closed"
    closed.mkdir()
    closed.chmod(0o555)
    run = [*as_a_user, sys.executable, "-m", "fmnist_lib.cli", command, str(closed / "new")]
    run += ["--notebooks", str(project / "notebooks")]
    # The kit comes to that point before it looks for the data.
    done = subprocess.run(run, capture_output=True, text=True)
    what = "notebooks" if command == "student" else "kit"
    assert done.returncode == 1
    assert done.stderr == (
        f"fmnist: the {what} cannot be written to {closed / 'new'} (Permission denied); make room "
        "or give rights there, or name another folder\n"
    )


# Without a network.


class Loaded(HTMLParser):
    """Collect what a page loads by itself: scripts, styles, fonts, images, frames."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        rel = given.get("rel", "")
        if tag == "link" and not re.search(r"stylesheet|icon|preload|prefetch|manifest", rel):
            return
        names = {"link": ["href"], "object": ["data"]}.get(tag, ["src", "srcset", "poster"])
        self.found += [given[name] for name in names if tag != "a" and given.get(name)]
        self.found += re.findall(r"url\(([^)]+)\)", given.get("style") or "")


def loaded(path):
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".css":
        return re.findall(r"""(?:url\(|@import)\s*["']?([^"')]+)""", text)
    (parser := Loaded()).feed(text)
    return parser.found


def test_the_site_loads_nothing_from_another_host():
    site = ROOT / "book/_build/html"
    static = site / "_static"  # where what ends in .html is no page but a template
    pages = [path for path in site.rglob("*.html") if static not in path.parents]
    pages += site.rglob("*.css")
    if not pages:
        pytest.skip("needs the site: run 'make book'")
    for path in pages:
        for address in loaded(path):
            assert not re.match(r"\s*(\w+:)?//", address), f"{path} loads {address}"
            if not address.startswith(("data:", "#")):
                local = unquote(re.sub(r"[?#].*", "", address))
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


@pytest.mark.real_data
@pytest.mark.usefixtures("full_data")
def test_with_a_kit_the_chapters_run_without_a_network(project, tmp_path):
    """In a namespace without a network, with the kit's library, and with an empty home."""
    alone = ("unshare", "-rn", sys.executable, "-c", OFFLINE)
    if (
        sys.platform != "linux"
        or subprocess.run([*alone, "-c", ""], capture_output=True).returncode
    ):
        pytest.skip("needs Linux and the right to make a network namespace")
    shutil.copytree(ROOT / "fmnist_lib", project / "fmnist_lib", dirs_exist_ok=True)
    make_kit(folder := tmp_path / "kit", project / "notebooks", progress=False)
    (library,) = folder.glob("fmnist_lib-*.whl")

    def run(*command):
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path / "home"),
            "XDG_CACHE_HOME": str(tmp_path / "home" / "cache"),
            "FMNIST_DATA": str(folder / "data"),
            "PYTHONPATH": str(tmp_path / "library"),
        }
        done = subprocess.run(
            [*alone, *map(str, command)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    (tmp_path / "home").mkdir()
    check(folder)
    pip = ("-m", "pip", "install", "--quiet", "--no-deps", "--no-index")
    run(*pip, "--target", tmp_path / "library", library)
    run("-m", "papermill", folder / "notebooks/01_one.ipynb", tmp_path / "out.ipynb")
    cells = nbformat.read(tmp_path / "out.ipynb", 4).cells
    assert [cell.source for cell in cells if "n =" in cell.source] == ["n = ...  # your answer"]
    library = tmp_path / "library/fmnist_lib/__init__.py"
    assert cells[-1].outputs[0].text == f"{library} 48000 not yet\n"

import os
import re
import subprocess
import sys
import warnings

import pytest

from fmnist_lib import chapters, cli, files


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["--help"])
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert all(command in printed for command in ("data", "course", "card", "sample"))


@pytest.mark.parametrize("arguments", [[], ["fly"], ["data", "--nonsense"]])
def test_an_unknown_command_is_refused(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 2
    assert "usage: fmnist" in capsys.readouterr().err


def test_data_prints_the_folder(monkeypatch, capsys, tmp_path):
    asked = []
    monkeypatch.setattr(files, "find_data", lambda root, apt: asked.append((root, apt)) or tmp_path)
    assert cli.main(["data", "--data", str(tmp_path), "--apt"]) == 0
    assert asked == [(tmp_path, True)]
    assert capsys.readouterr().out == f"Fashion-MNIST, verified: {tmp_path}\n"


def test_an_error_is_one_line_and_exit_code_1(monkeypatch, capsys):
    def fail(root, apt):
        raise files.DataError("no data")

    monkeypatch.setattr(files, "find_data", fail)
    assert cli.main(["data"]) == 1
    assert capsys.readouterr().err == "fmnist: no data\n"


def test_an_interrupt_is_told(monkeypatch, capsys):
    def interrupt(root, apt):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "find_data", interrupt)
    assert cli.main(["data"]) == 130
    assert capsys.readouterr().err == "fmnist: stopped\n"


def test_a_defect_keeps_its_traceback(monkeypatch):
    def fail(root, apt):
        raise TypeError("a defect")

    monkeypatch.setattr(files, "find_data", fail)
    with pytest.raises(TypeError, match="a defect"):
        cli.main(["data"])


def test_course_prints_the_accuracies_and_where_to_look(monkeypatch, capsys, tmp_path):
    metrics = {"02_cnn": {"val_accuracy": 0.91, "test_accuracy": 0.9053}}
    monkeypatch.setattr(chapters, "run_course", lambda output, notebooks, report: metrics)
    monkeypatch.chdir(tmp_path)
    site = tmp_path / "book/_build/html/index.html"
    site.parent.mkdir(parents=True)
    site.touch()
    assert cli.main(["course", "-o", "somewhere"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"02_cnn +0\.9100  0\.9053\n", printed)
    assert "somewhere" in printed
    assert "book/_build/html/index.html" in printed.replace("\\", "/")


def test_a_relative_folder_in_the_variable_holds_for_the_chapters(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FMNIST_DATA", "stick")
    monkeypatch.setattr(files, "find_data", lambda root, apt: tmp_path)
    cli.main(["data"])
    assert os.environ["FMNIST_DATA"] == str(tmp_path / "stick")


def test_a_missing_package_is_named(monkeypatch, capsys):
    def fail(*arguments):
        raise ModuleNotFoundError("No module named 'papermill'", name="papermill")

    monkeypatch.setattr(chapters, "run_course", fail)
    assert cli.main(["course"]) == 1
    assert "needs the package papermill" in capsys.readouterr().err


def test_a_warning_is_one_line(monkeypatch, capsys, tmp_path):
    def warn(root, apt):
        warnings.warn("no data here", stacklevel=1)
        return tmp_path

    monkeypatch.setattr(files, "find_data", warn)
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        cli.main(["data"])
    assert capsys.readouterr().err == "fmnist: no data here\n"


def test_help_and_errors_do_not_wait_for_torch():
    code = (
        "import sys, fmnist_lib.cli as c\n"
        "try: c.main(['--help'])\n"
        "except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)

"""Each row records the commit it was measured at."""

import subprocess

import foveal
from foveal.bench.machine import source_commit


def git(root, *words):
    identity = ("-c", "user.name=tests", "-c", "user.email=tests@example.com")
    return subprocess.run(["git", "-C", root, *identity, *words], check=True, capture_output=True, text=True).stdout


def test_changed_sources_mark_a_checkout_dirty_but_new_results_do_not(tmp_path, monkeypatch):
    package, results = tmp_path / "src" / "foveal", tmp_path / "benchmarks" / "results"
    for folder, file in ((package, "__init__.py"), (results, "device.csv")):
        folder.mkdir(parents=True)
        (folder / file).write_text("1\n")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()[:12]
    monkeypatch.setattr(foveal, "__file__", str(package / "__init__.py"))
    assert source_commit() == commit
    (results / "device.csv").write_text("1\n2\n")
    assert source_commit() == commit
    (package / "__init__.py").write_text("2\n")
    assert source_commit() == f"{commit}-dirty"


def test_a_package_outside_a_checkout_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(foveal, "__file__", str(tmp_path / "site-packages" / "foveal" / "__init__.py"))
    assert source_commit() is None

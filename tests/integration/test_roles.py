"""The roles that make a host ready for a harness: check, converge, again, verify.

A small git repository stands in for mlcommons/inference and a catalog of one benchmark for ours.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from fleet import Done
from lab import HostSpec, Lab
from tree import controller_environment, copy, root

pytestmark = [pytest.mark.lab, pytest.mark.network]

NAME = "roles"
LIMIT_S = 300  # for a call; seconds but on a busy machine
LOCK = "tiny-cpu"
EVERYTHING = "find /home /tmp -xdev -not -path '*/.ansible*' | sort | sha256sum"

# Stand in for upstream's harness and for its preparation program.
RUN = """
import pathlib, sys
import mlperf_loadgen
model, data, conf = (pathlib.Path(a).read_text() for a in sys.argv[1:4])
assert "tiny.Offline" in conf or conf
pathlib.Path("done.txt").write_text(model + data)
"""
PREPARE = """
import pathlib, sys
print("preparing", pathlib.Path("lists/names.txt").read_text())
raw, out = map(pathlib.Path, sys.argv[1:3])
(out / "cases.txt").write_text(raw.read_text().upper())
"""
BENCHMARK: dict[str, Any] = {
    "name": "tiny",
    "title": "Tiny",
    "kind": "custom",
    "task": "nothing",
    "checker_names": [],
    "loadgen_model": "tiny",
    "scenarios": ["Offline"],
    "artifacts": {
        name: {"type": kind, "title": name, "bytes": None, "licence": None, "gate": None, **more}
        for name, kind, more in (
            ("tiny-model", "model", {"origins": [{"file": "data/model.bin"}]}),
            ("tiny-raw", "dataset", {"origins": [{"file": "data/raw.txt"}]}),
            (
                "tiny-cases",
                "dataset",
                {
                    "origins": [],
                    "layout": [{"path": "cases.txt", "lines": 2}],
                    "derive": {
                        "from": {"raw": "tiny-raw"},
                        "environment": LOCK,
                        "command": ["{python}", "{folder}/prepare.py", "{raw}", "{out}"],
                        "links": ["lists"],
                        "needs_gb": 0.001,
                    },
                },
            ),
        )
    },
    "model": {"format": "none", "artifact": "tiny-model"},
    "dataset": {"name": "tiny", "samples": 2, "artifact": "tiny-cases"},
    "metric": None,
    "accuracy": [],
    "performance_sample_count": 2,
    "test": {"min_duration_ms": 100},
    "expected_s": {},
    "reference": {
        "folder": "tiny",
        "backends": {"python": {"model": "tiny-model", "devices": {"cpu": {"environment": LOCK}}}},
        "command": [
            *("{python}", "{folder}/run.py", "{model}", "{dataset}/cases.txt", "{user_conf}"),
        ],
        "modes": {"performance": [], "accuracy": []},
        "accuracy": None,
    },
}


@dataclass
class Site:
    """A host and a checkout of ours with a lock for it; `settings` are the lab's."""

    lab: Lab
    env: Mapping[str, str]
    checkout: Path
    folder: Path
    settings: dict[str, Any] = field(default_factory=dict)

    def play(self, playbook: Path, *words: str, user: str = "bench", **extra: Any) -> Done:
        """Call a playbook for the host; `plain` may not become root."""
        if user == "plain":
            extra["ansible_become"] = False
        inventory = self.lab.inventory(NAME, user=user)
        more = self.folder / "extra.json"
        more.write_text(json.dumps(self.settings | extra))
        done = subprocess.run(
            ["ansible-playbook", str(playbook), "-i", str(inventory), *words, "-e", f"@{more}"],
            cwd=self.folder,
            env={
                **self.env,
                "ANSIBLE_CONFIG": str(self.checkout / "ansible.cfg"),
                "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        return Done(done.returncode, done.stdout)

    def role(self, *roles: tuple[str, dict[str, Any]], check: bool = False, **more: Any) -> Done:
        """Call roles, then print each fact of theirs that the tests read."""
        tasks: list[dict[str, Any]] = []
        for name, given in roles:
            tasks.append(
                {
                    "ansible.builtin.include_role": {"name": f"benchfleet.mlperf.{name}"},
                    "vars": given,
                }
            )
            tasks += [
                {"ansible.builtin.debug": {"msg": f"FACT {fact}={{{{ {fact} | to_json }}}}"}}
                for fact in FACTS[name]
            ]
        playbook = self.folder / "roles.yml"
        play = {"hosts": "all", "gather_facts": False, "tasks": tasks}
        playbook.write_text(yaml.safe_dump([play]))
        return self.play(playbook, *(["--check"] if check else []), **more)

    def sh(self, command: str, user: str = "root") -> str:
        """Run a command on the host as a user; return what it prints."""
        words = f"sudo -u {user} -i sh -c {shlex.quote(command)}"
        done = self.lab.ssh(NAME, words, timeout=LIMIT_S)
        assert done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout


FACTS: dict[str, tuple[str, ...]] = {
    "python_env": ("python_env_built",),
    "loadgen": ("loadgen_path", "loadgen_installed"),
    "framework": ("framework_path", "framework_python"),
    "inference_source": (
        "inference_source_location",
        "inference_source_revision",
        "inference_source_digest",
    ),
    "model": ("model_location", "model_digest"),
    "dataset": ("dataset_location", "dataset_digest"),
    "harness_reference": (
        "harness_reference_folder",
        "harness_reference_command",
        "harness_reference_paths",
    ),
}


def facts(done: Done) -> dict[str, Any]:
    """What the facts were when the roles had ended."""
    told = (json.loads(text) for text in re.findall(r'"msg": ("FACT .*")$', done.text, re.M))
    pairs = (text.removeprefix("FACT ").partition("=") for text in told)
    return {name: json.loads(value) for name, _sep, value in pairs}


def changed(done: Done) -> int:
    assert done.code == 0, done.text
    assert done.recap[NAME]["failed"] == done.recap[NAME]["unreachable"] == 0, done.text
    return done.recap[NAME]["changed"]


def words(done: Done) -> str:
    """What it printed, in one line: the screen's lines are broken anywhere."""
    return " ".join(done.text.split())


def git(folder: Path, *argv: str) -> str:
    who = ["-c", "user.name=lab", "-c", "user.email=lab@lab"]
    return subprocess.run(
        ["git", "-C", str(folder), *who, *argv], check=True, capture_output=True, text=True
    ).stdout.strip()


def repository(folder: Path) -> str:
    """Make the stand-in for mlcommons/inference; return its commit."""
    files = {"tiny/run.py": RUN, "tiny/prepare.py": PREPARE, "tiny/lists/names.txt": "of cases"}
    for name, text in (files | {"other/large.txt": "not wanted"}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "a harness")
    return git(folder, "rev-parse", "HEAD")


def overlay(folder: Path, commit: str) -> None:
    """Make a catalog with the benchmark, a round at `commit`, and a patch."""
    for name in ("benchmarks", "rounds", "data", "patches"):
        (folder / name).mkdir(parents=True)
    (folder / "benchmarks" / "tiny.yml").write_text(yaml.safe_dump(BENCHMARK))
    round_ = yaml.safe_load((root() / "catalog" / "rounds" / "v6.1.yml").read_text())
    round_["inference_commit"] = commit
    (folder / "rounds" / "v6.1.yml").write_text(yaml.safe_dump(round_))
    (folder / "data" / "model.bin").write_text("weights\n")
    (folder / "data" / "raw.txt").write_text("one\ntwo\n")
    (folder / "patches" / "names.patch").write_text(
        "--- a/tiny/lists/names.txt\n+++ b/tiny/lists/names.txt\n"
        "@@ -1 +1 @@\n-of cases\n\\ No newline at end of file\n+of patched cases\n"
    )


@pytest.fixture(scope="module")
def site(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    checkout = copy(folder / "checkout", links=True)
    locks = checkout / "roles"
    some = (locks / "framework/files/requirements/onnxruntime-cpu.txt").read_text()
    package = re.search(r"^packaging==.*\n(?: +--hash.*\n)+", some, re.M)
    assert package
    (locks / "harness_reference/files/requirements" / f"{LOCK}.txt").write_text(
        f"# Disk: 20 MB\n{package.group()}"
    )
    commit = repository(folder / "inference")
    overlay(folder / "catalog", commit)
    lab.add(HostSpec(NAME, venv=False))
    settings = {
        "benchfleet_catalog_path": str(folder / "catalog"),
        "benchfleet_inference_repo": str(folder / "inference"),
        "benchfleet_store": str(folder / "store"),
        "benchfleet_results": str(folder / "results"),
        "benchfleet_min_free_mb": 1,
    }
    env = controller_environment(tmp_path_factory.mktemp("home"))
    yield Site(lab, env, checkout, folder, settings)
    lab.remove(NAME)


CALLS: dict[str, dict[str, Any]] = {
    "python_env": {"python_env_locks": [f"harness_reference/{LOCK}.txt"]},
    "loadgen": {},
    "framework": {"framework_name": "onnxruntime"},
    "inference_source": {"inference_source_paths": ["tiny"]},
    "model": {"model_benchmark": "tiny"},
    "dataset": {"dataset_benchmark": "tiny"},
    "harness_reference": {"harness_reference_benchmark": "tiny"},
}


def test_check_on_a_bare_host_tells_and_touches_nothing(site: Site) -> None:
    before = site.sh(EVERYTHING)
    done = site.role(*CALLS.items(), check=True)
    assert changed(done) >= len(CALLS), done.text
    assert site.sh(EVERYTHING) == before
    found = facts(done)
    assert found["inference_source_location"] == found["model_location"] == ""


def test_without_root_the_missing_packages_are_named(site: Site) -> None:
    given = {"python_env_install_packages": False}
    done = site.role(("python_env", CALLS["python_env"] | given), user="plain")
    assert done.code == 2
    assert "root can install: python3-venv" in words(done), done.text


@pytest.mark.parametrize("name", CALLS)
def test_converge(site: Site, name: str) -> None:
    done = site.role((name, CALLS[name]))
    # what an earlier role brought is shared, so that the last one may have little left to do
    assert changed(done) >= (0 if name == "harness_reference" else 1), done.text
    found = facts(done)
    assert found and all(found.values()), done.text
    verify = globals()[f"verify_{name}"]
    verify(site, found)


def test_again_changes_nothing(site: Site) -> None:
    done = site.role(*CALLS.items())
    assert changed(done) == 0, done.text


def verify_python_env(site: Site, found: Mapping[str, Any]) -> None:
    built = found["python_env_built"]
    site.sh(f"{built['python']} -c 'import packaging'")
    assert built["loadgen"] == ""


def verify_loadgen(site: Site, found: Mapping[str, Any]) -> None:
    site.sh(f"{found['loadgen_path']}/bin/python -c 'import mlperf_loadgen'")
    assert re.fullmatch(r"\d+\.\d+\.\d+", found["loadgen_installed"])


def verify_framework(site: Site, found: Mapping[str, Any]) -> None:
    site.sh(f"{found['framework_python']} -c 'import mlperf_loadgen, onnxruntime'")


def verify_inference_source(site: Site, found: Mapping[str, Any]) -> None:
    place = found["inference_source_location"]
    assert site.sh(f"cd {place} && find . -type f | sort").split() == [
        "./tiny/lists/names.txt",
        "./tiny/prepare.py",
        "./tiny/run.py",
    ]
    assert found["inference_source_revision"] == git(site.folder / "inference", "rev-parse", "HEAD")
    assert found["inference_source_digest"] in place


def verify_model(site: Site, found: Mapping[str, Any]) -> None:
    assert site.sh(f"sha256sum {found['model_location']}").split()[0] == found["model_digest"]


def verify_dataset(site: Site, found: Mapping[str, Any]) -> None:
    place = found["dataset_location"]
    assert re.fullmatch(r"/home/bench/\.benchfleet/derived/[0-9a-f]{16}/out", place)
    assert site.sh(f"cat {place}/cases.txt") == "ONE\nTWO\n"
    assert "preparing of cases" in site.sh("cat /home/bench/.benchfleet/logs/derive-tiny-cases.log")


def verify_harness_reference(site: Site, found: Mapping[str, Any]) -> None:
    folder, paths = found["harness_reference_folder"], found["harness_reference_paths"]
    assert set(paths) == {"model", "dataset", "dataset.raw", "tree"}
    assert f"{paths['tree']}/tiny/run.py {paths['model']} " in found["harness_reference_command"]
    site.sh(f"{folder}/launch.sh", user="bench")
    assert site.sh(f"cat {folder}/done.txt") == "weights\nONE\nTWO\n"
    site.sh(f"rm {folder}/done.txt && cd {folder} && {found['harness_reference_command']}", "bench")
    assert site.sh(f"cat {folder}/done.txt") == "weights\nONE\nTWO\n"


def test_a_user_without_root_gets_the_same(site: Site) -> None:
    done = site.role(
        *((n, CALLS[n]) for n in ("inference_source", "model", "dataset")), user="plain"
    )
    assert changed(done) == 3, done.text
    found = facts(done)
    assert found["dataset_location"].startswith("/home/plain/.benchfleet/derived/")
    assert site.sh(f"stat -c %U {found['model_location']}").strip() == "plain"


def test_a_source_tree_with_a_patch_of_another_commit(site: Site) -> None:
    commit = git(site.folder / "inference", "rev-parse", "HEAD")
    given = {"inference_source_commit": commit, "inference_source_patches": ["names.patch"]}
    done = site.role(("inference_source", CALLS["inference_source"] | given))
    assert changed(done) == 1
    found = facts(done)
    text = site.sh(f"cat {found['inference_source_location']}/tiny/lists/names.txt")
    assert text == "of patched cases\n"
    wrong = {"inference_source_commit": "0" * 40}
    done = site.role(("inference_source", CALLS["inference_source"] | wrong))
    assert done.code == 2
    assert f"has no commit {'0' * 40}; fetch it there" in words(done), done.text


def test_models_of_the_labs_own(site: Site) -> None:
    own = site.folder / "own.onnx"
    own.write_text("own weights\n")
    sent = site.role(("model", {"model_path": str(own)}))
    assert changed(sent) == 1
    found = facts(sent)
    assert site.sh(f"cat {found['model_location']}") == "own weights\n"
    wrong = site.role(("model", {"model_path": str(own), "model_sha256": "0" * 64}))
    assert wrong.code == 2
    assert f"has sha256 {found['model_digest']}, {'0' * 64} was asked for" in words(wrong)


def test_a_dataset_on_the_host_stays_there_and_must_be_whole(site: Site) -> None:
    site.sh("mkdir -p /data/own && printf 'a\\nb\\n' > /data/own/list.txt")
    given = {"dataset_path": "/data/own", "dataset_layout": [{"path": "list.txt", "lines": 2}]}
    done = site.role(("dataset", given))
    assert changed(done) == 1
    assert facts(done)["dataset_location"] == "/data/own"
    given["dataset_layout"] = [{"path": "list.txt", "lines": 3}]
    done = site.role(("dataset", given))
    assert done.code == 2
    assert "own is not whole: /data/own/list.txt: lines 2, expected 3" in words(done), done.text


def test_provision_makes_ready_and_runs_nothing(site: Site) -> None:
    asked = {"benchmark": "tiny", "scenario": "Offline", "mode": "performance"}
    playbook = site.checkout / "provision.yml"
    home = {"benchfleet_home": "/home/bench/another"}
    first = site.play(playbook, **asked, **home)
    assert changed(first) == 1, first.text
    for row in (r"environment +tiny-cpu-\w+ +built", r"dataset +tiny-cases +made +8 B"):
        assert re.search(f"^{NAME} +{row}", first.text, re.M), first.text
    again = site.play(playbook, **asked, **home)
    assert changed(again) == 0, again.text
    assert re.search(r"dataset +tiny-cases +ready", again.text)
    assert "Start" not in again.tasks
    assert site.sh("ls /home/bench/another").split() == [
        *("artifacts", "derived", "envs", "hosts", "logs", "src"),
    ]

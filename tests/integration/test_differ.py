"""The programs of tests/differ in short: every named case (the faults P1-P18 of other poolers are among them), and random
runs from fixed seeds. `make test-differ`, `make test-leaks` and `make test-cancels` run longer, from other seeds."""
import re
import subprocess

import pytest
from conftest import ROOT

LONGEST_S = 300  # of a program on a busy machine; it takes about 10 s of an idle one
RUN_S = 100  # then it starts nothing new: a busy machine sees less
FAULTS = [f"P{n}" for n in range(1, 19)]


def run(program, *args):
    """(exit code, what it printed). Ended early it stops its cluster first."""
    with subprocess.Popen([ROOT / "tests/differ" / program, *map(str, args)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as process:
        try:
            printed, _ = process.communicate(timeout=LONGEST_S)
        except BaseException as e:
            process.terminate()
            printed, _ = process.communicate()
            raise AssertionError(f"{program} {args} does not end:\n{printed[-4000:]}") from e
    return process.returncode, printed


@pytest.fixture(scope="module")
def cases():
    """Each case with its verdict, and what was printed."""
    _, printed = run("differ.py", "--cases")
    found = re.findall(r"^(ok|known|FAILED|PASSES) +(.+)", printed, re.M)
    assert len(found) > 100, printed[-3000:]
    return {name: verdict for verdict, name in found}, printed


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_other_poolers(cases, fault):
    verdicts, printed = cases
    mine = {name: verdict for name, verdict in verdicts.items() if name.split()[0] == fault}
    assert "ok" in mine.values() and not {"FAILED", "PASSES"} & {*mine.values()}, f"{mine}\n{printed[-3000:]}"


def test_the_other_named_cases(cases):
    verdicts, printed = cases
    wrong = {name: verdict for name, verdict in verdicts.items() if verdict in ("FAILED", "PASSES") and name.split()[0] not in FAULTS}
    assert not wrong, f"{wrong}\n{printed[-3000:]}"


@pytest.mark.deadline(LONGEST_S)
@pytest.mark.parametrize("program", [
    ["differ.py", "--cases", "--replicas", 1],
    ["differ.py", "--seed", 1, "--count", 300, "--seconds", RUN_S],
    ["differ.py", "--seed", 1001, "--count", 100, "--seconds", RUN_S, "--workers", 2, "--option", "max_prepared_statements=3"],
    ["differ.py", "--seed", 2001, "--count", 150, "--seconds", RUN_S, "--option", "pool_mode=session", "--option", "default_pool_size=8"],
    ["leaks.py", "--seed", 1, "--count", 150, "--seconds", RUN_S],
    ["cancels.py", "--seed", 1, "--count", 1000],
], ids=lambda args: " ".join(map(str, args[:3])))
def test_a_short_run(program):
    code, printed = run(*program)
    assert code == 0, printed[-4000:]

"""What bench/levels and bench/overload have in common: a bed that goes away again, turns, reports."""
import contextlib
import os
import resource
import signal
import subprocess
import sys
import time

import targets

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
STARTED = time.monotonic()


def say(text):
    print(f"bench: {time.monotonic() - STARTED:4.0f} s  {text}", file=sys.stderr, flush=True)


def rounds(runs, things):
    """Each thing once per round; the order turns, and every other round goes backwards."""
    for r in range(runs):
        order = things[r % len(things):] + things[:r % len(things)]
        yield from order[::-1] if r % 2 else order


@contextlib.contextmanager
def bed(name, programs=("pgweir", "levels"), **more):
    """A primary and a replica in a fresh directory, with the programs to be measured."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for variable in [n for n in os.environ if n.startswith("PGWEIR_")]:
        del os.environ[variable]  # they would configure pgweir
    scratch = subprocess.run(["bash", "-c", f". scripts/lib; scratch_dir bench{name}"], cwd=ROOT, stdout=subprocess.PIPE,
                             text=True, check=True).stdout.strip()
    made = None
    try:
        made = targets.Bed(ROOT, scratch, programs=programs, **more)
        yield made
    finally:
        if made:
            made.stop()
        else:
            subprocess.run(["scripts/cluster", "stop", f"{scratch}/cluster"], cwd=ROOT, check=False)


def stop(some):
    for target in some:
        target.stop()


def left_over(made):
    """What each pgweir says at its end about things still in flight: {target: line}, the good ones left out."""
    left = {}
    for target in made.targets:
        target.stop()
        if target.name.startswith("pgweir"):
            last = [line for line in target.log_text().splitlines() if "process.stopped" in line]
            if not last or any(not field.endswith("=0") for field in last[0].split() if "=" in field):
                left[target.name] = last[0] if last else f"exit code {target.process.returncode}: " + target.log_text()[-300:]
    return left


def left_lines(left):
    return [f"- **Left at the end of {name}**: `{line}`" for name, line in left.items()] + [""] * bool(left)


def write(text, name, o):
    out = o.out or f"{ROOT}/bench/results/{time.strftime('%Y-%m-%d-%H%M')}{name}{'-quick' if o.quick else ''}.md"
    os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
    with open(out, "w", encoding="utf-8") as f:
        f.write(text)
    print(text)
    say(f"written to {out}")

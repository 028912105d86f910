"""Fuzz whatever reads bytes from outside: `python tools/fuzz.py --runs 1000000` (or `make fuzz RUNS=1000000`).

Each target of tests/fuzz/targets.py gets so many inputs from atheris, which looks for new branches of the Python code,
and a hundredth of that from Hypothesis, which builds structures; all of them from Hypothesis where atheris is not
installed. A target runs in a process of its own. Its corpus and what it finds are kept in build/fuzz. Exit status 1
where there is a finding; its input is named, and becomes a test.
"""

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[1]
PLACE: Final = ROOT / "build" / "fuzz"
HYPOTHESIS_SHARE: Final = 100
"""One input of Hypothesis for so many of atheris: it makes some 500 a second."""
BATCH: Final = 10_000
"""Inputs of one run of Hypothesis, which remembers each."""
HANGS_AFTER: Final = 20
"""Seconds after which libFuzzer ends an input that does not come back; one that takes 1 s is a finding already."""
TARGETS: Final = (
    "frame", "control-from-client", "control-from-daemon", "bell-from-client", "bell-from-daemon", "snapshot", "config",
)  # fmt: skip


def by_hypothesis(name: str, runs: int) -> None:
    """Feed a target by Hypothesis; says in JSON how it went."""
    from hypothesis import HealthCheck, Phase, given, seed, settings

    from tests.fuzz.strategies import inputs
    from tests.fuzz.targets import TARGETS, examine

    target, count, slowest = TARGETS[name], 0, 0.0
    outcomes: set[str] = set()
    began = time.monotonic()
    while count < runs:

        @seed(random.SystemRandom().getrandbits(32))
        @settings(
            max_examples=min(BATCH, runs - count), deadline=None, database=None, print_blob=True,
            suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink),
        )  # fmt: skip
        @given(data=inputs(name, target))
        def batch(data: bytes) -> None:
            nonlocal count, slowest
            count += 1
            at = time.thread_time()
            outcomes.add(examine(target, data))
            slowest = max(slowest, time.thread_time() - at)

        before = count
        batch()
        if count == before:
            break
    say(
        inputs=count,
        per_second=round(count / (time.monotonic() - began)),
        slowest_ms=round(slowest * 1e3, 1),
        peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        outcomes=len(outcomes),
    )


def by_atheris(name: str, runs: int) -> None:
    """Feed a target by atheris; libFuzzer ends the process and says how it went."""
    import atheris

    atheris.enabled_hooks.add("str")  # its hook for regular expressions breaks `match` with a position
    with atheris.instrument_imports(include=["supplierd", "tomllib"]):
        from tests.fuzz.targets import TARGETS, examine

    target, place = TARGETS[name], PLACE / name
    (place / "corpus").mkdir(parents=True, exist_ok=True)
    (place / "found").mkdir(exist_ok=True)
    for number, data in enumerate(target.seeds):
        (place / "corpus" / f"seed-{number:03}").write_bytes(data)
    words = place / "words"
    words.write_text("".join(f'"{word}"\n' for word in target.words), encoding="ascii")

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        changed = target.mutate(data, chance) if chance.randrange(2) else atheris.Mutate(data, max_size)
        return bytes(changed[:max_size])

    slowest = 0.0

    def run(data: bytes) -> None:
        nonlocal slowest
        began = time.thread_time()
        examine(target, data)
        took = time.thread_time() - began
        if took > slowest:
            slowest = took
            sys.stderr.write(f"slowest: {took * 1e3:.1f} ms\n")

    options = [
        f"-runs={runs}", f"-max_len={target.max_bytes}", f"-timeout={HANGS_AFTER}", f"-dict={words}",
        f"-artifact_prefix={place / 'found'}/", "-rss_limit_mb=1024", "-print_final_stats=1", "-reload=0",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(place / "corpus")], run, custom_mutator=mutate)
    atheris.Fuzz()


def figures_of_atheris(text: str, seconds: float) -> dict[str, Any] | None:
    """What libFuzzer said at its end; None where it did not come to that."""
    stats = dict(re.findall(r"stat::(\w+):\s+(\d+)", text))
    slowest = re.findall(r"slowest: ([\d.]+) ms", text)
    corpus = re.findall(r"cov: (\d+) ft: \d+ corp: (\d+)", text)
    if not stats or not corpus or not slowest or "Done " not in text:
        return None
    inputs = int(stats["number_of_executed_units"])
    return {
        "inputs": inputs,
        "per_second": round(inputs / seconds),
        "slowest_ms": float(slowest[-1]),
        "peak_mb": int(stats["peak_rss_mb"]),
        "branches": int(corpus[-1][0]),
        "corpus": int(corpus[-1][1]),
    }


def say(**words: object) -> None:
    """One line of JSON."""
    sys.stdout.write(json.dumps(words) + "\n")


def play(name: str, engine: str, runs: int) -> dict[str, Any] | None:
    """One target by one engine, in a process of its own: its figures, or None where it found something."""
    began = time.monotonic()
    command = [sys.executable, __file__, "--only", name, "--engine", engine, "--runs", str(runs), "--here"]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, errors="replace", cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    figures = None
    if done.returncode == 0:
        seconds = time.monotonic() - began
        figures = figures_of_atheris(done.stderr, seconds) if engine == "atheris" else json.loads(done.stdout)
    if figures is None:
        sys.stderr.write(f"{name}, {engine}: status {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}\n")
    return figures


def main() -> int:
    """Fuzz what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000, help="inputs for each target (default 100000)")
    parser.add_argument("--only", nargs="+", choices=TARGETS, default=TARGETS, help="targets (default: all)")
    parser.add_argument("--engine", choices=("both", "atheris", "hypothesis"), default="both")
    parser.add_argument("--here", action="store_true", help="in this process, one target by one engine")
    options = parser.parse_args()
    if options.here:
        {"atheris": by_atheris, "hypothesis": by_hypothesis}[options.engine](options.only[0], options.runs)
        return 0
    if options.engine == "both" and find_spec("atheris") is None:
        sys.stderr.write("atheris is not installed, which has no wheel for some Pythons: Hypothesis alone\n")
        options.engine = "hypothesis"
    plan = {"both": [("atheris", 1), ("hypothesis", HYPOTHESIS_SHARE)]}.get(options.engine, [(options.engine, 1)])
    sys.stdout.write("| target | engine | inputs | inputs/s | slowest | peak RSS | branches | corpus | outcomes |\n")
    sys.stdout.write("|---|---|---|---|---|---|---|---|---|\n")
    findings = 0
    for name in options.only:
        for engine, share in plan:
            f = play(name, engine, max(options.runs // share, 1))
            findings += f is None
            row = "FOUND, see above" if f is None else (
                f"{f['inputs']:,} | {f['per_second']:,} | {f['slowest_ms']} ms | {f['peak_mb']} MB "
                f"| {f.get('branches', '–')} | {f.get('corpus', '–')} | {f.get('outcomes', '–')}"
            )  # fmt: skip
            sys.stdout.write(f"| {name} | {engine} | {row} |\n")
            sys.stdout.flush()
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())

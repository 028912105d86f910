"""Chaos: `make chaos SECONDS=… SEED=…`, or `python -m tests.chaos --seconds 60 --seed 7`.

Faults hit real processes, one after the other, for that long. Exit status 1 if anything did not hold. `--faults` names
those to be struck, each once, in this order. As root, the run takes a world of its own, and so has more to strike with.
"""

import argparse
import json
import random
import sys
import time
from itertools import takewhile
from typing import Final

from tests.chaos.faults import FAULTS
from tests.chaos.run import GoneError, Run, choose, logs
from tests.chaos.stage import Stage
from tests.support import hosts
from tests.support.fixtures import short_directory

SECONDS: Final = 60.0


def main() -> int:
    """Run what the command line asks for; the exit status."""
    parser = argparse.ArgumentParser(
        "python -m tests.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"to go on for (default {SECONDS:g})")
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="of what is done (default: any)")
    parser.add_argument(
        "--faults", default="", help=f"of {' '.join(FAULTS)}: instead of chance, for so long as it takes"
    )
    options = parser.parse_args()
    reason = hosts.why_not()
    if not reason:
        hosts.go_apart(["-m", "tests.chaos", *sys.argv[1:]])
    print(f"seed {options.seed}" + (f"; on this host alone: {reason}" if reason else ""), flush=True)
    named = options.faults.split()
    unknown = [name for name in named if name not in FAULTS or (reason and FAULTS[name].apart)]
    if unknown:
        parser.error(f"these faults are not to be had: {' '.join(unknown)}")
    with short_directory() as home, Stage(home, apart=not reason) as stage:
        stage.start()
        run = Run(stage, options.seed, lambda line: print(line, flush=True))
        end = time.monotonic() + options.seconds
        try:
            run.begin()
            for name in named or takewhile(lambda _: time.monotonic() < end, choose(options.seed, not reason)):
                run.step(name)
            run.end()
        except GoneError:
            pass
        print(json.dumps({"seed": options.seed, **run.report()}, indent=2))
        if run.violations:
            print(logs(home), file=sys.stderr)
            again = f"--seconds {options.seconds:g} --seed {options.seed} --faults '{options.faults}'"
            print(f"again: python -m tests.chaos {again}", file=sys.stderr)
    return 1 if run.violations else 0


if __name__ == "__main__":
    sys.exit(main())

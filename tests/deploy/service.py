"""What the tests do with an installed service: install, look, and wait until frames flow."""

import json
from typing import Any, Final

from tests.deploy.machine import Machine
from tests.support.waiting import wait_for

CLASS_OF: Final = {
    "person-detector": "critical",
    "pose": "high",
    "optical-flow": "normal",
    "vision-language": "best_effort",
}
"""The workers of the shipped configuration."""
DAEMON: Final = "supplierd.service"
CAPTURE: Final = "supplierd-capture@cam-1.service"


def worker_unit(name: str) -> str:
    """The unit of a worker."""
    return f"supplierd-worker@{name}.service"


WORKERS: Final = [worker_unit(name) for name in CLASS_OF]


class Service:
    """The daemon, capture and workers of one machine."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def install(self, *options: str, check: bool = True) -> str:
        """Run the installer offline; what it says."""
        return self.machine.run(
            "/opt/test/checkout/deploy/install.sh",
            "--python", "/usr/bin/python3",
            "--wheelhouse", "/opt/test/wheels", *options, check=check,
        )  # fmt: skip

    def start_all(self) -> None:
        """Everything up, and every worker taking frames."""
        run = self.machine.run
        run("rm", "-rf", "/run/hang")
        run("systemctl", "reset-failed")
        run("systemctl", "start", DAEMON, CAPTURE, *WORKERS)
        self.wait_for_frames()

    def wait_for_frames(self, *names: str) -> None:
        """Each of the workers (default: all) takes frames from now on."""
        before = self.consumed()

        def taking() -> bool:
            now = self.consumed()
            return all(now[name] > before[name] for name in names or CLASS_OF)

        wait_for(taking, f"{', '.join(names or CLASS_OF)} to take frames")

    def stats(self) -> dict[str, Any]:
        """The daemon's snapshot; empty while it does not answer."""
        try:
            document: dict[str, Any] = json.loads(self.machine.run("supplierd", "stats", "--json", check=False))
        except ValueError:
            return {}
        return document

    def consumed(self) -> dict[str, int]:
        """Frames taken since the daemon's start, by worker."""
        taken = dict.fromkeys(CLASS_OF, 0)
        for worker in self.stats().get("workers", []):
            taken[worker["name"]] = sum(mailbox["consumed"] for mailbox in worker["mailboxes"])
        return taken

    def pids(self) -> dict[str, int]:
        """Main processes of capture and workers."""
        return {unit: self.machine.pid(unit) for unit in (CAPTURE, *WORKERS)}

    def hang(self, name: str) -> None:
        """Make a worker hang in its model, in every run of it, until `start_all`."""
        self.machine.run("mkdir", "--parents", "/run/hang")
        self.machine.run("touch", f"/run/hang/{name}")

"""Several processes of one command, as a launcher would start them."""

import os
import socket
from collections.abc import Callable, Sequence

from forked_commands import ForkedCommand


class TwoProcesses:
    """Two processes of one command over gloo, or ``count``."""

    def __init__(self, *arguments: str, count: int = 2, **variables: str) -> None:
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        common = {
            **variables,
            "WORLD_SIZE": str(count),
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(port),
        }
        self.processes = [
            ForkedCommand(*arguments, environment=common | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(count)
        ]

    def finish(self) -> str:
        outputs = [process.communicate()[0] for process in self.processes]
        assert [process.returncode for process in self.processes] == [0] * len(outputs), "\n".join(outputs)
        return "".join(outputs)

    def stop(self, number: int) -> None:
        for process in self.processes:
            process.send_signal(number)
        for process in self.processes:
            process.communicate()


def assert_checks_pass(file: str, checks: Sequence[Callable[[int], None]], count: int = 2, **variables: str) -> None:
    """Run a test file in several processes with these variables of the environment; it calls ``run_checks``."""
    output = TwoProcesses(file, count=count, **variables).finish()
    assert output.count("passed") == count * len(checks)


def run_checks(checks: Sequence[Callable[[int], None]]) -> None:
    """Call every check with the rank of this process."""
    for check in checks:
        print(check.__name__, flush=True)
        check(int(os.environ["RANK"]))
        print("passed", flush=True)

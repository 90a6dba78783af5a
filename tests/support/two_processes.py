"""Two processes of one command, as a launcher would start them."""

import socket
import subprocess
import sys

from child_processes import child_environment


class TwoProcesses:
    """Two processes of one command over gloo."""

    def __init__(self, *arguments: str) -> None:
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        common = {
            "WORLD_SIZE": "2",
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": str(port),
        }
        self.processes = [
            subprocess.Popen(
                [sys.executable, *arguments],
                env=child_environment() | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for rank in range(2)
        ]

    def finish(self) -> str:
        outputs = [process.communicate(timeout=300)[0] for process in self.processes]
        assert [process.returncode for process in self.processes] == [0, 0], "\n".join(outputs)
        return "".join(outputs)

    def stop(self, number: int) -> None:
        for process in self.processes:
            process.send_signal(number)
        for process in self.processes:
            process.communicate(timeout=300)

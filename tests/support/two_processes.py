"""Several processes of one command, as a launcher would start them."""

import socket

from forked_commands import ForkedCommand


class TwoProcesses:
    """Two processes of one command over gloo, or ``count``."""

    def __init__(self, *arguments: str, count: int = 2) -> None:
        with socket.socket() as probe:
            probe.bind(("localhost", 0))
            port = probe.getsockname()[1]
        common = {
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

"""A plug-in for vLLM: the weight-transfer back end ``plaudit``, which reads weights from a file or a process group.

It runs in the environment of the server, whose PYTHONPATH names the folder that contains this package.
"""


def register() -> None:
    """Register the back end. vLLM calls this once in each of its processes, sometimes twice."""
    from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

    if "plaudit" not in WeightTransferEngineFactory._registry:
        WeightTransferEngineFactory.register_engine("plaudit", "plaudit_vllm.weights", "Transfer")

"""The folder on the server's PYTHONPATH: the package in it runs in vLLM's environment, not in this one."""

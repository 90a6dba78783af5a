"""A vLLM server as the engine: it generates over HTTP, and gets the weights by vLLM's weight-transfer protocol."""

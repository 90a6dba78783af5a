"""Problems so small that every response can be listed, on which each algorithm's optimum is known exactly."""

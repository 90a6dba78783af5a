"""Distribution: the processes of a run, and how they train one model together."""

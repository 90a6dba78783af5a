"""How prompt trees become rows of tokens: one file and one line of the registry for each layout."""

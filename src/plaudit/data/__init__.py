"""Files and hub datasets become the same few row kinds, validated with file, line and reason."""

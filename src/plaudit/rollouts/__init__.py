"""Generation engines behind one small protocol."""

"""RolloutSampler engines behind one small protocol."""

"""Reward sources behind one small protocol, and their weighted composition."""

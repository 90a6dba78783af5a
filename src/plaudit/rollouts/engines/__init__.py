"""The engines that generate responses."""

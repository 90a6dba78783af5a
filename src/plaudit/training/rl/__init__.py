"""Reinforcement learning: collect rollouts, turn scores into advantages, learn in packed minibatches."""

"""Reinforcement learning: sample and score responses, estimate advantages, train on minibatches."""

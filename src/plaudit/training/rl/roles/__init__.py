"""The roles of reinforcement learning (policy, reference, value) and how they share weights.

``separate``: a model each; the reference of a policy with adapters is that policy with its adapters off.
``shared``: a value head on the policy's trunk.
``adapters``: one frozen base; policy and value (and the reward, see ``adapter_reward``) are low-rank adapters on it,
and the reference is the base with adapters off.
"""

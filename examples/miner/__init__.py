"""A miner that learns its way through a cave, taught by several game servers at once.

lorestream up                                          # in another terminal
python -m examples.miner --picture miner.svg

cave.py      the grid, an episode, Q-learning; pure
learn.py     the game servers: one Q-table in Lorestream, rewards as records, the policy, the miner's state
picture.py   the rewards over the episodes and the learned way, as SVG
"""

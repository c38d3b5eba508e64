"""Programs that use Lorestream as a game would. Run one from a checkout: `python -m examples.miner`."""

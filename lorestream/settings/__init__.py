"""All settings: environment variables with the prefix LORESTREAM_, nested by two underscores.

    load.py      Settings; reads environment, `.env` and files of secrets, checks combinations of values
    backends.py  one model for each kind of log, store, cache and embedder; limits, snapshots
    aliases.py   other names of settings, such as QDRANT_URL, and secrets in files
    unread.py    warnings about variables that have no effect: MONGODB_URI of other designs, misspelt LORESTREAM_ ones

A typical call:

    settings = load_settings(data_dir=Path("data"))  # raises Misconfigured, with the variable at fault
    settings.store.kind  # "edge"
"""

from lorestream.settings.aliases import ALIASES
from lorestream.settings.backends import EmbedderSettings
from lorestream.settings.load import DAY_S, Settings, default_models_dir, load_settings
from lorestream.settings.unread import warn_of_unread

__all__ = [
    "ALIASES",
    "DAY_S",
    "EmbedderSettings",
    "Settings",
    "default_models_dir",
    "load_settings",
    "warn_of_unread",
]

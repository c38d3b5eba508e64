"""Every setting, once: environment variables with the prefix LORESTREAM_, nested by two underscores.

`load.py` reads them (environment, `.env`, files of secrets) and checks what no single value can tell;
`backends.py` has one model per kind of log, store, cache and embedder; `aliases.py` has the names of older documents;
`unread.py` warns of those of their names that have no effect.

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

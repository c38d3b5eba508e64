"""Verbs for set-up: config show, model prepare, mod install, plan.

    settings.py      lorestream config show
    model.py         lorestream model prepare
    plan.py          lorestream plan
    luanti_files.py  which configuration file a server reads
    luanti.py        lorestream mod install, and the checks of a world for `lorestream doctor`

A typical call:

    for setting in settings.effective(os.environ):
        print(setting.name, setting.value, setting.origin)  # LORESTREAM_TTL_DAYS 30 default
"""

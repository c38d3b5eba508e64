"""Verbs on webhooks: `lorestream hooks create`, `ls`, `rm`, `resume`, `test`.

commands.py  the verbs and their options
calls.py     what they do
"""

"""Requests to webhooks over HTTP.

post.py       HttpWebhookPost, the WebhookPost
addresses.py  which addresses of the network it may reach
"""

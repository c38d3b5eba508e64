"""Who may do what, and how often.

    key_file        KeyScope; the API key file: its format, and creating, rotating and revoking keys
    authentication  Principal; authenticators: by the key file, or without keys
    rate_limits     token buckets per API key and per agent

A check of one request:

    authenticator = ApiKeyAuthenticator(Path("keys.json"), clock)
    limits = RateLimits(queries_per_s=50)

    principal = authenticator.authenticate(request.headers.get("Authorization"))   # raises Unauthenticated
    principal.require(KeyScope.QUERY)                                               # raises Forbidden
    await limits.count_queries(principal, agents=["npc:woodcutter-1"])              # raises RateLimited
"""

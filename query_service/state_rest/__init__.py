"""The HTTP routes that read state.

routes.py           one method per operation
entity.py           the read of one version of a document, alone or in a batch
params.py           from the decoded parameters of a read to what they mean
policy_response.py  the responses of a policy: its bytes, or that the caller has them already
schemas.py          request and response types
examples.py         one example call per operation, for the documentation
"""

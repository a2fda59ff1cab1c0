"""Are the files that the ledger has as stored still there, and as they were?

It reads, and changes nothing: neither the ledger, nor the workspace, nor a store.
"""

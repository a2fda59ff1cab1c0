"""One spider a resource: which calls, which rows, which items. Behaviour lives in base.py."""

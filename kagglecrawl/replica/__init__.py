"""The replica: a seeded, deterministic Kaggle on loopback.

The crawler never imports it, and it never imports the crawler, so that it is an independent truth.
`Replica` (in `server`) serves a `World`; `scrapy replica` is its command line.
"""

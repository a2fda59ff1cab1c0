"""Kaggle's wire protocol: what is asked, what comes back, and what an answer means.

Nothing here knows of spiders, pipelines or files; of Scrapy it uses ``Request`` alone.
"""

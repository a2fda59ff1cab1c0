"""Scrapy extensions: what a person sees while a crawl runs, and when it ends."""

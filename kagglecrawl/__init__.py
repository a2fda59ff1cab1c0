"""kagglecrawl: a Scrapy project that harvests Kaggle into JSONL and S3."""

__version__ = "0.1.0"

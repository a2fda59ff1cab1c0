"""What carries a request: Scrapy's downloader, or the official client in a child process."""

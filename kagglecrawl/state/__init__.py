"""What a crawl has to do and has done: the scheduler, and the counts of every resource."""
